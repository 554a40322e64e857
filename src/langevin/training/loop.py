"""The training loop: a generator of step reports. Its caller logs, evaluates, saves and shows progress.

A step is a pure function of (weights, optimizer state, step number, step plan): data order and randomness are
counter-based. So a run that is stopped and resumed at any step ends in the same bits as one that was not, if its number of
threads is fixed (`training.threads`): more threads add in another order. Dropout masks are drawn per micro-batch, so the
split into micro-batches and processes changes the bits, but not the distribution.

A method trains one or more modules, its players (a generator and a discriminator, say). They step together. The batch of a
step is read once. Each player whose turn it is gets its gradient at the weights before the step. Then all of them step, or
none does if one loss or gradient is not finite. So no player sees another player's update within the same step. A method in
which one player has to be ahead gives it more turns (`Player.every`).
"""

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from langevin.diffusion.batch import Batch, StepRandomness, step_randomness
from langevin.diffusion.noise import mix
from langevin.methods.method import Method, Player
from langevin.methods.optimizer import AdamW, OptimizerConfig
from langevin.training.ahead import DEPTH, Ahead, Reading
from langevin.training.counters import CLOCKED, COUNTERS, checked
from langevin.training.distributed import ALONE, World
from langevin.training.ema import PowerEMA, gamma_of_length
from langevin.training.optimizer import LRSchedule, Optimizers
from langevin.training.parallel import Parallel
from langevin.training.placement import REPLICATED, Placement
from langevin.training.plan import RECENT, StepPlan
from langevin.training.trend import Faults, LossTrend

# (step, indices into its global batch (b,) int64, their randomness) -> these samples
BatchFn = Callable[[int, Tensor, StepRandomness], Batch]


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Wall time, and CPU time of this process; seconds since an arbitrary moment."""

    wall: Callable[[], float] = time.perf_counter
    cpu: Callable[[], float] = time.process_time


REAL_TIME = Clock()


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The `training:` section of a recipe.

    Args:
        steps: length of the whole run; None plans it so that the run takes `minutes`.
        minutes: time budget of the whole run; used if `steps` is None.
        batch: samples per step, over all processes and accumulated micro-batches.
        micro_batch: samples per forward pass; None is a process's whole share of the batch.
        optimizer: of every player that has none of its own.
        init_lr_factor: on the learning rates of a run that starts from another (`init_from`): what that one has learned is
            lost at the full rates.
        lr_schedule: warm-up and cool-down of the learning rate, as fractions of the run.
        grad_clip: maximum norm of a player's gradient.
        seed: of the initial weights, the data order and the randomness of training.
        ema_lengths: lengths of the EMAs of the weights, as fractions of the run.
        snapshots: copies of the EMAs kept along the run, from which an EMA of any length is reconstructed afterwards.
        precision: dtype of matrix products; auto takes bf16 where it is measured to be faster.
        max_bad_steps: consecutive non-finite steps after which the run is rolled back to the checkpoint of an evaluation.
        checkpoint_minutes: time between checkpoints.
        keep_checkpoints: how many of the newest checkpoints are kept, besides those of the last two evaluations.
        keep_best: draw with the weights of the evaluation with the least held-out loss, in place of the last: for little
            data, which is learned by heart.
        compile: compile the network; done only in runs that are long enough to gain from it.
        shuffle_window: examples among which an epoch is shuffled, of data in shards or row groups: these are permuted, and
            then read one after another; None shuffles all, but of Parquet files that are read page by page.
        threads: CPU threads; None chooses them, and takes fewer while other jobs compete for the cores.
        parallel: the layout of a run on several ranks.
        prefetch: batches that are read ahead of their step, in a thread; None is 2 on an accelerator and 0 on a CPU, whose
            cores the step needs. The result is the same to the bit.
    """

    steps: int | None = None
    minutes: float | None = 10.0
    batch: int = 128
    micro_batch: int | None = None
    optimizer: OptimizerConfig = AdamW()
    init_lr_factor: float = 0.3
    lr_schedule: LRSchedule = LRSchedule()
    grad_clip: float = 1.0
    seed: int = 0
    ema_lengths: tuple[float, ...] = (0.05, 0.10)
    snapshots: int = 8
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    max_bad_steps: int = 10
    checkpoint_minutes: float = 2.0
    keep_checkpoints: int = 2
    keep_best: bool = False
    compile: bool = False
    shuffle_window: int | None = None
    threads: int | None = None
    parallel: Parallel = Parallel()
    prefetch: int | None = None

    def __post_init__(self) -> None:
        names = ("batch", "max_bad_steps", "keep_checkpoints", "steps", "micro_batch", "threads", "shuffle_window")
        wrong = [f"{name} = {value}" for name in names if (value := getattr(self, name)) is not None and value < 1]
        if wrong:
            raise ValueError(f"counts in training must be at least 1, got {', '.join(wrong)}")
        limits = {
            "steps": 10**12,
            "batch": 10**6,
            "micro_batch": 10**6,
            "threads": 4096,
            "shuffle_window": 10**9,
            "snapshots": 10**4,
            "seed": 2**62,
        }
        for name, most in limits.items():
            if abs(getattr(self, name) or 0) > most:
                raise ValueError(f"training.{name} is at most {most:,}, got {getattr(self, name)}")
        if len(self.ema_lengths) > 16:
            raise ValueError(f"training.ema_lengths lists at most 16 lengths, got {len(self.ema_lengths):,}")
        if self.steps is None and not (self.minutes and 0 < self.minutes < 1e6):
            raise ValueError("a run needs an end: set training.steps, or training.minutes to a positive number")
        if not 0 < self.grad_clip < math.inf:
            raise ValueError(f"training.grad_clip must be positive, got {self.grad_clip}")
        if not 0 < self.init_lr_factor <= 100:
            raise ValueError(f"training.init_lr_factor must be above 0 and at most 100, got {self.init_lr_factor}")
        if not 0 <= (self.prefetch or 0) <= 1024:
            raise ValueError(f"training.prefetch is a number of batches, 0 to 1024, got {self.prefetch}")
        if self.snapshots < 0 or not self.checkpoint_minutes > 0:
            raise ValueError(
                "training.snapshots must be at least 0 and training.checkpoint_minutes positive, got "
                f"{self.snapshots} and {self.checkpoint_minutes}"
            )
        if len({f"{length:g}" for length in self.ema_lengths if gamma_of_length(length)}) < len(self.ema_lengths):
            raise ValueError(f"training.ema_lengths must differ from each other, got {self.ema_lengths}")

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of matrix products; float32 while `precision` is still auto."""
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32


class Diverged(RuntimeError):
    """Losses, gradients or weights are not finite, and skipping such steps did not help."""


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """The result of one step.

    Args:
        step: number of steps so far, this one included.
        loss: plain loss of the method's first player, a mean over the global batch; nan if it was not its turn.
        norm: gradient norm before clipping, the largest of the players'.
        lr_factor: factor on the configured learning rates.
        applied: whether the players stepped; False if a loss or gradient was not finite.
        seconds: wall time of the step.
        cpu_seconds: CPU time of this process during the step.
        terms: named terms of the losses, `player.term`; with several players also their plain losses, `player.loss`.
    """

    step: int
    loss: float
    norm: float
    lr_factor: float
    applied: bool
    seconds: float
    cpu_seconds: float
    terms: Mapping[str, float]


@dataclass
class TrainingState:
    """Everything that a checkpoint holds."""

    players: Mapping[str, Player]
    weights: Mapping[str, Mapping[str, nn.Parameter]]  # of each player, as this rank holds them
    optimizers: dict[str, Optimizers]
    ema: dict[str, PowerEMA]
    plan: StepPlan | None  # None until a time budget is converted to steps
    step: int = 0
    skipped: int = 0
    consecutive_skips: int = 0
    restarts: int = 0
    samples_seen: int = 0
    seconds: float = 0.0  # spent in steps
    elapsed: float = 0.0  # since the run began
    evaluating: float = 0.0  # spent in evaluations and previews
    recent: list[float] = field(default_factory=list)  # wall times of the last steps
    threads: int | None = None
    loss: LossTrend = field(default_factory=LossTrend)
    faults: Faults = field(default_factory=Faults)
    placement: Placement = REPLICATED

    @classmethod
    def new(
        cls, method: Method, config: TrainingConfig, *, lr_factor: float = 1.0, placement: Placement = REPLICATED
    ) -> "TrainingState":
        """Fresh optimizers, at `lr_factor` times the configured learning rates, and EMAs for the method's players."""
        players = method.players
        weights = {name: placement.weights(name, player) for name, player in players.items()}
        return cls(
            players=players,
            weights=weights,
            optimizers={
                n: Optimizers(
                    p, config.optimizer, precision=config.dtype, lr_factor=lr_factor, weights=weights[n],
                    gather=partial(_of_player, placement.gather, n), shard=partial(_of_player, placement.shard, n),
                )
                for n, p in players.items()
            },
            ema={n: PowerEMA(weights[n], lengths=config.ema_lengths) for n, p in players.items() if p.ema},
            plan=None if config.steps is None else StepPlan.of(config.steps),
            placement=placement,
        )  # fmt: skip

    def groups(self) -> dict[str, dict[str, Tensor]]:
        """All tensors that this rank holds, by checkpoint file and name."""
        groups: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}}
        for name, weights in self.weights.items():
            groups["model"] |= {f"{name}.{n}": p for n, p in weights.items()}
            groups["optimizer"] |= {f"{name}.{n}": t for n, t in self.optimizers[name].tensors().items()}
        for name, ema in self.ema.items():
            for length in ema.values:
                average = groups.setdefault(f"ema-{length:g}", {})
                average |= {f"{name}.{n}": t for n, t in ema.tensors(length).items()}
        return groups

    def finite(self, world: World = ALONE) -> bool:
        """Whether all tensors are finite; a checkpoint of others is refused."""
        tensors = (t for group in self.groups().values() for t in group.values() if t.is_floating_point())
        return self.placement.holds(world, all(bool(torch.isfinite(t).all()) for t in tensors))

    def counters(self) -> dict[str, Any]:
        """The rest of the state, as JSON values."""
        decisions = None if self.plan is None else [list(decision) for decision in self.plan.decisions]
        clocked = {name: getattr(self, name) for name in CLOCKED} | {"recent": list(self.recent)}
        counted = {name: getattr(self, name) for name in COUNTERS}
        trends = {"loss": self.loss.to_json(), "faults": dict(self.faults.high)}
        return counted | {"plan": decisions} | trends | clocked

    def whole_groups(self, *, only: Collection[str] | None = None, keep: bool = True) -> dict[str, dict[str, Tensor]]:
        """`groups` of whole tensors; all ranks that share parts of them must call.

        They are gathered one after the other, so that a device has room for one of them only.

        Args:
            only: names of groups.
            keep: whether this rank gets them, in main memory if they were in parts; else it gets nothing."""
        wanted = {name: tensors for name, tensors in self.groups().items() if only is None or name in only}

        def gathered(key: str, part: Tensor) -> Tensor:
            whole = self.placement.gather(key, part)
            return part if whole is part or not keep else whole.cpu()

        groups = by_parameter(wanted, gathered)
        return groups if keep else {}

    def load_whole(self, groups: Mapping[str, Mapping[str, Tensor]], counters: Mapping[str, Any]) -> None:
        """Restore a state from `whole_groups`, such as a checkpoint has; see `load`."""
        self.load(by_parameter(groups, self.placement.shard), counters)

    @torch.no_grad()
    def load(self, groups: Mapping[str, Mapping[str, Tensor]], counters: Mapping[str, Any]) -> None:
        """Restore a state from its `groups`, of tensors as this rank holds them, and `counters`.

        Raises:
            ValueError: they are of another network or optimizer, or an EMA is missing."""
        missing = self.groups().keys() - groups.keys()
        if missing:
            raise ValueError(f"the checkpoint has no {', '.join(sorted(missing))}: it is of a run with another recipe")
        for player_name, parameters in self.weights.items():
            saved = _tensors_of(player_name, groups["model"])
            if {n: p.shape for n, p in parameters.items()} != {n: t.shape for n, t in saved.items()}:
                different = sorted(set(parameters) ^ set(saved)) or ["shapes differ"]
                raise ValueError(f"the checkpoint is of another network ({different[0]}, ...)")
            for name, parameter in parameters.items():
                parameter.copy_(saved[name])
            self.optimizers[player_name].load(_tensors_of(player_name, groups["optimizer"]))
        for player_name, ema in self.ema.items():
            for length in ema.values:
                ema.load(length, _tensors_of(player_name, groups[f"ema-{length:g}"]))
        saved = checked(counters)
        for name in saved.keys() & {*COUNTERS, *CLOCKED}:
            setattr(self, name, saved[name])
        if saved.get("loss"):
            self.loss = LossTrend.from_json(saved["loss"])
        self.faults = Faults(high=saved.get("faults", {}))
        if "plan" in saved:
            self.plan = StepPlan(decisions=tuple(saved["plan"])) if saved["plan"] else None


def by_parameter(
    groups: Mapping[str, Mapping[str, Tensor]], change: Callable[[str, Tensor], Tensor]
) -> dict[str, dict[str, Tensor]]:
    """Groups with `change`(player.parameter, tensor) of each tensor that has the shape of its parameter."""

    def changed(group: str, name: str, tensor: Tensor) -> Tensor:
        parameter, _, kind = name.rpartition("/") if group == "optimizer" else (name, "", "")
        return tensor if kind == "step" else change(parameter, tensor)

    return {group: {n: changed(group, n, t) for n, t in tensors.items()} for group, tensors in groups.items()}


def _of_player(function: Callable[[str, Tensor], Tensor], player: str, name: str, tensor: Tensor) -> Tensor:
    return function(f"{player}.{name}", tensor)


def _tensors_of(player: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefix = player + "."
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def fit(
    state: TrainingState,
    batches: BatchFn,
    method: Method,
    config: TrainingConfig,
    *,
    until: int | None = None,
    world: World,
    clock: Clock = REAL_TIME,
) -> Iterator[StepReport]:
    """Train from `state.step` to `until`, and yield a report after every step. `state` is updated in place.

    A step in which a loss or gradient of any player is not finite changes no weight, and counts as skipped.

    Args:
        until: step to stop after; None is the end of `state.plan`, which the caller may change between steps.

    Raises:
        Diverged: `config.max_bad_steps` consecutive steps were skipped.
        ValueError: the batch has fewer samples than there are processes.
    """
    assert state.plan is not None, "a time budget is converted to steps before training starts"
    own = world.own_samples(config.batch)
    if config.batch < world.size:
        raise ValueError(
            f"training.batch {config.batch} is less than the {world.size} ranks: each needs a sample of every batch"
        )
    device = next(parameter.device for player in method.players.values() for parameter in player.module.parameters())
    depth = config.prefetch if config.prefetch is not None else DEPTH if device.type == "cuda" else 0
    reader = Ahead(batches, device) if depth else None
    steps = _steps(state, reader or batches, method, config, own, until=until, world=world, clock=clock, depth=depth)
    try:
        for report in steps:
            with reader.paused() if reader else nullcontext():
                yield report
    finally:
        if reader is not None:
            reader.close()


def _steps(
    state: TrainingState, batches: BatchFn | Ahead, method: Method, config: TrainingConfig, own: Tensor, *,
    until: int | None, world: World, clock: Clock, depth: int,
) -> Iterator[StepReport]:  # fmt: skip
    """The steps of `fit` on this rank's samples `own`."""
    assert state.plan is not None
    placement = state.placement
    micro_batches = placement.micro_batches(own, batch=config.batch, size=config.micro_batch, world=world)
    seed = config.seed + 1_000_003 * state.restarts  # new randomness after a rollback
    first = next(iter(method.players))
    while state.step < (state.plan.total if until is None else until):
        wall_start, cpu_start = clock.wall(), clock.cpu()
        factor = config.lr_schedule(state.plan.position(state.step), state.plan.total) * 0.5**state.restarts
        due = {n: p for n, p in method.players.items() if state.step % p.every == 0}
        progress = float(state.plan.progress(state.step))
        if isinstance(batches, Ahead):
            batches.expect(_expected(state, config.batch, [samples for samples, _ in micro_batches], seed, depth))
        losses, terms, faults = _gradients(
            method, due, micro_batches, batches, state.step, seed, config.batch, world, progress=progress,
            restarts=state.restarts, placement=placement,
        )  # fmt: skip
        norms = [_clip_gradient(name, state.weights[name], config.grad_clip, placement) for name in due]
        applied = all(map(math.isfinite, (*losses.values(), *norms)))
        if applied:
            for name in due:
                state.optimizers[name].step(factor)
            for name, ema in state.ema.items():  # also of players that are not due: EMAs weigh by the step of the run
                ema.update(state.weights[name], step=state.step + 1)
        seconds = clock.wall() - wall_start
        state.step += 1
        state.samples_seen += config.batch
        state.seconds += seconds
        state.recent = [*state.recent, seconds][-RECENT:]
        state.skipped += not applied
        if applied:
            state.loss.add(losses.get(first, math.nan))
            state.faults.add(faults)
        state.consecutive_skips = 0 if applied else state.consecutive_skips + 1
        if state.consecutive_skips >= config.max_bad_steps:
            raise Diverged(
                f"{state.consecutive_skips} consecutive steps, up to step {state.step}, gave numbers that are not finite"
            )
        yield StepReport(
            step=state.step, loss=losses.get(first, math.nan), norm=max(norms, default=0.0), lr_factor=factor,
            applied=applied, seconds=seconds, cpu_seconds=clock.cpu() - cpu_start, terms=terms,
        )  # fmt: skip


def _expected(
    state: TrainingState, count: int, micro_batches: Sequence[Tensor], seed: int, depth: int
) -> list[Reading]:
    """What this step and the next `depth` ones read, if the plan stays."""
    assert state.plan is not None
    last = min(state.step + depth, state.plan.total - 1)
    return [
        (
            step,
            samples,
            step_randomness(seed=seed, step=step, samples=samples, count=count, progress=at, restarts=restarts),
        )
        for restarts in [state.restarts]
        for step in range(state.step, last + 1)
        for at in [float(state.plan.progress(step))]
        for samples in micro_batches
    ]


def _clip_gradient(name: str, weights: Mapping[str, nn.Parameter], max_norm: float, placement: Placement) -> float:
    """Clip a player's gradient in place; returns its norm before."""
    norm = placement.norm(name, weights)
    nn.utils.clip_grads_with_norm_(weights.values(), max_norm, norm)
    return float(norm)


def _gradients(
    method: Method,
    due: Mapping[str, Player],
    micro_batches: Sequence[tuple[Tensor, float]],
    batches: BatchFn,
    step: int,
    seed: int,
    batch_size: int,
    world: World,
    *,
    progress: float = 0.0,
    restarts: int = 0,
    placement: Placement = REPLICATED,
) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """Set `grad` of the players that are due to the mean over the global batch; returns their plain losses, terms, and the
    shares of the samples that are in each fault."""
    weights = {name: list(player.weights.values()) for name, player in due.items()}
    for player in method.players.values():
        player.module.train()
        player.module.zero_grad(set_to_none=True)
    device = next(parameter.device for player in method.players.values() for parameter in player.module.parameters())
    faults = set[str]()
    sums: dict[tuple[str, str], Tensor] = {(name, "loss"): torch.zeros((), device=device) for name in due}
    for samples, factor in micro_batches:
        here, randomness = (
            step_randomness(seed=seed, step=step, samples=at, count=batch_size, progress=progress, restarts=restarts)
            for at in (samples, samples.to(device))
        )
        batch = batches(step, samples, here)
        for name in due:
            with _seeded(seed, step, samples):
                report = method.loss(name, batch, randomness)
                placement.backward(report.loss.sum() * factor / batch_size, weights[name])
            for term, values in {**report.terms, "loss": report.plain, **report.faults}.items():
                zero = torch.zeros((), device=device)
                sums[name, term] = sums.get((name, term), zero) + values.detach().sum() * factor / batch_size
            faults |= report.faults.keys()
    world.beat(waits=True)
    placement.sum(world, due, list(sums.values()))
    means = {key: float(value) for key, value in sums.items()}
    shares = {term: v for (_, term), v in means.items() if term in faults}
    shown = {
        key: v for key, v in means.items() if key[1] not in faults and (key[1] != "loss" or len(method.players) > 1)
    }
    return {n: means[n, "loss"] for n in due}, {f"{n}.{term}": v for (n, term), v in shown.items()}, shares


@contextmanager
def _seeded(seed: int, step: int, samples: Tensor) -> Iterator[None]:
    """Seed torch's global generators, which dropout uses, by (seed, step, first sample); restore them at the end."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(int(mix(mix(torch.tensor([seed]), step), samples[:1])))
        yield
