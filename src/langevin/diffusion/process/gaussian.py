"""Gaussian diffusion: q(x_t | x) = N(alpha_t x, sigma_t^2 I).

The reverse step from t to s < t combines the estimated clean data D, the estimated noise z and fresh noise n ("Denoising
Diffusion Implicit Models", 2020, arXiv:2010.02502):

    z = (x_t - alpha_t D) / sigma_t,   x_s = alpha_s D + sqrt(sigma_s^2 - c^2) z + c n,
    c = eta sigma_s sqrt(1 - e^{-2h}),  e^{-h} = sigma_s alpha_t / (sigma_t alpha_s),
    sigma_s^2 - c^2 = sigma_s^2 (1 - eta^2 + eta^2 e^{-2h}).

eta = 1 is the posterior q(x_s | x_t, x = D); eta = 0 is a first-order step of the probability flow.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from langevin.diffusion.float64 import float64_device, to_float64
from langevin.diffusion.memoise import MemoisedByTime
from langevin.diffusion.noise import Noise
from langevin.diffusion.posterior import Point
from langevin.diffusion.process.terms import Terms
from langevin.diffusion.schedule import AnySchedule, Rectified
from langevin.diffusion.shape import append_dims


def reverse_step(schedule: AnySchedule, t: Tensor, s: Tensor, eta: float) -> tuple[Tensor, Tensor, Tensor]:
    """(a, b, c) of x_s = a x_t + b D + c n, float64, elementwise in t and s; (1, 0, 0) where t = 0 or s = t.

    With eta = 0 s may also be above t, for steps from data to noise."""
    alpha_t, sigma_t, alpha_s, sigma_s = schedule.alpha(t), schedule.sigma(t), schedule.alpha(s), schedule.sigma(s)
    still = sigma_t == 0
    decay = sigma_s * alpha_t / (torch.where(still, 1.0, sigma_t) * alpha_s)  # e^{-h}; alpha_s > 0 as s < 1
    c = eta * sigma_s * (1 - decay * decay).clamp_min(0).sqrt()
    kept = (1 - eta * eta + (eta * decay) ** 2).sqrt() if eta else 1.0  # sqrt(sigma_s^2 - c^2) / sigma_s
    a = sigma_s * kept / torch.where(still, 1.0, sigma_t)
    b = alpha_s - a * alpha_t
    same = still | (s == t)
    return torch.where(same, 1.0, a), torch.where(same, 0.0, b), torch.where(same, 0.0, c)


@lru_cache(maxsize=256)
def _ancestral(schedule: AnySchedule) -> MemoisedByTime:
    def numbers(t: Tensor, s: Tensor) -> tuple[Tensor, ...]:
        return reverse_step(schedule, t, s, 1.0)

    return MemoisedByTime(numbers)


@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """q(x_t | x) = N(alpha_t x, sigma_t^2 I): x_t = alpha_t x + sigma_t eps, for data x (b, ...).

    "Denoising Diffusion Probabilistic Models" (2020, arXiv:2006.11239); in continuous time "Variational Diffusion Models"
    (2021, arXiv:2107.00630).

    Args:
        schedule: alpha(t) and sigma(t).
        sigma_data: standard deviation of the data, for the prior at the start of a grid.

    Raises:
        ValueError: a sigma_data that is not positive and finite.
    """

    kind: Literal["gaussian"] = "gaussian"
    schedule: AnySchedule = Rectified()
    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.sigma_data < float("inf"):
            raise ValueError(f"sigma_data is a standard deviation: positive and finite, got {self.sigma_data}")

    def scales(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """alpha_t and sigma_t, computed in float64, with the type and device of `like`, to be broadcast over it."""
        alpha, sigma = self.schedule.alpha(to_float64(t)), self.schedule.sigma(to_float64(t))
        return append_dims(alpha, like).to(like), append_dims(sigma, like).to(like)

    def prior(self, like: Tensor, noise: Noise, t: Tensor | None = None) -> Tensor:
        """A draw from N(0, alpha_t^2 sigma_data^2 + sigma_t^2) at t (default 1): q(x_t) for Gaussian data of mean 0."""
        t = torch.ones(len(like), dtype=torch.float64, device=float64_device(like.device)) if t is None else t
        alpha, sigma = self.schedule.alpha(to_float64(t)), self.schedule.sigma(to_float64(t))
        scale = (alpha * alpha * self.sigma_data**2 + sigma * sigma).sqrt()
        return noise.normal(like) * append_dims(scale, like).to(like)

    def corrupt(self, x: Tensor, t: Tensor, noise: Noise, known: Tensor | None = None) -> Tensor:
        """x_t = alpha_t x + sigma_t eps; elements in `known` stay clean."""
        alpha, sigma = self.scales(t, x)
        x_t = torch.addcmul(alpha * x, sigma, noise.normal(x))
        return x_t if known is None else torch.where(known, x, x_t)

    def transition(self, q: Point, x_t: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        """x_s ~ q(x_s | x_t, x = D), the ancestral step with the posterior variance."""
        a, b, c = append_dims(_ancestral(self.schedule)(to_float64(t), to_float64(s)), x_t[None]).to(x_t)
        return (a * x_t).addcmul_(b, q.mean).addcmul_(c, noise.normal(x_t))

    def bound(self, q: Point, x: Tensor, x_t: Tensor, t: Tensor) -> Terms:
        """prior = KL(q(x_1 | x) || prior), diffusion = -SNR'(t) / 2 |x - D|^2 (arXiv:2107.00630).

        If the times end at t_0 > 0, the bound also needs E[-ln p(x | x_{t_0})], which `likelihood` computes."""
        one = torch.ones(1, dtype=torch.float64, device=float64_device(x.device))
        alpha_1, sigma_1 = self.schedule.alpha(one), self.schedule.sigma(one)
        variance = alpha_1.square() * self.sigma_data**2 + sigma_1.square()
        ratio = sigma_1.square() / variance
        prior = 0.5 * (ratio + (alpha_1 * to_float64(x)).square() / variance - 1 - ratio.log())
        time = to_float64(t)
        log_snr = self.schedule.log_snr(time)
        slope = -0.5 * self.schedule.rate(time) * log_snr.exp()  # -SNR' / 2
        slope = torch.where(log_snr.isfinite(), slope, 0.0)  # 0 where no signal or no noise is left
        diffusion = append_dims(slope, x) * to_float64(q.error(x))
        return Terms(prior=prior, diffusion=diffusion, reconstruction=torch.zeros_like(prior))
