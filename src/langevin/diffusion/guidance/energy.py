"""Guidance by any function of a sample that can be differentiated: a classifier, a rule as a penalty, a user's taste.

    D + w (sigma^2 / alpha) grad_{x_t} l,   l = ln p(y | x_t) known at every noise level, or l(D(x_t)) of clean data

The first, noise-conditioned, is exact ("Diffusion Models Beat GANs on Image Synthesis", 2021, arXiv:2105.05233). The second
takes ln p(y | x_t) to be ln p(y | x = D), as of a posterior without spread ("Universal Guidance for Diffusion Models",
2023, arXiv:2302.07121): it needs no training, and pulls too hard where little is known.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.float64 import to_float64
from langevin.diffusion.posterior import Point, Prediction
from langevin.diffusion.process.gaussian import Gaussian
from langevin.diffusion.shape import append_dims

LogLikelihood = Callable[[Tensor, Tensor], Tensor]  # (x (b, ...), t (b,)) -> l (b,)


@dataclass(frozen=True, kw_only=True)
class EnergyGuided:
    """`denoiser` guided by `log_likelihood`, for `Draw.wrap`; see the module.

    Args:
        log_likelihood: l, from (x_t, t), or from (D, t) with `of="clean"`; (b,), each of its own sample alone.
        weight: w; 0 is `denoiser` itself.
        of: what l is a function of.

    Raises:
        ValueError: (when called) a prediction that is not a mean, or l of another shape or without a gradient.
    """

    denoiser: Denoiser[Prediction]
    process: Gaussian
    log_likelihood: LogLikelihood
    weight: float = 1.0
    of: Literal["clean", "noisy"] = "clean"

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Prediction:
        if self.weight == 0:
            return self.denoiser(x_t, t, condition)
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            q = self.denoiser(x if self.of == "clean" else x_t, t, condition)
            if not isinstance(q, Point):
                raise ValueError("a log-likelihood guides the mean of continuous data")
            value = self.log_likelihood(q.mean if self.of == "clean" else x, t)
            if value.shape != t.shape[:1]:
                raise ValueError(f"a log-likelihood is one number a sample, (b,), got {tuple(value.shape)}")
            if not value.requires_grad:
                raise ValueError("the log-likelihood has no gradient in the sample: weigh particles by it instead")
            slope = torch.autograd.grad(value.sum(), x)[0]
        alpha, sigma = self.process.schedule.alpha(to_float64(t)), self.process.schedule.sigma(to_float64(t))
        scale = torch.where(alpha < 1e-5 * sigma, 0.0, sigma * sigma / alpha.clamp_min(1e-30))
        return Point(q.mean.detach() + self.weight * append_dims(scale, x_t).to(x_t) * slope)
