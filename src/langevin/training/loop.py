"""The training loop: a generator of reports. Who calls it logs, evaluates, saves and shows progress.

A step is a pure function of (weights, optimizer state, step number): data order and randomness are counter-based. So a
run that stops and resumes at any step ends in the same bits as one that did not. Dropout alone belongs to the rows that
go through the network together, so with it the split into micro-batches and processes changes the bits, not the law.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from langevin.diffusion.batch import Batch, draw
from langevin.diffusion.noise import mix
from langevin.methods.diffusion import Method
from langevin.training.averages import Averages, gamma_of_width
from langevin.training.distributed import World
from langevin.training.optimizer import AdamW, OptimizerConfig, Optimizers, RateSchedule

Read = Callable[[int, Tensor], Batch]  # (step, rows of the global batch) -> their data


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How to fit.

    Args:
        steps: of the whole run; None until a time budget has been turned into a number.
        minutes: time budget for the whole run, read when `steps` is None.
        batch: rows of a step, over all processes and accumulation.
        micro_batch: rows that go through the network at once; None is the whole share of a process.
        clip: largest norm of the gradient.
        seed: names the run's data order and randomness.
        averages: widths of the running averages, as fractions of the run.
        snapshots: copies of the averages kept along the run, for widths chosen afterwards.
        precision: the type of matrix products; auto takes bf16 where it is measured to be faster.
        patience: non-finite steps in a row before the run goes back to its last checkpoint.
        checkpoint_minutes: time between checkpoints.
        keep: newest checkpoints that are kept, beside the two at the run's last tenths that it may go back to.
        compile: compile the network; taken only by runs long enough to gain from it.
    """

    steps: int | None = None
    minutes: float | None = 10.0
    batch: int = 128
    micro_batch: int | None = None
    optimizer: OptimizerConfig = AdamW()
    rate: RateSchedule = RateSchedule()
    clip: float = 1.0
    seed: int = 0
    averages: tuple[float, ...] = (0.05, 0.10)
    snapshots: int = 8
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    patience: int = 10
    checkpoint_minutes: float = 2.0
    keep: int = 2
    compile: bool = False

    def __post_init__(self) -> None:
        counts = {"batch": self.batch, "patience": self.patience, "keep": self.keep}
        wrong = [f"{name} = {value}" for name, value in counts.items() if value < 1]
        if wrong or (self.steps is not None and self.steps < 1):
            raise ValueError(f"training counts things, each at least 1: {', '.join(wrong) or f'steps = {self.steps}'}")
        if self.steps is None and not (self.minutes and 0 < self.minutes < 1e6):
            raise ValueError("a run needs an end: set training.steps or training.minutes")
        if not 0 < self.clip < math.inf or (self.micro_batch is not None and self.micro_batch < 1):
            raise ValueError(f"clip must be positive and micro_batch at least 1: {self.clip}, {self.micro_batch}")
        if self.snapshots < 0 or not self.checkpoint_minutes > 0:
            raise ValueError(
                f"snapshots are counted and checkpoint_minutes positive: {self.snapshots}, {self.checkpoint_minutes}"
            )
        if len({f"{width:g}" for width in self.averages if gamma_of_width(width)}) < len(self.averages):
            raise ValueError(f"averages should differ in width, got {self.averages}")

    @property
    def dtype(self) -> torch.dtype:
        """The type of matrix products; `auto` that nothing has decided yet is float32."""
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32


class Diverged(RuntimeError):
    """Too many steps in a row gave numbers that are not finite."""


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What one step did; `loss` is nan and `applied` False if it was skipped."""

    step: int
    loss: float
    norm: float
    factor: float
    applied: bool


@dataclass
class TrainingState:
    """Everything that a checkpoint holds."""

    players: Mapping[str, nn.Module]
    optimizers: dict[str, Optimizers]
    averages: dict[str, Averages]
    step: int = 0
    skipped: int = 0
    in_a_row: int = 0
    restarts: int = 0
    images: int = 0
    seconds: float = 0.0

    @classmethod
    def new(cls, method: Method, config: TrainingConfig, *, edges: tuple[str, ...] = ()) -> "TrainingState":
        """Fresh optimizers and averages for the method's players."""
        return cls(
            players=method.players,
            optimizers={
                n: Optimizers(p, config.optimizer, edges=edges, precision=config.dtype)
                for n, p in method.players.items()
            },
            averages={
                n: Averages(dict(p.named_parameters()), widths=config.averages) for n, p in method.players.items()
            },
        )

    def groups(self) -> dict[str, dict[str, Tensor]]:
        """All tensors, by file and name."""
        groups: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}}
        for player, module in self.players.items():
            groups["model"] |= {f"{player}.{n}": p for n, p in module.named_parameters()}
            groups["optimizer"] |= {f"{player}.{n}": t for n, t in self.optimizers[player].tensors().items()}
            for width in self.averages[player].values:
                average = groups.setdefault(f"average-{width:g}", {})
                average |= {f"{player}.{n}": t for n, t in self.averages[player].tensors(width).items()}
        return groups

    def finite(self) -> bool:
        """Whether every number of the state is finite: only then can it be saved."""
        tensors = (t for group in self.groups().values() for t in group.values() if t.is_floating_point())
        return all(bool(torch.isfinite(t).all()) for t in tensors)

    def counters(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in ("step", "skipped", "in_a_row", "restarts", "images", "seconds")}

    @torch.no_grad()
    def load(self, groups: Mapping[str, Mapping[str, Tensor]], counters: Mapping[str, float]) -> None:
        """Put back what `groups` and `counters` gave.

        Raises:
            ValueError: the checkpoint's weights are not those of this network, or it lacks an average."""
        missing = self.groups().keys() - groups.keys()
        if missing:
            raise ValueError(f"the checkpoint holds no {', '.join(sorted(missing))}: it is of another recipe")
        for player, module in self.players.items():
            mine = dict(module.named_parameters())
            saved = _part(groups["model"], player)
            if {n: p.shape for n, p in mine.items()} != {n: t.shape for n, t in saved.items()}:
                different = sorted(set(mine) ^ set(saved)) or ["shapes differ"]
                raise ValueError(f"the checkpoint is of another network ({different[0]}, ...)")
            for name, parameter in mine.items():
                parameter.copy_(saved[name])
            self.optimizers[player].load(_part(groups["optimizer"], player))
            for width in self.averages[player].values:
                self.averages[player].load(width, _part(groups[f"average-{width:g}"], player))
        for name, value in counters.items():
            if name in self.counters():
                setattr(self, name, value)


def _part(tensors: Mapping[str, Tensor], player: str) -> dict[str, Tensor]:
    start = player + "."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def fit(
    state: TrainingState, read: Read, method: Method, config: TrainingConfig, *, until: int, total: int, world: World
) -> Iterator[StepReport]:
    """Train from `state.step` to `until`, yielding after every step; the learning rate is laid out for `total`.

    A step whose loss or gradient is not finite is skipped and counted.

    Raises:
        Diverged: `config.patience` such steps in a row.
        ValueError: fewer rows in a batch than processes.
    """
    share = world.rows(config.batch)
    if config.batch < world.size:
        raise ValueError(f"training.batch {config.batch} leaves some of the {world.size} processes without a row")
    micro = share.split(config.micro_batch or max(1, len(share)))
    seed = config.seed + 1_000_003 * state.restarts  # a run that went back draws anew
    while state.step < until:
        begin = time.perf_counter()
        factor = config.rate(state.step, total) * 0.5**state.restarts
        losses, norms, applied = 0.0, 0.0, True
        for name, player in method.players.items():
            loss = _gradients(method, name, player, micro, read, state.step, seed, config.batch, world)
            parameters = state.optimizers[name].parameters
            norm = float(nn.utils.clip_grad_norm_(parameters.values(), config.clip))
            applied = applied and math.isfinite(loss) and math.isfinite(norm)
            losses, norms = losses + loss, max(norms, norm)
            if applied:
                state.optimizers[name].step(factor)
                state.averages[name].update(parameters, step=state.step + 1)
        state.step += 1
        state.images += config.batch
        state.seconds += time.perf_counter() - begin
        state.skipped += not applied
        state.in_a_row = 0 if applied else state.in_a_row + 1
        if state.in_a_row >= config.patience:
            raise Diverged(
                f"{state.in_a_row} steps in a row, up to step {state.step}, gave numbers that are not finite"
            )
        yield StepReport(step=state.step, loss=losses, norm=norms, factor=factor, applied=applied)


def _gradients(
    method: Method,
    name: str,
    player: nn.Module,
    micro: tuple[Tensor, ...],
    read: Read,
    step: int,
    seed: int,
    count: int,
    world: World,
) -> float:
    """Leave the global batch's mean gradient in `player`; returns its plain loss."""
    player.train()
    player.zero_grad(set_to_none=True)
    plain = torch.zeros((), device=next(player.parameters()).device)
    for rows in micro:
        batch = read(step, rows)
        drawn = draw(seed=seed, step=step, rows=rows.to(plain.device), count=count)
        with _seeded(seed, step, rows):
            report = method.loss(name, batch, drawn)
            (report.loss.sum() / count).backward()
        plain += report.plain.sum() / count
    grads = [p.grad for p in player.parameters() if p.grad is not None]
    world.sum([*grads, plain])
    return float(plain)


@contextmanager
def _seeded(seed: int, step: int, rows: Tensor) -> Iterator[None]:
    """Torch's own generators (dropout draws from them) as a function of (seed, step, first row), and put back after."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(int(mix(mix(torch.tensor([seed]), step), rows[:1])))
        yield
