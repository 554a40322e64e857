"""Several conditions at once: D + sum_i w_i (D_i - D_u), "and" for a positive weight and "not" for a negative one
("Compositional Visual Generation with Composable Diffusion Models", 2022, arXiv:2206.01714).

D is the prediction of the methods inside, under the condition itself; D_i is that under the further condition i alone, and
D_u that without any. The scores of the densities p(x_t) (p(x_t | c_i) / p(x_t))^w_i add up; as for classifier-free
guidance, samples have that density at no noise only if the conditions are Gaussians of one covariance.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition, join
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.guidance.method import Models, require_gaussian, require_usual, weight_at
from langevin.diffusion.posterior import Point, Prediction
from langevin.diffusion.schedule import AnySchedule
from langevin.diffusion.shape import append_dims


@dataclass(frozen=True, kw_only=True)
class Composition:
    """Guidance by the further conditions of `condition.further`, see the module.

    Args:
        weight: of all of them, times their own; 0 is none.
        interval: guide where low < sigma / alpha <= high; None is everywhere.

    Raises:
        ValueError: a weight that is not finite, or an empty interval.
    """

    kind: Literal["composition"] = "composition"
    weight: float = 1.0
    interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        require_usual(self.weight, self.interval)

    @property
    def neutral(self) -> float:
        return 0.0

    def wrap(self, denoiser: Denoiser[Prediction], *, process: Any, models: Models) -> "Composed":
        """See `Guidance.wrap`; needs a Gaussian process."""
        return Composed(denoiser=denoiser, schedule=require_gaussian(process, self.kind).schedule)


@dataclass(frozen=True, kw_only=True)
class Composed:
    """`denoiser` guided by `condition.further`, with the weights `condition.guidance["composition"]`.

    All further predictions are of one network call.

    Raises:
        ValueError: (when called) a prediction that is not a mean, or a weight that is not finite.
    """

    denoiser: Denoiser[Prediction]
    schedule: AnySchedule

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Prediction:
        guidance = None if condition is None else condition.guidance.get("composition")
        if condition is None or guidance is None or not condition.further:
            return self.denoiser(x_t, t, condition)
        further, condition_ = condition.further, condition.alone()
        weight = weight_at(guidance, t, self.schedule, neutral=0.0)
        q = self.denoiser(x_t, t, condition_)
        if weight is None:
            return q
        if not isinstance(q, Point):
            raise ValueError("conditions are composed for continuous data, whose prediction is a mean")
        plain = condition_.unguided()
        every = join(
            plain.dropped(), *(plain.under(one.ports) for one in further), counts=[len(t)] * (len(further) + 1)
        )
        n = len(further) + 1
        several = self.denoiser(x_t.repeat(n, *(1,) * (x_t.ndim - 1)), t.repeat(n, *(1,) * (t.ndim - 1)), every)
        assert isinstance(several, Point)
        means = several.mean.reshape(n, *x_t.shape)
        change = torch.zeros_like(q.mean)
        for i, one in enumerate(further, 1):
            change += append_dims(one.weight, change).to(change) * (means[i] - means[0])
        return Point(q.mean + append_dims(weight, change).to(change) * change)
