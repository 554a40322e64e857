"""Rescaled guidance: classifier-free guidance that keeps the standard deviation of the conditional prediction ("Common
Diffusion Noise Schedules and Sample Steps are Flawed", 2023, arXiv:2305.08891).

    D = (phi std(D_c) / std(D_w) + 1 - phi) D_w,   D_w = D_u + w (D_c - D_u), with the std of each sample
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.guidance.classifier_free import ClassifierFree
from langevin.diffusion.guidance.method import Models, require_gaussian, require_usual
from langevin.diffusion.posterior import Point, Prediction
from langevin.diffusion.shape import append_dims


@dataclass(frozen=True, kw_only=True)
class RescaledGuidance:
    """Rescaled classifier-free guidance, see the module.

    Args:
        weight: w; 1 is the conditional prediction.
        interval: guide where low < sigma / alpha <= high; None is everywhere.
        rescale: phi, in [0, 1]; 0 is classifier-free.

    Raises:
        ValueError: a number out of range, or an empty interval.
    """

    kind: Literal["rescaled"] = "rescaled"
    weight: float
    interval: tuple[float, float] | None = None
    rescale: float = 0.7

    def __post_init__(self) -> None:
        require_usual(self.weight, self.interval)
        if not 0 <= self.rescale <= 1:
            raise ValueError(f"guidance is rescaled by a share in [0, 1], got {self.rescale}")

    @property
    def neutral(self) -> float:
        return 1.0

    def wrap(self, denoiser: Denoiser[Prediction], *, process: Any, models: Models) -> ClassifierFree:
        """See `Guidance.wrap`; needs a Gaussian process."""
        schedule = require_gaussian(process, self.kind).schedule
        return ClassifierFree(denoiser=denoiser, schedule=schedule, kind=self.kind, combine=self.combine)

    def combine(self, q: Point, reference: Point, weight: Tensor, x_t: Tensor, t: Tensor) -> Point:
        """D of D_c, D_u and w."""
        guided = q.extrapolate_from(reference, weight).mean
        own, new = (mean.flatten(1).std(1, correction=0) for mean in (q.mean, guided))
        factor = self.rescale * own / new.clamp_min(1e-30) + 1 - self.rescale
        return Point(
            torch.where(append_dims(weight, guided).to(guided) == 1, q.mean, append_dims(factor, guided) * guided)
        )
