"""Gaussian diffusion: q(x_t | x) = N(alpha_t x, sigma_t^2 I) ("Denoising Diffusion Probabilistic Models", 2020).

The step back from t to s < t keeps the estimated clean data and part of the estimated noise, and adds fresh noise for
the rest ("Denoising Diffusion Implicit Models", 2021):

    z = (x_t - alpha_t D) / sigma_t,   x_s = alpha_s D + sqrt(sigma_s^2 - c^2) z + c n,
    c = eta sigma_s sqrt(1 - e^{-2h}),  e^{-h} = sigma_s alpha_t / (sigma_t alpha_s),
    sigma_s^2 - c^2 = sigma_s^2 (1 - eta^2 + eta^2 e^{-2h}).

eta = 1 is the exact posterior q(x_s | x_t, x = D), eta = 0 is the probability flow to first order.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from langevin.diffusion.noise import Noise
from langevin.diffusion.posterior import Point
from langevin.diffusion.process.terms import Terms
from langevin.diffusion.remember import Remembered
from langevin.diffusion.schedule import AnySchedule, Rectified
from langevin.diffusion.shape import right_pad


def step_back(schedule: AnySchedule, t: Tensor, s: Tensor, eta: float) -> tuple[Tensor, Tensor, Tensor]:
    """(a, b, c) of x_s = a x_t + b D + c n, float64, elementwise in t and s; identity where t = 0.

    With eta = 0 s may also lie above t: the way from data to noise."""
    alpha_t, sigma_t, alpha_s, sigma_s = schedule.alpha(t), schedule.sigma(t), schedule.alpha(s), schedule.sigma(s)
    still = sigma_t == 0
    decay = sigma_s * alpha_t / (torch.where(still, 1.0, sigma_t) * alpha_s)  # e^{-h}; alpha_s > 0 as s < 1
    c = eta * sigma_s * (1 - decay * decay).clamp_min(0).sqrt()
    kept = (1 - eta * eta + (eta * decay) ** 2).sqrt() if eta else 1.0
    a = sigma_s * kept / torch.where(still, 1.0, sigma_t)
    b = alpha_s - a * alpha_t
    same = still | (s == t)
    return torch.where(same, 1.0, a), torch.where(same, 0.0, b), torch.where(same, 0.0, c)


@lru_cache(maxsize=256)
def _ancestral(schedule: AnySchedule) -> Remembered:
    def numbers(t: Tensor, s: Tensor) -> tuple[Tensor, ...]:
        return step_back(schedule, t, s, 1.0)

    return Remembered(numbers)


@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """The Gaussian process of a schedule; see the module.

    Args:
        schedule: alpha(t) and sigma(t).
        sigma_data: standard deviation of the data, used for the law of x_t at the start of a grid.
    """

    kind: Literal["gaussian"] = "gaussian"
    schedule: AnySchedule = Rectified()
    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.sigma_data < float("inf"):
            raise ValueError(f"sigma_data is a standard deviation: positive and finite, got {self.sigma_data}")

    def scales(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """alpha_t and sigma_t, computed in float64, in the type of `like` and padded to it."""
        alpha, sigma = self.schedule.alpha(t.double()), self.schedule.sigma(t.double())
        return right_pad(alpha, like).to(like.dtype), right_pad(sigma, like).to(like.dtype)

    def prior(self, like: Tensor, noise: Noise, t: Tensor | None = None) -> Tensor:
        """Start of sampling: N(0, alpha_t^2 sigma_data^2 + sigma_t^2) at t (default 1), the law of x_t but for its mean."""
        t = torch.ones(len(like), dtype=torch.float64, device=like.device) if t is None else t
        alpha, sigma = self.schedule.alpha(t.double()), self.schedule.sigma(t.double())
        scale = (alpha * alpha * self.sigma_data**2 + sigma * sigma).sqrt()
        return noise.normal(like) * right_pad(scale, like).to(like.dtype)

    def corrupt(self, x: Tensor, t: Tensor, noise: Noise, known: Tensor | None = None) -> Tensor:
        """x_t = alpha_t x + sigma_t eps; places in `known` stay clean."""
        alpha, sigma = self.scales(t, x)
        x_t = torch.addcmul(alpha * x, sigma, noise.normal(x))
        return x_t if known is None else torch.where(known, x, x_t)

    def transition(self, q: Point, x_t: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        """x_s ~ q(x_s | x_t, x = E[x | x_t]), the ancestral step with the posterior variance."""
        a, b, c = right_pad(_ancestral(self.schedule)(t.double(), s.double()), x_t[None]).to(x_t.dtype)
        return (a * x_t).addcmul_(b, q.mean).addcmul_(c, noise.normal(x_t))

    def bound(self, q: Point, x: Tensor, x_t: Tensor, t: Tensor) -> Terms:
        """prior = KL(q(x_1 | x) || prior), diffusion = -SNR'(t) / 2 |x - D|^2 ("Variational Diffusion Models", 2021).

        Started at a smallest time t_0, the sum lacks E[-ln p(x | x_{t_0})], the end term of `Terms`."""
        one = torch.ones(1, dtype=torch.float64, device=x.device)
        alpha_1, sigma_1 = self.schedule.alpha(one), self.schedule.sigma(one)
        variance = alpha_1.square() * self.sigma_data**2 + sigma_1.square()
        ratio = sigma_1.square() / variance
        prior = 0.5 * (ratio + (alpha_1 * x.double()).square() / variance - 1 - ratio.log())
        time = t.double()
        log_snr = self.schedule.log_snr(time)
        slope = -0.5 * self.schedule.rate(time) * log_snr.exp()  # -SNR' / 2
        slope = torch.where(log_snr.isfinite(), slope, 0.0)  # nothing is left of the data, or (t = 0) all is known
        diffusion = right_pad(slope, x) * q.error(x).double()
        return Terms(prior=prior, diffusion=diffusion, reconstruction=torch.zeros_like(prior))
