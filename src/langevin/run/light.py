"""A run that draws at less cost: weights in fewer bytes, deep layers used again, guidance where it matters alone."""

import copy
import json
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.guidance import active
from langevin.diffusion.light import AnyLight, BF16Weights, FeatureCache, GuidanceInterval, Int8Weights, Storage
from langevin.diffusion.reuse import Reusing
from langevin.diffusion.sampler import AnySampler, FittedSolver, sample
from langevin.diffusion.sampling import Sampling, require_light
from langevin.diffusion.schedule import rho
from langevin.files import read_regular, write_atomic
from langevin.methods.models import GaussianModel
from langevin.modalities.modality import Draw, RequestContext
from langevin.networks.stored import store
from langevin.recipe.build import guided
from langevin.recipe.sampling import describe, parse_light
from langevin.run.begin import begin
from langevin.run.directory import Run
from langevin.run.generate import RunModel

MEASURED = 16  # samples on which the interval of guidance is measured
SEED = 3_000_000  # of the first of them
FILE = "light.json"  # in the run, of the intervals that were measured
NONE = "none"  # in a command, in place of what the recipe has


def light_of(given: Sequence[str] | None, sampling: Sampling) -> tuple[AnyLight, ...]:
    """What a command or a request asks for; None is that of the sampling.

    Raises:
        ValueError: an unknown kind or parameter, or two that exclude each other."""
    if given is None:
        return sampling.light
    if not given:
        raise ValueError('light is without a kind: name one or more of int8, bf16, cache, guidance, or "none"')
    light = tuple(parse_light(text) for text in given if text != NONE)
    if NONE in given and len(given) > 1:
        raise ValueError("light none is without any other: leave one of them out")
    require_light(light)
    return light


def lightened(
    model: RunModel, light: Sequence[AnyLight], run: Run | None = None, *, keep: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> RunModel:  # fmt: skip
    """The model with what makes it cheaper.

    Args:
        run: of the model, for light guidance, whose interval is measured on its data and written there.
        keep: whether `model` stays as it is; else it shares its weights with the result, and must not be used again.

    Raises:
        ValueError: one that has no effect on this run, or does not fit it."""
    require_light(light)
    for one in light:
        match one:
            case GuidanceInterval():
                model = _with_interval(model, one, run, say)
            case _:
                pass
    sampler = model.sampling.sampler
    if light and isinstance(sampler, FittedSolver) and not sampler.rows:  # it is fitted to the weights as they are
        model = replace(model, sampling=replace(model.sampling, sampler=model.built.learned(model.sampling)))
    for one in light:
        match one:
            case BF16Weights() | Int8Weights():
                model = _stored(model, one, keep=keep)
            case _:
                pass
    for one in light:
        match one:
            case FeatureCache():
                model = _reusing(model, one)
            case _:
                pass
    return replace(model, sampling=replace(model.sampling, light=tuple(light)))


def _with_network(model: RunModel, network: Any, called: Any) -> RunModel:
    """The model with another network; its denoiser calls `called`."""
    parts = model.built.model
    changed: Any = replace(parts, network=network, denoiser=replace(parts.denoiser, network=called))
    return replace(model, built=replace(model.built, model=changed, learned=_unknown_error))


def _unknown_error(sampling: Sampling) -> AnySampler:
    raise ValueError(
        "a solver is fitted to a run's weights as they are, and these are changed by light: name the learned sampler when "
        "the run is loaded, or leave it out"
    )


def _stored(model: RunModel, storage: Storage, *, keep: bool) -> RunModel:
    network = model.parts.network
    network = copy.deepcopy(network) if keep else network
    store(network, storage)
    return _with_network(model, network, network)


def _reusing(model: RunModel, cache: FeatureCache) -> RunModel:
    if model.built.recipe.method.one_step or model.sampling.steps == 1:
        raise ValueError(
            "a cache uses again what one evaluation computed in the next, and this run draws in one step: leave it out"
        )
    network = model.parts.network
    return _with_network(model, network, Reusing(network=network, cache=cache))


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Where guidance is worth its cost.

    Args:
        low, high: of sigma / alpha, as of the `interval` of guidance; both 0 where it is never.
        saved: share of the evaluations under guidance that are left out.
    """

    low: float
    high: float
    saved: float

    def line(self) -> str:
        """In words."""
        if self.high == 0:
            return "guidance changes nothing beyond the tolerance at any noise level, and is left out"
        high = "" if math.isinf(self.high) else f" to {self.high:.3g}"
        return (
            f"guidance where sigma / alpha is {self.low:.3g}{high or ' and more'}: {self.saved:.0%} of it is left out"
        )


def _with_interval(model: RunModel, light: GuidanceInterval, run: Run | None, say: Callable[[str], None]) -> RunModel:
    methods = [one for one in active(model.sampling.guidance) if hasattr(one, "interval")]
    if not isinstance(model.parts, GaussianModel) or not methods:
        why = "is drawn without it" if isinstance(model.parts, GaussianModel) else "has no noise levels"
        raise ValueError(
            f"light guidance leaves out guidance by a condition at some noise levels, and this run {why}: leave it out"
        )
    method: Any = methods[0]
    if method.interval is not None:
        raise ValueError(
            f"the guidance of this run has an interval, {method.interval}: leave light guidance out, or the interval"
        )
    found = _kept_interval(model, light, run)
    if found is None:
        found = measured_interval(model, light, run)
        _keep_interval(model, light, run, found)
        say(f"light guidance, measured on {MEASURED} samples: {found.line()}")
    changed = (
        replace(method, weight=method.neutral) if found.high == 0 else replace(method, interval=(found.low, found.high))
    )
    guidance = tuple(changed if one is method else one for one in model.sampling.guidance)
    return replace(model, sampling=replace(model.sampling, guidance=guidance))


@torch.no_grad()
def measured_interval(model: RunModel, light: GuidanceInterval, run: Run | None) -> Interval:
    """The noise levels between the first and the last one of the run's grid at which guidance changes the mean of the clean
    data by more than the tolerance.

    Raises:
        ValueError: there is no data, or samples do not begin with a draw."""
    if run is None:
        raise ValueError("light guidance is measured on the run's data: name the run")
    train, val = run.open_data()
    context = RequestContext(model=model, data=lambda: (train, val), count=MEASURED, seed=SEED, batch=MEASURED)
    request = next(model.modality.plan_like(train, context))
    if not isinstance(request, Draw):
        raise ValueError("light guidance is measured on a draw, and samples of this run begin with a prediction")
    sampling = model.sampling
    method = next(one for one in active(sampling.guidance) if hasattr(one, "interval"))
    without = replace(sampling, guidance=tuple(one for one in sampling.guidance if one is not method))
    process: Any = model.parts.process
    guiding, bare = guided(model.built, sampling), guided(model.built, without)
    changes = dict[float, float]()

    def measuring(x_t: Tensor, t: Tensor, condition: Any) -> Any:
        q: Any = guiding(x_t, t, condition)
        other: Any = bare(x_t, t, condition)
        level = float(rho(process.schedule, t.double()).max())
        change = (q.mean - other.mean).square().mean().sqrt() / process.sigma_data
        changes[level] = max(float(change), changes.get(level, 0.0))
        return q

    model.parts.network.eval()
    begun = begin(model.built, request, torch.arange(len(request.seeds)))
    for _ in sample(begun.sampler, process, measuring, begun.state, begun.condition):
        pass
    return interval_of(changes, light.tolerance)


def interval_of(changes: dict[float, float], tolerance: float) -> Interval:
    """The interval from the change of the mean at each noise level; its ends are between two levels."""
    levels = sorted(changes)
    matters = [i for i, level in enumerate(levels) if changes[level] > tolerance]
    if not matters:
        return Interval(low=0.0, high=0.0, saved=1.0)
    first, last = matters[0], matters[-1]
    low = 0.0 if first == 0 else math.sqrt(levels[first - 1] * levels[first])
    high = math.inf if last == len(levels) - 1 else math.sqrt(levels[last] * levels[last + 1])
    return Interval(low=low, high=high, saved=1 - (last - first + 1) / len(levels))


def _key(model: RunModel, light: GuidanceInterval) -> str:
    """What an interval was measured for: weights, sampler, steps, grid and guidance."""
    s = model.sampling
    return f"{model.data_fingerprint} {s.ema} {describe(s.sampler)} {s.steps} {s.grid} {s.guidance} {light.tolerance:g}"


def _kept_interval(model: RunModel, light: GuidanceInterval, run: Run | None) -> Interval | None:
    """The interval that was measured before; None for none, or one of other weights, as adapters make them."""
    if model.adapters:
        return None
    try:
        assert run is not None
        found = json.loads(read_regular(run.path / FILE, most=2**20))
        kept = found["intervals"].get(_key(model, light)) if found["step"] == run.last_step else None
        return None if kept is None else Interval(low=float(kept[0]), high=float(kept[1]), saved=float(kept[2]))
    except (AssertionError, OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None


def _keep_interval(model: RunModel, light: GuidanceInterval, run: Run | None, found: Interval) -> None:
    """Write an interval into the run, if it is writable."""
    if run is None or model.adapters:
        return
    try:
        before = json.loads(read_regular(run.path / FILE, most=2**20))
        intervals = dict(before["intervals"]) if before["step"] == run.last_step else {}
    except (OSError, ValueError, KeyError, TypeError):
        intervals = {}
    values = [str(value) for value in (found.low, found.high, found.saved)]  # JSON has no infinity
    content = {"step": run.last_step, "intervals": {**intervals, _key(model, light): values}}
    with suppress(OSError):
        write_atomic(run.path / FILE, json.dumps(content, indent=1).encode())
