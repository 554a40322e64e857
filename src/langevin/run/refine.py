"""Refining a trained run: candidates for other weights of its network, measured on held-out data, and taken or refused.

A candidate is a set of weights by name, on the line through the run's weights theta_r and those after a brief training with
the run's own samples, theta_s. `extrapolation` trains on these samples and goes the other way:

    theta = theta_r - w (theta_s - theta_r)

Samples are drawn with errors of their own (few steps, guidance), which training on them adds to the network's. Where both
point the same way, as for a sampler that draws too near the modes from a network that is too narrow, away from theta_s is
towards the data ("Neon: Negative Extrapolation From Self-Training Improves Image Generation", 2025, arXiv 2510.03597);
elsewhere it is not. `likelihood_ratio` trains to tell the data from them (`methods.likelihood_ratio`), and goes on:

    theta = theta_r + w (theta_s - theta_r)

It may learn the data by heart, as any training on it. So a candidate of either has to prove itself: its held-out distance
falls, and neither coverage nor held-out loss gets worse, each beyond the noise of the measurement.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch, StepRandomness
from langevin.diffusion.condition import Condition
from langevin.evaluation.report import MetricRow
from langevin.evaluation.statistics import Interval, mean_interval
from langevin.methods import Diffusion
from langevin.methods.likelihood_ratio import LikelihoodRatio
from langevin.methods.method import Method
from langevin.methods.models import GaussianModel
from langevin.modalities.modality import Draw, Measuring, Plan, RequestContext, spread
from langevin.modalities.options import options_of
from langevin.recipe.build import non_hidden
from langevin.run.generate import RunModel
from langevin.training.calibration import calibrate, set_threads, thread_policy
from langevin.training.distributed import World
from langevin.training.loop import BatchFn, TrainingConfig, TrainingState, fit
from langevin.training.order import DataOrder
from langevin.training.plan import StepPlan

DISTANCE, COVERAGE = "FD held-out", "coverage"  # metrics that a modality must have
HELD_OUT = 512  # examples whose loss is compared, at most
LEVELS = 4  # of noise, at which the likelihood ratio of an example is estimated, each with both signs of its noise
TAIL = 0.005  # of a run's training times at either end, which its likelihood ratio leaves out
Weights = Mapping[str, Tensor]  # player.parameter -> weight


def weights_of(method: Method) -> dict[str, Tensor]:
    """A copy of the players' weights, named as in a checkpoint."""
    named = ((f"{player}.{n}", p) for player, one in method.players.items() for n, p in one.module.named_parameters())
    return {name: parameter.detach().clone() for name, parameter in named}


def moved(reference: Weights, tuned: Weights, weight: float) -> dict[str, Tensor]:
    """(1 - w) reference + w tuned, the other way for w < 0; the reference to the bit for w = 0, and what was not tuned."""
    ends = {**reference, **tuned}
    return {name: (1 - weight) * value + weight * ends[name] for name, value in reference.items()}


def own_samples(
    model: RunModel, train: Any, count: int, seed: int, *, what: str = "refine"
) -> tuple[Tensor, Condition | None]:  # fmt: skip
    """x (count, ...) that the model draws under the conditions of its training data, and these conditions.

    Args:
        what: needs them, for the message.

    Raises:
        ValueError: samples that are not drawn at once, as one tensor."""
    kept = list[tuple[Any, Any]]()
    context = RequestContext(model=model, data=lambda: (train, train), count=count, seed=seed)
    model.run(recorded(model.modality.plan_like(train, context), kept))
    request, x = kept[0]
    known = getattr(request, "known", None)
    free = known is None or (isinstance(known, Tensor) and not bool(known.any()))
    whole = isinstance(request, Draw) and isinstance(x, Tensor) and free and request.model == "run"
    if len(kept) != 1 or not whole:
        raise ValueError(
            f"{what} learns from samples that are drawn at once, and those of {model.modality.kind} are not"
        )
    return x, None if request.condition is None else request.condition.unguided()


def recorded(plan: Plan, kept: list[tuple[Any, Any]]) -> Plan:
    """A plan whose requests and their results are kept."""
    result: Any = None
    while True:
        try:
            request = plan.send(result)
        except StopIteration as done:
            return done.value
        result = yield request
        kept.append((request, result))


def batches_of(x: Tensor, condition: Condition | None, config: TrainingConfig, device: torch.device) -> BatchFn:
    """Training batches of given samples."""
    order = DataOrder(count=len(x), batch=config.batch, seed=config.seed)

    def batch(step: int, samples: Tensor, draw: StepRandomness) -> Batch:
        items = order.items(step, samples)
        given = None if condition is None else condition.select(items).to(device)
        return Batch(x=x[items].to(device), condition=given)

    return batch


def trained(
    batches: BatchFn, method: Method, config: TrainingConfig, *, device: torch.device,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Tensor]:  # fmt: skip
    """The weights after training a method; the method keeps them."""
    state, before = TrainingState.new(method, config), torch.get_num_threads()
    policy = thread_policy(config, device)
    if config.steps is None:
        state.plan = StepPlan.of(calibrate(state, batches, method, config, threads=policy, world=World()).steps)
    assert state.plan is not None
    for report in fit(state, batches, method, config, world=World()):
        progress(report.step, state.plan.total)
    set_threads(before)
    return weights_of(method)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured of a candidate.

    Args:
        distances: of samples from held-out data, by feature space, one value per seed.
        coverage: of the data by samples, likewise.
        losses: (n,) of held-out examples, on the same noise for all candidates.
    """

    distances: Mapping[str, tuple[float, ...]]
    coverage: Mapping[str, tuple[float, ...]]
    losses: Tensor

    def score(self) -> list[float]:
        """The mean over feature spaces of ln distance, one per seed: less is better."""
        by_seed = zip(*self.distances.values(), strict=True)
        return [sum(math.log(max(v, 1e-12)) for v in values) / len(values) for values in by_seed]

    def as_dict(self) -> dict[str, Any]:
        """Figures of JSON types."""
        return {
            "held-out distance": {k: list(v) for k, v in self.distances.items()},
            "coverage": {k: list(v) for k, v in self.coverage.items()}, "held-out loss": float(self.losses.mean()),
        }  # fmt: skip


def measured(model: RunModel, measuring: Measuring) -> Measured:
    """Measure the model with its current weights.

    Raises:
        ValueError: a modality without these metrics."""
    options = options_of(model.modality.kind).Evaluate()
    rows = model.modality.evaluate(options, measuring).rows
    found = {metric: _values(rows, metric) for metric in (DISTANCE, COVERAGE)}
    if not all(found.values()):
        raise ValueError(
            f"refine chooses by {DISTANCE} and {COVERAGE}, which are not measured of {model.modality.kind}"
        )
    return Measured(
        distances=found[DISTANCE], coverage=found[COVERAGE], losses=held_out_losses(model, measuring.val)
    )  # fmt: skip


@torch.no_grad()
def held_out_losses(model: RunModel, val: Any) -> Tensor:
    """The losses (n,) float64 of held-out examples, means over the levels that are logged, on fixed noise."""
    batches = model.batches(val)
    items = spread(len(batches), HELD_OUT)
    losses = [model.parts.losses(batches(i), i).mean(0) for i in torch.split(items, 64)]
    return torch.cat(losses).double().cpu()


def _values(rows: Sequence[MetricRow], metric: str) -> dict[str, tuple[float, ...]]:
    return {row.group: row.values for row in rows if row.metric == metric and row.values}


def best_of(found: Mapping[float, Measured]) -> float:
    """The weight, but 0, whose samples are nearest to held-out data."""
    return min((w for w in found if w), key=lambda w: sum(found[w].score()))


def objections(before: Measured, after: Measured) -> list[str]:
    """What speaks against a candidate in place of the run, each with its figures; empty if nothing does."""
    lines = list[str]()
    gain = _difference(before.score(), after.score())
    if not gain.high or gain.high >= 0:
        lines.append(f"its held-out distance changes by a factor of {_factor(gain)}, which is no gain beyond the noise")
    for space, values in after.coverage.items():
        change = _difference(before.coverage[space], values)
        if change.high is not None and change.high < 0:
            lines.append(f"its coverage ({space}) falls by {-change.estimate:.3f}, beyond {change.half_width:.3f}")
    worse = after.losses - before.losses
    error = float(worse.std() / math.sqrt(len(worse)))
    if float(worse.mean()) > 2 * error:
        lines.append(
            f"its held-out loss rises by {float(worse.mean()):.4g} from {float(before.losses.mean()):.4g}, beyond "
            f"{2 * error:.2g}"
        )
    return lines


def _difference(before: Sequence[float], after: Sequence[float]) -> Interval:
    """after - before, seed by seed."""
    return mean_interval([b - a for a, b in zip(before, after, strict=True)])


def _factor(gain: Interval) -> str:
    low, high = gain.low or -math.inf, math.inf if gain.high is None else gain.high
    return f"{math.exp(gain.estimate):.3f} ({math.exp(low):.3f} to {math.exp(high) if high < 700 else high:.3f})"


def ratio_of(model: RunModel, fakes: Batch, beta: float) -> LikelihoodRatio:
    """The training of a model of gaussian diffusion to tell data from its own samples, over the levels of its training."""
    parts, config = model.parts, model.built.recipe.method
    assert isinstance(parts, GaussianModel), "it is a model of gaussian diffusion"
    assert isinstance(config, Diffusion.Config), "it is a model of gaussian diffusion"
    schedule, reference = parts.process.schedule, copy.deepcopy(parts.network).eval().requires_grad_(False)
    ends = schedule.log_snr(config.times(torch.tensor([1 - TAIL, TAIL], dtype=torch.float64), schedule))
    return LikelihoodRatio(
        process=parts.process, denoiser=parts.denoiser, network=parts.network,
        reference=replace(parts.denoiser, network=reference), fakes=fakes, log_snr=(float(ends[0]), float(ends[1])),
        levels=LEVELS, beta=beta, condition_dropout=config.condition_dropout, non_hidden=non_hidden(parts.network),
    )  # fmt: skip


def for_ratios(config: TrainingConfig) -> TrainingConfig:
    """A training whose step evaluates the network for as many examples as two of the config's, in the memory of one."""
    each = 4 * LEVELS  # evaluations for an example and a fake
    micro = max(1, (config.micro_batch or config.batch) // each)
    return replace(config, batch=max(1, 2 * config.batch // each), micro_batch=micro)


def slowed(config: TrainingConfig, factor: float) -> TrainingConfig:
    """A training with smaller learning rates, without EMAs and snapshots."""
    names = ("lr", "adamw_lr", "embedding_lr")
    rates = {n: factor * rate for n in names if (rate := getattr(config.optimizer, n, None)) is not None}
    return replace(config, optimizer=replace(config.optimizer, **rates), ema_lengths=(), snapshots=0, compile=False)
