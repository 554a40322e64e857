"""A training run in a directory: step plan, checkpoints, EMA snapshots, metrics, rollback and resume.

It handles tensors, steps and files. Data, evaluation and display are passed in as functions.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from langevin.files import own_folder
from langevin.methods.method import Method
from langevin.training import checkpoint
from langevin.training.best import keep_if_best
from langevin.training.calibration import Calibration, calibrate, follow, set_threads, thread_policy
from langevin.training.counters import CLOCKED, checked
from langevin.training.distributed import World
from langevin.training.loop import (
    REAL_TIME,
    BatchFn,
    Clock,
    Diverged,
    StepReport,
    TrainingConfig,
    TrainingState,
    fit,
)
from langevin.training.metrics import Metrics, evaluated, rounded
from langevin.training.plan import StepPlan, pace, replanned
from langevin.training.snapshots import snapshot
from langevin.training.trend import LossTrend
from langevin.training.writer import writer_of

EVALUATING = 0.10  # maximum fraction of a time budget for evaluations, the last one excepted


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The state of a run, for a progress display."""

    step: int
    total: int
    loss: float
    samples_per_second: float
    seconds_left: float
    skipped: int


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """What the caller does during training.

    Args:
        progress: called after every step.
        measure: called with the step at each evaluation; returns values for metrics.jsonl; `val_loss` are the held-out
            losses, by noise level, whose mean says which weights `training.keep_best` keeps.
        preview: called with the step before training and at each evaluation; draws samples. Evaluations that would take
            more than a tenth of a time budget are left out, except the last one.
        log: called with a line of text for the user.
        stop: called after every step; whether to save and return before the end of the run.
        record: called with each line of metrics.jsonl after it is written.
        saved: called with the step after a checkpoint was written.
        requests: called after every step; what is to be done now: "save" a checkpoint, draw a preview ("sample").
    """

    progress: Callable[[Progress], None] = lambda progress: None
    measure: Callable[[int], Mapping[str, Any]] = lambda step: {}
    preview: Callable[[int], None] = lambda step: None
    log: Callable[[str], None] = lambda line: None
    stop: Callable[[], bool] = lambda: False
    record: Callable[[Mapping[str, Any]], None] = lambda line: None
    saved: Callable[[int], None] = lambda step: None
    requests: Callable[[], Collection[str]] = lambda: ()


def train(
    directory: Path,
    state: TrainingState,
    batches: BatchFn,
    method: Method,
    config: TrainingConfig,
    *,
    hooks: Hooks,
    world: World,
    num_evals: int = 10,
    calibration: Calibration | None = None,
    clock: Clock = REAL_TIME,
) -> None:
    """Train to the end of the run or until `hooks.stop`, from the newest complete checkpoint if there is one.

    Args:
        num_evals: evaluations at equal parts of the run.
        calibration: from which a run of `config.minutes` is planned; None measures it, unless a checkpoint has a plan. The
            plan is revised when the speed of steps changes.

    Raises:
        Diverged: losses that are not finite, or rise far above their best, or a fault that the method reports, persisted
            through three rollbacks.
        OSError: a checkpoint could not be written; earlier ones are intact.
    """
    threads = torch.get_num_threads()
    session = _Session(
        directory, state, batches, method, config, hooks=hooks, world=world, num_evals=num_evals, clock=clock
    )
    try:
        session.run(calibration)
    finally:
        set_threads(threads)


def resume(root: Path, state: TrainingState, hooks: Hooks) -> bool:
    """Load the newest complete checkpoint into the state; returns whether there is one.

    Raises:
        ValueError: there are checkpoints, but none can be read; a fresh start would overwrite them."""
    newest, complaints = checkpoint.load_latest(root)
    if newest is None and complaints:
        lines = "\n".join(complaints)
        raise ValueError(
            f"no checkpoint in {root} can be read, and starting again from step 0 would lose them.\n{lines}"
        )
    for line in complaints:
        hooks.log(line)
    if newest is not None:
        if "drawn_ema" in newest.state:
            raise ValueError(
                f"{root.parent} was pulled, with the weights that it draws with alone, so it cannot be resumed: begin a "
                f"new run from them, by init_from={root.parent}"
            )
        state.load_whole(newest.groups, newest.state)
        hooks.log(f"resuming from step {state.step}")
    return newest is not None


class _Session:
    """One call of `train`."""

    def __init__(
        self, directory: Path, state: TrainingState, batches: BatchFn, method: Method, config: TrainingConfig,
        *, hooks: Hooks, world: World, num_evals: int, clock: Clock,
    ) -> None:  # fmt: skip
        self.directory, self.root, self.file = directory, directory / "checkpoints", directory / "metrics.jsonl"
        self.state, self.batches, self.method, self.config = state, batches, method, config
        self.hooks, self.world, self.num_evals, self.clock = hooks, world, num_evals, clock
        self.metrics: Metrics | None = None
        self.terms = dict[str, float]()  # the last value of each term
        self.last_saved = -1  # step of the last checkpoint
        self.last_tick = self.last_save = clock.wall()
        self.last_evaluation = 0.0  # seconds that it took
        self.scheduled: StepPlan | None = None  # the plan that eval_steps and snapshot_steps follow
        self.eval_steps, self.snapshot_steps = set[int](), set[int]()
        self.takes_part = state.placement.takes_part(world)
        self.writer = writer_of(state, world)

    def run(self, calibration: Calibration | None) -> None:
        state, config = self.state, self.config
        if self.world.first:
            own_folder(self.directory, "checkpoints")
        resumed = resume(self.root, state, self.hooks)
        self._require_equal_states()
        device = next(p.device for player in state.players.values() for p in player.module.parameters())
        start = state.threads or (calibration.threads if calibration else None)
        self.threads = thread_policy(config, device, start=start)
        state.threads = self.threads.count
        if config.steps is not None:
            state.plan = StepPlan.of(config.steps)
        elif state.plan is None:
            state.elapsed += calibration.spent if calibration else 0.0
            calibration = calibration or calibrate(
                state, self.batches, self.method, config, threads=self.threads, world=self.world, clock=self.clock
            )
            state.plan = StepPlan.of(calibration.steps)
        self.said_total = self._plan.total  # steps of the whole run, as the user was last told
        self._schedule()
        missed = state.step in self.eval_steps and not evaluated(self.file, state.step)
        if resumed and self.takes_part and self._decided(missed and self._evaluation_fits()):
            self.metrics = Metrics(self.file, after=state.step) if self.world.first else None
            self._evaluate()
        self.stopped = False
        while state.step < self._plan.total and not self.stopped:
            self.metrics = Metrics(self.file, after=state.step) if self.world.first else None
            try:
                self._train()
            except Diverged as failure:
                self._roll_back(failure)
        self.writer.settle()

    def _decided(self, thing: Any) -> Any:
        """The first rank's decision, where several take part: clocks and files may differ."""
        return self.state.placement.decided(self.world, thing)

    @property
    def _plan(self) -> StepPlan:
        assert self.state.plan is not None
        return self.state.plan

    def _require_equal_states(self) -> None:
        counters = {name: value for name, value in self.state.counters().items() if name not in CLOCKED}
        if not self.world.all_equal(counters):
            raise ValueError(
                f"process {self.world.rank} is at step {self.state.step} and another process is not in the same state: "
                f"all of them must read the same checkpoints, in {self.root}"
            )

    def _schedule(self) -> None:
        """Place evaluations and snapshots at equal parts of the run's progress, by the current plan."""
        if self.scheduled is not self._plan:
            self.scheduled = self._plan
            self.eval_steps = self._plan.steps_at(self.num_evals)
            self.snapshot_steps = self._plan.steps_at(self.config.snapshots)

    def _train(self) -> None:
        """Train to the end of the plan; raises `Diverged` when the run has to be rolled back."""
        state, world = self.state, self.world
        if self.takes_part and state.step == 0 and state.restarts == 0:
            self._record("plan", steps=self._plan.total)
            self._save()
            self.hooks.log(f"previews of samples: {self.directory / 'samples'}")
            self._call(self.hooks.preview)
        for report in fit(state, self.batches, self.method, self.config, world=world, clock=self.clock):
            self._adapt_to_speed(report)
            self._schedule()
            if state.step in self.eval_steps | self.snapshot_steps and not state.finite(world):
                raise Diverged(f"after step {state.step} weights or optimizer state are not finite")
            if state.loss.has_risen(self._plan.total):
                raise Diverged(
                    f"the loss rose from {state.loss.best:.3g} to {state.loss.smooth:.3g} at step {state.step}"
                )
            fault = state.faults.lasting(self._plan.total)
            if fault is not None:
                raise Diverged(f"step {state.step}: {fault}")
            if self.takes_part:
                self._after_step(report)
                self._fulfil(self._decided(self.hooks.requests() if world.first else ()))
            if world.any(self.hooks.stop() or self.writer.failed):
                self.writer.settle()
                self.stopped = True
                if self.takes_part and self.last_saved != state.step and state.finite(world):
                    self._save()
                self.writer.settle()
                world.barrier()  # a process that ends would take the others with it
                return

    def _after_step(self, report: StepReport) -> None:
        """Show and log the step; save, evaluate and snapshot the EMAs when due."""
        state, step = self.state, self.state.step
        self.terms |= report.terms
        each = pace(state.recent)
        speed = self.config.batch / each
        self.hooks.progress(
            Progress(
                step=step, total=self._plan.total, loss=state.loss.smooth, samples_per_second=speed,
                seconds_left=(self._plan.total - step) * each, skipped=state.skipped,
            )
        )  # fmt: skip
        if self.metrics and (step % 20 == 0 or step in self.eval_steps or not report.applied):
            terms = {name: rounded(value) for name, value in self.terms.items()}
            self._write(
                step=step, loss=rounded(report.loss), smooth_loss=rounded(state.loss.smooth),
                norm=rounded(report.norm), lr_factor=report.lr_factor, skipped=state.skipped, samples=state.samples_seen,
                seconds=round(state.seconds, 1), samples_per_second=round(speed, 2), **({"terms": terms} if terms else {}),
            )  # fmt: skip
        if step in self.snapshot_steps:
            snapshot(self.directory, state, self.world)
        if step in self.eval_steps:
            if report.applied or step == self._plan.total:
                self._save()
            if self._decided(self._evaluation_fits()):
                self._evaluate()
        elif self._decided(self._is_late()) and report.applied and state.finite(self.world):
            self._save()

    def _is_late(self) -> bool:
        """Whether the last checkpoint is older than `checkpoint_minutes`."""
        return self.clock.wall() - self.last_save > 60 * self.config.checkpoint_minutes

    def _fulfil(self, requests: Collection[str]) -> None:
        """Do what was requested. It changes no weights, and counts as no evaluation."""
        step, before = self.state.step, (self.last_evaluation, self.state.evaluating)
        if "save" in requests and self.state.finite(self.world):
            self._save()
            self.hooks.log(f"step {step}: saved, as requested")
        if "sample" in requests:
            self._call(self.hooks.preview)
            self.last_evaluation, self.state.evaluating = before
            self.hooks.log(f"step {step}: sampled, as requested")

    def _adapt_to_speed(self, report: StepReport) -> None:
        """Update the elapsed time; change thread count and step plan if the time per step has changed."""
        state, now = self.state, self.clock.wall()
        state.elapsed += now - self.last_tick
        self.last_tick = now
        if follow(self.threads, report):
            self._record("threads", threads=self.threads.count)
        if not self.threads.trying and self.threads.count != state.threads:
            threads = "one thread" if self.threads.count == 1 else f"{self.threads.count} threads"
            self.hooks.log(f"step {state.step}: {threads} from here on, as steps are fastest with this count now")
            state.threads = self.threads.count
        if self.config.steps is not None or not self._plan.to_check(state.step):
            return
        assert self.config.minutes is not None
        budget = 60 * self.config.minutes - self.last_evaluation  # one more evaluation follows the last step
        planned = replanned(self._plan, step=state.step, budget=budget, elapsed=state.elapsed, recent=state.recent)
        planned = self.world.broadcast(planned)  # the first process decides
        if planned is not None:
            if abs(planned.total - self.said_total) > 0.25 * self.said_total:
                self.hooks.log(
                    f"step {state.step}: a step takes {pace(state.recent):.3g} s now, so the run has {planned.total} steps "
                    f"and not {self.said_total}"
                )
                self.said_total = planned.total
            state.plan = planned
            self._record("plan", steps=planned.total)

    def _record(self, event: str, **values: Any) -> None:
        self._write(step=self.state.step, event=event, **values)

    def _write(self, **values: Any) -> None:
        if self.metrics:
            self.metrics.write(**values)
            self.hooks.record(values)

    def _save(self) -> None:
        step = self.state.step
        kept, evals = self.config.keep_checkpoints, {0, *self.eval_steps}

        def then() -> None:
            checkpoint.prune(self.root, keep=kept, step=step, eval_steps=evals)
            self.hooks.saved(step)

        self.writer.save(self.root, then=then, whole=step == self._plan.total)
        self.last_save, self.last_saved = self.clock.wall(), step

    def _evaluate(self) -> None:
        """Measure the held-out loss and draw a preview."""

        def measure(step: int) -> None:
            values = self.hooks.measure(step)
            if self.config.keep_best and values.get("val_loss"):  # before the line that says that it was measured
                keep_if_best(self.root, self.state, fmean(values["val_loss"]), self.world)
            if values:
                self._write(step=step, **values)

        self._call(measure, self.hooks.preview)

    def _evaluation_fits(self) -> bool:
        """Whether an evaluation fits into the time budget; the last one always does. Evaluations change no weights."""
        if self.config.steps is not None or self.state.step == self._plan.total:
            return True
        assert self.config.minutes is not None
        return self.state.evaluating + self.last_evaluation <= EVALUATING * 60 * self.config.minutes

    def _call(self, *hooks: Callable[[int], None]) -> None:
        """Call hooks with the step, and time them. Their errors are logged and do not stop training. One that fails on a
        rank is the last on all that take part, which evaluate together."""
        step, start = self.state.step, self.clock.wall()
        for hook in hooks:
            self.world.beat()
            failed = False
            try:
                hook(step)
            except (ValueError, OSError) as error:
                failed = True
                self.hooks.log(f"step {step} could not be evaluated: {error}")
            if not self.state.placement.holds(self.world, not failed):
                break
        self.last_evaluation = self.clock.wall() - start
        self.state.evaluating += self.last_evaluation

    def _roll_back(self, failure: Diverged) -> None:
        """Return to the newest checkpoint of an evaluation, or to the one before it if the run was rolled back already.

        Checkpoints of `checkpoint_minutes` are not used: their steps depend on the clock, and a run that was killed and
        resumed must roll back to the same step. Later checkpoints are removed and the rolled-back state is saved, so that
        a kill cannot undo the rollback."""
        state = self.state
        self.writer.settle()
        self.world.barrier()  # the first process has written what all of them read
        restarts, skipped, elapsed, evaluating = state.restarts + 1, state.skipped, state.elapsed, state.evaluating
        index = 0 if state.restarts == 0 else 1
        candidates = [p for p in checkpoint.steps(self.root) if checkpoint.step_of(p) in {0, *self.eval_steps}]
        complete = [path for path in candidates if checkpoint.is_complete(path)]
        complete = [path for path in complete if not _in_trouble(path)] or complete[-1:]
        if restarts > 3 or not complete:
            raise Diverged(f"{failure}; lower the learning rate (training.optimizer.lr) or check the data") from failure
        saved, plan = checkpoint.load(complete[min(index, len(complete) - 1)]), state.plan
        state.load_whole(saved.groups, saved.state)
        state.plan = plan if self.config.steps is not None else state.plan
        state.restarts, state.consecutive_skips, state.skipped = restarts, 0, skipped
        state.elapsed, state.evaluating = elapsed, evaluating
        self._schedule()
        self.hooks.log(f"{failure}: back to step {state.step}, with new randomness and half the learning rate")
        self.world.barrier()  # all processes have read the checkpoints that the first one now changes
        if self.world.first:
            checkpoint.remove_after(self.root, state.step)
        if self.takes_part:
            self.writer.save(self.root, then=lambda: None, whole=True)
        self.last_saved = state.step
        self.world.barrier()


def _in_trouble(path: Path) -> bool:
    """Whether the loss was far above its best, or a fault held, when a checkpoint was saved."""
    saved = checked(checkpoint.load(path, only=()).state)
    risen = saved.get("loss") is not None and LossTrend.from_json(saved["loss"]).high > 0
    return risen or any(saved.get("faults", {}).values())
