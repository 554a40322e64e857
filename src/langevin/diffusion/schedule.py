"""Noise schedules: x_t = alpha(t) x + sigma(t) eps, with t = 0 clean and t = 1 the prior.

A schedule is two positive functions of time, of which only the ratio matters: in the canonical coordinates y = x_t / alpha,
rho = sigma / alpha every schedule is the same variance-exploding one (arXiv:2206.00364). So each schedule defines

    log_snr(t) = ln(alpha^2 / sigma^2), falling in t (strictly where noise is added),  and  time(log_snr), its exact
    inverse (1 for noise beyond what the schedule reaches),

and grids, time densities and weightings are written in log-SNR. Times are float64 tensors of any shape; every method is
elementwise, and exact at both ends, where log-SNR may be infinite. A value must not depend on its index in a tensor. So
nothing here uses pow, sigmoid or logaddexp, whose vectorised code on a CPU rounds differently from the code for the
remainder of a vector (exp, log, sin and cos do not).

`tangent(t)` returns (a, b) of the velocity v = a x + b eps that a network predicts: parallel to d x_t / dt, with the
scale of the literature (flow matching eps - x, v-prediction alpha eps - sigma x).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

import torch
from torch import Tensor


class Schedule(Protocol):
    """alpha, sigma and what follows from them: elementwise functions of float64 tensors of any shape, t in [0, 1]."""

    def alpha(self, t: Tensor) -> Tensor:
        """The scale of the signal, in [0, 1]; 1 at t = 0."""
        ...

    def sigma(self, t: Tensor) -> Tensor:
        """The standard deviation of the noise, rising; 0 at t = 0."""
        ...

    def log_snr(self, t: Tensor) -> Tensor:
        """ln(alpha^2 / sigma^2), falling, in [-inf, inf]; inf at t = 0, -inf where alpha = 0."""
        ...

    def time(self, log_snr: Tensor) -> Tensor:
        """The inverse of `log_snr`: t in [0, 1]; 1 for log-SNR below the schedule's lowest."""
        ...

    def rate(self, t: Tensor) -> Tensor:
        """d log_snr / dt, at most 0; -inf where log_snr is infinite."""
        ...

    def tangent(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(a, b) of the velocity v = a x + b eps, finite on [0, 1]."""
        ...


def rho(schedule: Schedule, t: Tensor) -> Tensor:
    """The noise-to-signal ratio sigma / alpha, in [0, inf]: EDM's sigma."""
    return torch.exp(-0.5 * schedule.log_snr(t))


def time_of_rho(schedule: Schedule, ratio: Tensor) -> Tensor:
    """The inverse of `rho`; t = 1 for ratios above the schedule's highest."""
    return schedule.time(-2 * ratio.log()).clamp(0, 1)


def shifted(t: Tensor, schedule: Schedule, factor: float) -> Tensor:
    """The times at which sigma / alpha is `factor` times that at t, at most 1; 0 and 1 stay. Log-SNR falls by 2 ln factor.

    In the time of the rectified schedule t' = k t / (1 + (k - 1) t) with k the factor."""
    moved = schedule.time(schedule.log_snr(t) - 2 * math.log(factor)).clamp(0, 1)
    return torch.where((t == 0) | (t == 1), t, moved)


@dataclass(frozen=True, kw_only=True)
class Rectified:
    """alpha = 1 - t, sigma = t: straight paths from data to noise.

    "Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified Flow" (2022, arXiv:2209.03003)."""

    kind: Literal["rectified"] = "rectified"

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        return t

    def log_snr(self, t: Tensor) -> Tensor:
        return 2 * (torch.log1p(-t) - t.log())  # 2 ln((1 - t) / t)

    def time(self, log_snr: Tensor) -> Tensor:
        return 1 / (1 + torch.exp(0.5 * log_snr))

    def rate(self, t: Tensor) -> Tensor:
        return -2 / (t * (1 - t))

    def tangent(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return -torch.ones_like(t), torch.ones_like(t)  # eps - x


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """alpha = cos(pi t / 2), sigma = sin(pi t / 2).

    "Improved Denoising Diffusion Probabilistic Models" (2021, arXiv:2102.09672), without its offset."""

    kind: Literal["cosine"] = "cosine"

    def alpha(self, t: Tensor) -> Tensor:
        return torch.sin((1 - t) * (math.pi / 2))  # cos(pi t / 2), and exactly 0 at t = 1

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sin(t * (math.pi / 2))

    def log_snr(self, t: Tensor) -> Tensor:
        return 2 * (self.alpha(t).log() - self.sigma(t).log())

    def time(self, log_snr: Tensor) -> Tensor:
        return torch.atan(torch.exp(-0.5 * log_snr)) * (2 / math.pi)  # tan(pi t / 2) = sigma / alpha

    def rate(self, t: Tensor) -> Tensor:
        return -2 * math.pi / torch.sin(math.pi * t)

    def tangent(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return -self.sigma(t), self.alpha(t)  # alpha eps - sigma x


@lru_cache(maxsize=64)
def _knots(values: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor, float]:
    """beta and its integral at the knots, and the distance between knots."""
    beta, width = torch.tensor(values, dtype=torch.float64, device=device), 1 / (len(values) - 1)
    total = torch.cat([beta.new_zeros(1), torch.cumsum((beta[1:] + beta[:-1]) * (width / 2), 0)])
    return beta, total, width


@dataclass(frozen=True, kw_only=True)
class Beta:
    """A noise rate beta(t) >= 0, piecewise linear between `values` at equally spaced knots on [0, 1].

    Two values are the linear beta of DDPM; `Beta.tabulate` interpolates any function. The integral B(t) is piecewise
    quadratic, so B and its inverse are exact.

    Args:
        values: beta at the knots.

    Raises:
        ValueError: fewer than two values, a value that is negative or not finite, or an integral of zero.
    """

    values: tuple[float, ...] = (0.1, 20.0)

    def __post_init__(self) -> None:
        if len(self.values) < 2:
            raise ValueError(
                f"beta needs its values at two or more knots, got {len(self.values)}: give e.g. (0.1, 20.0)"
            )
        if not all(math.isfinite(v) and v >= 0 for v in self.values) or not 0 < sum(self.values) < math.inf:
            raise ValueError(f"beta must be finite, not negative and not zero everywhere, got {self.values[:8]}")

    @classmethod
    def tabulate(cls, function: Callable[[float], float], *, knots: int = 1025) -> "Beta":
        """The piecewise-linear interpolant of beta(t) at `knots` points, two or more."""
        if knots < 2:
            raise ValueError(f"beta is tabulated at two or more knots, got {knots}")
        return cls(values=tuple(float(function(i / (knots - 1))) for i in range(knots)))

    @property
    def mean(self) -> float:
        """B(1), the mean of beta."""
        return sum(self.values[:-1] + self.values[1:]) / (2 * (len(self.values) - 1))

    def _knots(self, like: Tensor) -> tuple[Tensor, Tensor, float]:
        return _knots(self.values, like.device)

    def rate(self, t: Tensor) -> Tensor:
        """beta(t)."""
        values, _, width = self._knots(t)
        i = (t / width).floor().clamp(0, len(self.values) - 2).long()
        return values[i] + (values[i + 1] - values[i]) * (t / width - i)

    def integral(self, t: Tensor) -> Tensor:
        """B(t), the integral of beta from 0 to t."""
        values, total, width = self._knots(t)
        i = (t / width).floor().clamp(0, len(self.values) - 2).long()
        u = t - i.double() * width  # .double(): an int64 tensor times a float is float32
        return total[i] + u * (values[i] + u * (values[i + 1] - values[i]) / (2 * width))

    def inverse(self, integral: Tensor) -> Tensor:
        """The t with B(t) = `integral`: the stable root of b u + a u^2 = r within a piece; 1 beyond B(1)."""
        values, total, width = self._knots(integral)
        i = (torch.searchsorted(total, integral.clamp_max(total[-1]), right=True) - 1).clamp(0, len(self.values) - 2)
        r, b = (integral - total[i]).clamp_min(0), values[i]
        a = (values[i + 1] - b) / (2 * width)
        u = 2 * r / (b + (b * b + 4 * a * r).clamp_min(0).sqrt())
        t = (i.double() * width + torch.where(r > 0, u, 0.0)).clamp(0, 1)
        return torch.where(integral > total[-1], 1.0, t)


@dataclass(frozen=True, kw_only=True)
class VariancePreserving:
    """alpha = exp(-B(t) / 2), alpha^2 + sigma^2 = 1, for dx = -beta x / 2 dt + sqrt(beta) dw, B = int_0^t beta.

    The signal left at t = 1 is alpha(1) = exp(-B(1) / 2), 0.0066 for the default. "Score-Based Generative Modeling through
    Stochastic Differential Equations" (2021, arXiv:2011.13456)."""

    kind: Literal["variance_preserving"] = "variance_preserving"
    beta: Beta = Beta()

    def alpha(self, t: Tensor) -> Tensor:
        return torch.exp(-0.5 * self.beta.integral(t))

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sqrt(-torch.expm1(-self.beta.integral(t)))

    def log_snr(self, t: Tensor) -> Tensor:
        b = self.beta.integral(t)
        return -b - torch.log(-torch.expm1(-b))  # e^-B / (1 - e^-B)

    def time(self, log_snr: Tensor) -> Tensor:
        softplus = (-log_snr).clamp_min(0) + torch.log1p(torch.exp(-log_snr.abs()))  # B = ln(1 + e^-log_snr)
        return self.beta.inverse(softplus)

    def rate(self, t: Tensor) -> Tensor:
        b = self.beta.integral(t)
        return torch.where(b > 0, self.beta.rate(t) / torch.expm1(-b), -torch.inf)

    def tangent(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return -self.sigma(t), self.alpha(t)


@dataclass(frozen=True, kw_only=True)
class VarianceExploding:
    """alpha = 1, sigma = sigma_max t^power: uniform steps of t are EDM's grid with rho = power, down to 0.

    "Elucidating the Design Space of Diffusion-Based Generative Models" (2022, arXiv:2206.00364).

    Args:
        sigma_max: noise at t = 1, in units of the data.
        power: EDM's rho.

    Raises:
        ValueError: a number that is not positive and finite.
    """

    kind: Literal["variance_exploding"] = "variance_exploding"
    sigma_max: float = 80.0
    power: float = 7.0

    def __post_init__(self) -> None:
        if not (self.sigma_max > 0 and self.power > 0 and math.isfinite(self.sigma_max * self.power)):
            raise ValueError(f"sigma_max and power must be positive and finite, got {self.sigma_max}, {self.power}")

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return self.sigma_max * torch.exp(self.power * t.log())

    def log_snr(self, t: Tensor) -> Tensor:
        return -2 * (math.log(self.sigma_max) + self.power * t.log())

    def time(self, log_snr: Tensor) -> Tensor:
        return torch.exp((-0.5 * log_snr - math.log(self.sigma_max)) / self.power).clamp_max(1)

    def rate(self, t: Tensor) -> Tensor:
        return -2 * self.power / t

    def tangent(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(t), torch.ones_like(t)  # eps: the velocity in EDM's own clock, sigma


@dataclass(frozen=True, kw_only=True)
class Brownian:
    """alpha = 1, sigma = sqrt(B(t)), for dx = sqrt(beta) dw, B = int_0^t beta: the accumulated noise of any `SDE`.

    "Score-Based Generative Modeling through Stochastic Differential Equations" (2021, arXiv:2011.13456)."""

    kind: Literal["brownian"] = "brownian"
    beta: Beta = Beta(values=(0.0, 5000.0))

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return self.beta.integral(t).sqrt()

    def log_snr(self, t: Tensor) -> Tensor:
        return -self.beta.integral(t).log()

    def time(self, log_snr: Tensor) -> Tensor:
        return self.beta.inverse(torch.exp(-log_snr))

    def rate(self, t: Tensor) -> Tensor:
        b = self.beta.integral(t)
        return torch.where(b > 0, -self.beta.rate(t) / b, -torch.inf)

    def tangent(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(t), torch.ones_like(t)


AnySchedule = Rectified | Cosine | VariancePreserving | VarianceExploding | Brownian
