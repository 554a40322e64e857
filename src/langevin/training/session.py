"""A training run in a directory: calibration, checkpoints, snapshots, metrics, going back, coming back.

It knows tensors, steps and files; what the data is and how it is shown comes in as functions.
"""

import json
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from langevin.methods.diffusion import Method
from langevin.training import checkpoint
from langevin.training.distributed import World
from langevin.training.loop import Diverged, Read, StepReport, TrainingConfig, TrainingState, fit
from langevin.training.snapshots import snapshot

RESERVE = 0.93  # share of a time budget that steps may fill; the rest is for sheets, held-out loss and checkpoints


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands: for the live line."""

    step: int
    total: int
    loss: float
    images_per_second: float
    seconds_left: float
    skipped: int


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """What the caller does along the way.

    Args:
        progress: after every step.
        measure: at a few points of the run, figures to write down (held-out loss); called with the step.
        sheet: at the same points, draw samples; called with the step.
        say: one line worth reading.
    """

    progress: Callable[[Progress], None] = lambda progress: None
    measure: Callable[[int], Mapping[str, Any]] = lambda step: {}
    sheet: Callable[[int], None] = lambda step: None
    say: Callable[[str], None] = lambda line: None


class Metrics:
    """`metrics.jsonl`: one JSON object a line, appended; lines after the step of a resume are dropped first."""

    def __init__(self, path: Path, *, after: int = 0) -> None:
        self.path = path
        self._kept: list[dict[str, Any]] = []
        if path.exists():
            self._kept = [line for line in read_metrics(path) if line.get("step", 0) <= after]
            checkpoint.write_atomic(path, "".join(json.dumps(line) + "\n" for line in self._kept).encode())

    def last(self, name: str) -> float | None:
        """The newest figure of that name among the lines that were there at the start."""
        return next((line[name] for line in reversed(self._kept) if line.get(name) is not None), None)

    def write(self, **values: Any) -> None:
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")
        except OSError as error:
            raise checkpoint.explain(error, self.path) from error


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a metrics file; a line that a killed process left half-written is skipped."""
    lines: list[dict[str, Any]] = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines


def calibrate(
    state: TrainingState, read: Read, method: Method, config: TrainingConfig, *, world: World
) -> tuple[int, float]:
    """Turn `config.minutes` into a number of steps by timing real ones; the state is left as it was.

    Returns:
        steps, and seconds a step.
    """
    begin = time.perf_counter()
    assert config.minutes is not None
    budget = 60 * config.minutes
    groups = {g: {n: t.detach().clone() for n, t in tensors.items()} for g, tensors in state.groups().items()}
    counters = state.counters()
    times: list[float] = []
    mark = time.perf_counter()
    for _ in fit(state, read, method, replace(config, patience=10**9), until=64, total=10**6, world=world):
        times.append(time.perf_counter() - mark)
        mark = time.perf_counter()
        if world.share(len(times) >= 4 and mark - begin > 0.03 * budget):  # all processes stop at the same step
            break
    state.load(groups, counters)
    seconds = statistics.median(times[1:] or times)
    left = RESERVE * budget - (time.perf_counter() - begin)
    return world.share((max(1, int(left / seconds)), seconds))


def train(
    directory: Path,
    state: TrainingState,
    read: Read,
    method: Method,
    config: TrainingConfig,
    *,
    hooks: Hooks,
    world: World,
    points: int = 10,
) -> None:
    """Run to `config.steps`, from the newest whole checkpoint in `directory` if there is one.

    Raises:
        Diverged: non-finite steps persisted through three returns to a checkpoint.
        OSError: a checkpoint could not be written; earlier ones are intact.
    """
    total = config.steps
    assert total is not None, "a time budget is turned into steps before training starts"
    root = directory / "checkpoints"
    if resume(root, state, hooks) and world.first and state.step in _marks(total, points):
        _look_again(directory / "metrics.jsonl", state.step, hooks)
    if not world.agree(state.counters() | {"seconds": 0}):
        raise ValueError(
            f"process {world.rank} would go on from step {state.step} and another from elsewhere: "
            f"all of them need the same checkpoints, in {root}"
        )
    while state.step < total:
        metrics = Metrics(directory / "metrics.jsonl", after=state.step) if world.first else None
        try:
            _stretch(directory, state, read, method, config, hooks, world, metrics, total, points)
        except Diverged as trouble:
            _go_back(root, state, hooks, trouble, _marks(total, points), world)


def resume(root: Path, state: TrainingState, hooks: Hooks) -> bool:
    """Load the newest whole checkpoint into the state, if there is one.

    Raises:
        ValueError: there are checkpoints, and none of them can be read: starting anew would lose the run."""
    found, complaints = checkpoint.load_latest(root)
    if found is None and complaints:
        told = "\n".join(complaints)
        raise ValueError(
            f"no checkpoint in {root} can be read, and starting again from step 0 would lose them.\n{told}"
        )
    for line in complaints:
        hooks.say(line)
    if found is not None:
        state.load(found.groups, found.state)
        hooks.say(f"resuming from step {state.step}")
    return found is not None


def _go_back(root: Path, state: TrainingState, hooks: Hooks, trouble: Diverged, marks: set[int], world: World) -> None:
    """To the newest checkpoint at a mark, and to the one before it if the run went back already.

    Checkpoints saved by the clock are no marks: a run that was killed and resumed must go back to the same step. What
    lies after it is taken away, and the return itself is saved, so that it too survives a kill."""
    restarts, skipped = state.restarts + 1, state.skipped
    wanted = 0 if state.restarts == 0 else 1
    safe = [p for p in checkpoint.steps(root) if checkpoint.step_of(p) in {0, *marks} and checkpoint.is_whole(p)]
    if restarts > 3 or not safe:
        raise Diverged(f"{trouble}; lower the learning rate (training.optimizer.lr) or check the data") from trouble
    found = checkpoint.load(safe[min(wanted, len(safe) - 1)])
    state.load(found.groups, found.state)
    state.restarts, state.in_a_row, state.skipped = restarts, 0, skipped
    hooks.say(f"{trouble}: back to step {state.step}, with new randomness and half the learning rate")
    world.wait()  # all have read what the first now changes
    if world.first:
        checkpoint.remove_after(root, state.step)
        checkpoint.save(root, state.step, state.groups(), state.counters())
    world.wait()


def _stretch(
    directory: Path,
    state: TrainingState,
    read: Read,
    method: Method,
    config: TrainingConfig,
    hooks: Hooks,
    world: World,
    metrics: Metrics | None,
    total: int,
    points: int,
) -> None:
    """Steps until the end, or until it diverges."""
    marks, snaps = _marks(total, points), _marks(total, config.snapshots)
    saved, first, begin = time.monotonic(), state.step, time.monotonic()
    recent = _Recent(metrics.last("smooth_loss") if metrics else None)
    root = directory / "checkpoints"

    def save() -> None:
        checkpoint.save(root, state.step, state.groups(), state.counters())
        checkpoint.prune(root, keep=config.keep, step=state.step, marks={0, *marks})

    if world.first and state.step == 0 and state.restarts == 0:
        save()
    for report in fit(state, read, method, config, until=total, total=total, world=world):
        recent.add(report)
        if state.step in marks | snaps and not state.finite():
            raise Diverged(f"the weights after step {state.step} hold numbers that are not finite")
        if not world.first:
            continue
        done, seconds = state.step - first, time.monotonic() - begin
        rate = done / max(seconds, 1e-9)
        hooks.progress(
            Progress(
                step=state.step,
                total=total,
                loss=recent.loss,
                images_per_second=rate * config.batch,
                seconds_left=(total - state.step) / max(rate, 1e-9),
                skipped=state.skipped,
            )
        )
        if metrics and (state.step % 20 == 0 or state.step in marks or not report.applied):
            metrics.write(
                step=state.step,
                loss=_number(report.loss),
                smooth_loss=_number(recent.loss),
                norm=_number(report.norm),
                rate=report.factor,
                skipped=state.skipped,
                images=state.images,
                seconds=round(state.seconds, 1),
                images_per_second=round(rate * config.batch, 2),
            )
        if state.step in snaps:
            snapshot(directory, state)
        if state.step in marks:
            if report.applied or state.step == total:
                save()
                saved = time.monotonic()
            _look(state.step, hooks, metrics)
        elif time.monotonic() - saved > 60 * config.checkpoint_minutes and report.applied and state.finite():
            save()
            saved = time.monotonic()


def _marks(total: int, points: int) -> set[int]:
    """Steps that cut a run into `points` equal parts, the last one among them."""
    return {max(1, round(total * (i + 1) / points)) for i in range(points)}


def _look_again(path: Path, step: int, hooks: Hooks) -> None:
    """The look at a checkpoint's step, if the run was killed between saving and looking."""
    lines = read_metrics(path) if path.exists() else []
    if not any(line.get("step") == step and "loss" not in line for line in lines):
        _look(step, hooks, Metrics(path, after=step))


def _look(step: int, hooks: Hooks, metrics: Metrics | None) -> None:
    """Measure and draw; what goes wrong there is said, and does not end the training."""
    try:
        measured = hooks.measure(step)
        if metrics and measured:
            metrics.write(step=step, **measured)
        hooks.sheet(step)
    except (ValueError, OSError) as error:
        hooks.say(f"step {step} could not be looked at: {error}")


class _Recent:
    """A running mean of the loss that forgets over about 50 steps."""

    def __init__(self, loss: float | None) -> None:
        self.loss = math.nan if loss is None else loss

    def add(self, report: StepReport) -> None:
        if math.isfinite(report.loss):
            self.loss = report.loss if math.isnan(self.loss) else self.loss + 0.02 * (report.loss - self.loss)


def _number(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
