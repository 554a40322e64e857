"""The protocol of a guidance method, and extrapolation from a reference prediction:

reference + w (q - reference),   by `Prediction.extrapolate_from`; w = 1 is q itself
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition, GuidanceWeight, join
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.float64 import float64_device, to_float64
from langevin.diffusion.posterior import Prediction
from langevin.diffusion.process.gaussian import Gaussian
from langevin.diffusion.process.sde.process import SDE
from langevin.diffusion.schedule import AnySchedule, rho
from langevin.diffusion.shape import append_dims, tree_map


@dataclass(frozen=True, kw_only=True)
class OtherModel:
    """A reference to a model that guidance needs in addition to the guided one.

    Args:
        run: path of a run or of one of its checkpoints; None is the guided model's own run.
        ema: EMA length of its weights, 0 for the weights themselves; None is the run's setting.
    """

    run: str | None = None
    ema: float | None = None


Models = Callable[[OtherModel], Denoiser[Prediction]]  # loads other models; raises ValueError if there is none


class Guidance(Protocol):
    """The configuration of a guidance method: a frozen dataclass with a `kind`, a `weight` and, for some, an `interval`."""

    @property
    def kind(self) -> str:
        """The method's name, and the key of its weights in `Condition.guidance`."""
        ...

    @property
    def weight(self) -> float:
        """The default weight of a sample."""
        ...

    @property
    def neutral(self) -> float:
        """The weight that is no guidance."""
        ...

    def wrap(self, denoiser: Denoiser[Prediction], *, process: Any, models: Models) -> Denoiser[Prediction]:
        """`denoiser` guided with the weights in `condition.guidance[kind]`.

        With the neutral weight it equals `denoiser` exactly. Samples stay independent.

        Args:
            process: that of the denoiser.
            models: loads the other models that the method needs.

        Raises:
            ValueError: the process does not fit the method, or a model is not found."""
        ...


def uniform_weights(method: Guidance, count: int, device: torch.device | None) -> GuidanceWeight:
    """The weight and the interval of a method, for `count` samples on `device`."""
    host = None if device is None else float64_device(device)
    weight, interval = method.weight, getattr(method, "interval", None)
    return GuidanceWeight(
        weight=torch.full((count,), weight, dtype=torch.float64, device=host),
        interval=None
        if interval is None
        else torch.tensor(interval, dtype=torch.float64, device=host).repeat(count, 1),
    )


def require_usual(weight: float, interval: tuple[float, float] | None = None) -> None:
    """Check a configured weight and interval.

    Raises:
        ValueError: a weight beyond 10,000, with which predictions may overflow, or an empty interval."""
    if not -10_000 <= weight <= 10_000:
        raise ValueError(f"guidance must be a finite number of at most 10,000 (1 is no guidance), got {weight}")
    if interval is not None and not 0 <= interval[0] < interval[1]:
        raise ValueError(f"a guidance interval needs 0 <= low < high in units of sigma / alpha, got {interval}")


def schedule_of(process: Any) -> AnySchedule | None:
    """The schedule of a process with noise levels; None for others."""
    return process.schedule if isinstance(process, Gaussian | SDE) else None


def require_gaussian(process: Any, kind: str) -> Gaussian:
    """The process, for a method of a Gaussian process. Raises `ValueError` if it is another one."""
    if not isinstance(process, Gaussian):
        name = getattr(process, "kind", type(process).__name__)
        raise ValueError(f"{kind} guides continuous data under Gaussian noise, and this process is {name}")
    return process


def weight_at(
    guidance: GuidanceWeight, t: Tensor, schedule: AnySchedule | None, *, neutral: float = 1.0
) -> Tensor | None:
    """The weight at time t, float64, shaped like t: `neutral` outside a sample's interval; None where it is so everywhere.

    Raises:
        ValueError: a weight that is not finite, an empty interval, or an interval without noise levels."""
    weight, interval = to_float64(guidance.weight), to_float64(guidance.intervals())
    if not bool(torch.isfinite(weight).all()):
        raise ValueError(f"guidance weights must be finite, got {weight[~torch.isfinite(weight)][0].item()}")
    if schedule is None:
        if guidance.interval is not None:
            raise ValueError(
                "a guidance interval is in units of sigma / alpha, which this process does not have: leave it out"
            )
        weight = append_dims(weight, t).expand_as(t)
    else:
        low, high = (append_dims(end, t) for end in interval.unbind(1))
        if not bool(((low >= 0) & (low < high)).all()):
            low, high = interval[~((interval[:, 0] >= 0) & (interval[:, 0] < interval[:, 1]))][0]
            raise ValueError(
                f"a guidance interval needs 0 <= low < high in units of sigma / alpha, got ({low.item()}, {high.item()})"
            )
        ratio = rho(schedule, to_float64(t))
        weight = torch.where((ratio > low) & (ratio <= high), append_dims(weight, t), neutral)
    return weight if bool((weight != neutral).any()) else None


def with_reference(
    denoiser: Denoiser[Prediction], x_t: Any, t: Tensor, condition: Condition, weight: Tensor,
    second: Callable[[Tensor], tuple[Any, Condition]],
) -> tuple[Prediction, Prediction]:  # fmt: skip
    """The prediction and a reference prediction, from one network call.

    The reference is evaluated for samples whose weight is not 1 only; for others it is the prediction itself.

    Args:
        condition: of the prediction.
        weight: (b,) or (b, positions), float64.
        second: from the indices (m,) int64 of the guided samples to the input of their reference, (x_t, condition).
    """
    guided = (weight != 1).reshape(len(t), -1).any(1).nonzero()[:, 0]
    other, other_condition = second(guided)

    def both(a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([a, b])

    q = denoiser(tree_map(both, x_t, other), both(t, t[guided]), join(condition, other_condition))
    samples = torch.arange(len(t), device=t.device)
    reference = samples.clone()
    reference[guided] = len(t) + torch.arange(len(guided), device=t.device)
    return q.select(samples), q.select(reference)
