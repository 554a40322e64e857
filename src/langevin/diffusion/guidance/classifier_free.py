"""Classifier-free guidance: D = D_u + w (D_c - D_u) ("Classifier-Free Diffusion Guidance", 2022), with the weight
switched on within an interval of noise levels only ("Applying Guidance in a Limited Interval Improves Sample and
Distribution Quality", 2024).

It sharpens; it does not sample the tilted law p(x) p(c | x)^w, as its closed form on Gaussians shows.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition, join
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.posterior import Posterior
from langevin.diffusion.schedule import AnySchedule, rho
from langevin.diffusion.shape import each, right_pad


@dataclass(frozen=True, kw_only=True)
class ClassifierFree:
    """`denoiser` guided by the weights in `condition.guidance` (b,): 1 is the conditional answer, 0 the unconditional one.

    Rows of weight 1, or outside the interval, cost nothing more. The unconditional questions of the other rows are asked
    in the same network call. Where places have times of their own, each is inside the interval or not by itself.

    Args:
        denoiser: trained with its condition withheld at random.
        schedule: to know the noise level of a time.
        interval: guide where low < sigma / alpha <= high.

    Raises:
        ValueError: an interval that is none, or (when called) a weight that is not finite.
    """

    denoiser: Denoiser
    schedule: AnySchedule
    interval: tuple[float, float] = (0.0, float("inf"))

    def __post_init__(self) -> None:
        low, high = self.interval
        if not 0 <= low < high:
            raise ValueError(f"the guidance interval is low < high in units of sigma / alpha, got {self.interval}")

    def __call__(self, x_t: Any, t: Tensor, condition: Condition | None = None) -> Posterior:
        if condition is None or condition.guidance is None:
            return self.denoiser(x_t, t, condition)
        ratio = rho(self.schedule, t.double())
        inside = (ratio > self.interval[0]) & (ratio <= self.interval[1])
        asked = condition.guidance.double()
        if not bool(torch.isfinite(asked).all()):
            raise ValueError(f"guidance weights must be finite, got {asked[~torch.isfinite(asked)][0].item()}")
        weight = torch.where(inside, right_pad(asked, ratio), 1.0)  # (b,) or (b, places)
        guided = (weight != 1).reshape(len(t), -1).any(1).nonzero()[:, 0]
        if len(guided) == 0:
            return self.denoiser(x_t, t, condition)
        more = condition.rows(guided).dropped()

        def doubled(part: Tensor) -> Tensor:
            return torch.cat([part, part[guided]])

        both = self.denoiser(each(doubled, x_t), doubled(t), join(condition, more))
        rows = torch.arange(len(t), device=t.device)
        reference = rows.clone()
        reference[guided] = len(t) + torch.arange(len(guided), device=t.device)
        return both.rows(rows).toward(both.rows(reference), weight)
