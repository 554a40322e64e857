"""Adaptive projected guidance: classifier-free guidance without what only raises contrast ("Eliminating Oversaturation and
Artifacts of High Guidance Scales in Diffusion Models", 2024, arXiv:2410.02416).

    D = D_c + (w - 1) (d - (1 - eta) d_p),   d = (D_c - D_u) min(1, r / |D_c - D_u|),   d_p = <d, D_c> / |D_c|^2 D_c

The paper's momentum between steps is left out: a denoiser has no memory.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.guidance.classifier_free import ClassifierFree
from langevin.diffusion.guidance.method import Models, require_gaussian, require_usual
from langevin.diffusion.measurement.operator import dot
from langevin.diffusion.posterior import Point, Prediction
from langevin.diffusion.shape import append_dims


@dataclass(frozen=True, kw_only=True)
class ProjectedGuidance:
    """Adaptive projected guidance, see the module.

    Args:
        weight: w; 1 is the conditional prediction.
        interval: guide where low < sigma / alpha <= high; None is everywhere.
        parallel: eta, the share of the part parallel to D_c that is kept; with 1, and no radius, it is classifier-free.
        radius: r, the largest norm of a difference; None is no limit.

    Raises:
        ValueError: a number out of range, or an empty interval.
    """

    kind: Literal["projected"] = "projected"
    weight: float
    interval: tuple[float, float] | None = None
    parallel: float = 0.0
    radius: float | None = None

    def __post_init__(self) -> None:
        require_usual(self.weight, self.interval)
        if not 0 <= self.parallel <= 1 or (self.radius is not None and not self.radius > 0):
            raise ValueError(
                f"projected guidance takes a parallel share in [0, 1] and a positive radius, got {self.parallel} and "
                f"{self.radius}"
            )

    @property
    def neutral(self) -> float:
        return 1.0

    def wrap(self, denoiser: Denoiser[Prediction], *, process: Any, models: Models) -> ClassifierFree:
        """See `Guidance.wrap`; needs a Gaussian process."""
        schedule = require_gaussian(process, self.kind).schedule
        return ClassifierFree(denoiser=denoiser, schedule=schedule, kind=self.kind, combine=self.combine)

    def combine(self, q: Point, reference: Point, weight: Tensor, x_t: Tensor, t: Tensor) -> Point:
        """D of D_c, D_u and w."""
        d = q.mean - reference.mean
        if self.radius is not None:
            d = d * append_dims((self.radius / dot(d, d).sqrt().clamp_min(1e-30)).clamp_max(1), d)
        share = dot(d, q.mean) / dot(q.mean, q.mean).clamp_min(1e-30)
        change = d - (1 - self.parallel) * append_dims(share, d) * q.mean
        w = append_dims(weight, d).to(d)
        return Point(torch.where(w == 1, q.mean, q.mean + (w - 1) * change))
