"""CFG-Zero*: classifier-free guidance of velocities, with the unconditional one scaled to fit ("CFG-Zero*: Improved
Classifier-Free Guidance for Flow Matching Models", 2025, arXiv:2503.18886).

    v = s v_u + w (v_c - s v_u),   s = <v_c, v_u> / |v_u|^2,   and v = 0 over the first steps

The velocity dx_t / dt = a D + b eps, with (a, b) the schedule's tangent, is affine in D: v = k D + (b / sigma) x_t with
k = a - b alpha / sigma. So the method guides any prediction.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.float64 import to_float64
from langevin.diffusion.guidance.classifier_free import ClassifierFree
from langevin.diffusion.guidance.method import Models, require_gaussian, require_usual
from langevin.diffusion.measurement.operator import dot
from langevin.diffusion.posterior import Point, Prediction
from langevin.diffusion.schedule import AnySchedule
from langevin.diffusion.shape import append_dims


@dataclass(frozen=True, kw_only=True)
class ZeroStarGuidance:
    """CFG-Zero*, see the module.

    Args:
        weight: w; 1 is the conditional prediction.
        interval: guide where low < sigma / alpha <= high; None is everywhere.
        zero: the share of time, from pure noise on, in which the velocity is 0.

    Raises:
        ValueError: a number out of range, or an empty interval.
    """

    kind: Literal["zero_star"] = "zero_star"
    weight: float
    interval: tuple[float, float] | None = None
    zero: float = 0.04

    def __post_init__(self) -> None:
        require_usual(self.weight, self.interval)
        if not 0 <= self.zero < 1:
            raise ValueError(f"the velocity is 0 over a share of time in [0, 1), got {self.zero}")

    @property
    def neutral(self) -> float:
        return 1.0

    def wrap(self, denoiser: Denoiser[Prediction], *, process: Any, models: Models) -> ClassifierFree:
        """See `Guidance.wrap`; needs a Gaussian process."""
        schedule = require_gaussian(process, self.kind).schedule
        combine = ZeroStar(schedule=schedule, zero=self.zero)
        return ClassifierFree(denoiser=denoiser, schedule=schedule, kind=self.kind, combine=combine)


@dataclass(frozen=True, kw_only=True)
class ZeroStar:
    """D of D_c, D_u and w, see the module."""

    schedule: AnySchedule
    zero: float

    def __call__(self, q: Point, reference: Point, weight: Tensor, x_t: Tensor, t: Tensor) -> Point:
        time = to_float64(t)
        alpha, sigma = self.schedule.alpha(time), self.schedule.sigma(time)
        a, b = self.schedule.tangent(time)
        still, early = (append_dims(there, x_t).to(x_t.device) for there in (sigma == 0, time > 1 - self.zero))
        share = b / torch.where(sigma == 0, 1.0, sigma)
        k, share = (append_dims(value, x_t).to(x_t) for value in (a - share * alpha, share))
        v_c, v_u = (k * mean + share * x_t for mean in (q.mean, reference.mean))
        s = append_dims(dot(v_c, v_u) / dot(v_u, v_u).clamp_min(1e-30), x_t) * v_u
        w = append_dims(weight, x_t).to(x_t)
        v = torch.where(early, 0.0, s + w * (v_c - s))
        return Point(torch.where((w == 1) | still, q.mean, (v - share * x_t) / k))
