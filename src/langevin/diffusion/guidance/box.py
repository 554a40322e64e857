"""A denoiser whose means lie in a box: E[x | x_t] of data within [low, high] lies there too."""

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.guidance.method import Models, require_gaussian, require_usual, weight_at
from langevin.diffusion.posterior import Point, Prediction
from langevin.diffusion.process.gaussian import Gaussian
from langevin.diffusion.shape import append_dims


@dataclass(frozen=True, kw_only=True)
class Box:
    """Projection of the mean onto a box, which keeps guidance from driving it out of the range of data.

    Args:
        low, high: the range.
        weight: 1 is the projection, 0 none.
        interval: project where low < sigma / alpha <= high; None is everywhere.

    Raises:
        ValueError: a number out of range, or an empty box.
    """

    kind: Literal["box"] = "box"
    low: float = -1.0
    high: float = 1.0
    weight: float = 1.0
    interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        require_usual(self.weight, self.interval)
        if not self.low < self.high:
            raise ValueError(f"a box needs low < high, got {self.low} and {self.high}")

    @property
    def neutral(self) -> float:
        return 0.0

    def wrap(self, denoiser: Denoiser[Prediction], *, process: Any, models: Models) -> "Boxed":
        """See `Guidance.wrap`; needs a Gaussian process."""
        return Boxed(denoiser=denoiser, process=require_gaussian(process, self.kind), low=self.low, high=self.high)


@dataclass(frozen=True, kw_only=True)
class Boxed:
    """`denoiser` with its mean in [low, high], by `condition.guidance["box"]`.

    Raises:
        ValueError: (when called) a prediction that is not a mean.
    """

    denoiser: Denoiser[Prediction]
    process: Gaussian
    low: float
    high: float

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Prediction:
        q = self.denoiser(x_t, t, condition)
        guidance = None if condition is None else condition.guidance.get("box")
        weight = None if guidance is None else weight_at(guidance, t, self.process.schedule, neutral=0.0)
        if weight is None:
            return q
        if not isinstance(q, Point):
            raise ValueError("a box is for continuous data, whose prediction is a mean")
        inside = Point(q.mean.clamp(self.low, self.high))
        return inside.extrapolate_from(q, append_dims(weight, q.mean) if weight.ndim > 1 else weight)
