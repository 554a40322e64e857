"""What training minimises, and at which times.

Every weighting is a weight on |x - D|^2 at a noise level, so a target and its weighting are chosen apart. With
SNR = alpha^2 / sigma^2, rho = sigma / alpha, s_d the data's standard deviation and (a, b) the schedule's tangent:

    edm        (rho^2 + s_d^2) / (rho s_d)^2       the target of EDM's preconditioning has unit weight and variance
    velocity   ((b alpha - a sigma) / sigma)^2     the squared error of the velocity
    noise      SNR                                 the squared error of the noise
    min_snr    min(SNR, gamma)                     "Efficient Diffusion Training via Min-SNR Weighting", 2023

Learned uncertainty ("Analyzing and Improving the Training Dynamics of Diffusion Models", 2024) divides the loss at
each noise level by its own running size e^u(t): L e^{-u} + u is least where e^u = E[L | t].

Divided by the density of log-SNR that the times have, SNR / 2 is the bound itself, in nats: `Likelihood`.

A time density turns uniform numbers into times, and knows the density of log-SNR that they have. The numbers of one
global batch are a shifted lattice (low-discrepancy, "Variational Diffusion Models", 2021): each row's time is uniform,
together they cover evenly.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from langevin.diffusion.importance import Importance
from langevin.diffusion.posterior import Posterior
from langevin.diffusion.process.gaussian import Gaussian
from langevin.diffusion.process.terms import Process
from langevin.diffusion.schedule import AnySchedule, time_of_rho
from langevin.diffusion.shape import each, right_pad


class Objective(Protocol):
    """A loss a row, (b,), float32, for the posterior q of clean x given x_t at t; `mask` marks the places that count."""

    def __call__(self, q: Posterior, x: Any, x_t: Any, t: Tensor, mask: Tensor | None = None) -> Tensor: ...


def row_mean(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean over a row's places, (b,): those where `mask` holds, bool, of the shape of `values` or its first dimensions."""
    if mask is None:
        return values.flatten(1).mean(1)
    counts = right_pad(mask.bool(), values).expand_as(values)
    return torch.where(counts, values, 0).flatten(1).sum(1) / counts.flatten(1).sum(1).clamp_min(1)


@dataclass(frozen=True, kw_only=True)
class Weighted:
    """Weighted squared error of the posterior mean of a Gaussian process; see the module."""

    process: Gaussian
    weighting: Literal["edm", "velocity", "noise", "min_snr"] = "edm"
    gamma: float = 5.0

    def __post_init__(self) -> None:
        if not 0 < self.gamma < math.inf:
            raise ValueError(f"gamma, the cap on the SNR, must be positive and finite, got {self.gamma}")

    def weight(self, t: Tensor) -> Tensor:
        """The weight on |x - D|^2 at times t, float64, shaped like t; large but finite towards t = 0."""
        schedule, s_d = self.process.schedule, self.process.sigma_data
        log_snr = schedule.log_snr(t).clamp(-40, 40)
        snr = log_snr.exp()
        if self.weighting == "edm":
            return snr + s_d**-2  # 1 / rho^2 + 1 / s_d^2
        if self.weighting == "velocity":
            a, b = schedule.tangent(t)
            return ((b * schedule.alpha(t) - a * schedule.sigma(t)) / schedule.sigma(t).clamp_min(1e-6)).square()
        return snr if self.weighting == "noise" else snr.clamp_max(self.gamma)

    def __call__(self, q: Posterior, x: Tensor, x_t: Tensor, t: Tensor, mask: Tensor | None = None) -> Tensor:
        error = q.error(x)
        return row_mean(right_pad(self.weight(t.double()), error).to(error.dtype) * error, mask)


@dataclass(frozen=True, kw_only=True)
class Bound:
    """The process's own variational bound, nats a place: the objective of discrete data."""

    process: Process

    def __call__(self, q: Posterior, x: Any, x_t: Any, t: Tensor, mask: Tensor | None = None) -> Tensor:
        def reduce(part: Tensor) -> Tensor:
            return row_mean(part, mask).float()

        return _total(each(reduce, self.process.bound(q, x, x_t, t).diffusion))


@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """The variational bound of a Gaussian process, nats a place, whatever times are drawn: SNR |x - D|^2 / (2 p(log_snr)).

    Its mean over the times is the integral of SNR |x - D|^2 / 2 over the log-SNR that they cover."""

    process: Gaussian
    times: "TimeDensity"

    def weight(self, t: Tensor) -> Tensor:
        """The weight on |x - D|^2 at times t, float64, shaped like t."""
        schedule = self.process.schedule
        snr = schedule.log_snr(t).clamp(-40, 40).exp()
        return snr / (2 * self.times.log_snr_density(t, schedule))

    def __call__(self, q: Posterior, x: Tensor, x_t: Tensor, t: Tensor, mask: Tensor | None = None) -> Tensor:
        error = q.error(x)
        return row_mean(right_pad(self.weight(t.double()), error).to(error.dtype) * error, mask)


@dataclass(frozen=True, kw_only=True)
class CrossEntropy:
    """-ln q(x), nats a place, whatever the time."""

    def __call__(self, q: Posterior, x: Tensor, x_t: Any, t: Tensor, mask: Tensor | None = None) -> Tensor:
        real = torch.ones_like(x, dtype=torch.bool) if mask is None else mask
        return row_mean(q.error(torch.where(real, x, 0)), mask)


def _total(rows: Any) -> Tensor:
    """The sum over all parts, and parts of parts."""
    return torch.stack([_total(part) for part in rows.values()]).sum(0) if isinstance(rows, Mapping) else rows  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


class Uncertainty(nn.Module):
    """u(c_time) of the learned uncertainty weighting: Fourier features and one linear layer that starts at zero.

    Args:
        features: how many.
        seed: of the fixed frequencies.
    """

    def __init__(self, *, features: int = 64, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("frequency", 2 * math.pi * torch.randn(features, generator=generator))
        self.register_buffer("phase", 2 * math.pi * torch.rand(features, generator=generator))
        self.linear = nn.Linear(features, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, loss: Tensor, c_time: Tensor) -> Tensor:
        """L e^{-u} + u, (b,), for losses L and noise levels c_time, both (b,)."""
        wave = torch.cos(c_time[:, None] * self.frequency + self.phase) * math.sqrt(2)  # type: ignore[operator]
        u = self.linear(wave)[:, 0]
        return loss * torch.exp(-u) + u


# ------------------------------------------------------------------------------------------------- time densities


def _normal_quantile(u: Tensor) -> Tensor:
    return torch.special.ndtri(u)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def _normal_density(x: Tensor, mean: float, std: float) -> Tensor:
    return torch.exp(-0.5 * ((x - mean) / std).square()) / (std * math.sqrt(2 * math.pi))


def lattice(count: int, offset: Tensor, rows: Tensor) -> Tensor:
    """Low-discrepancy uniforms of the given `rows` (int64) of a global batch of `count`: (offset + i / count) mod 1."""
    u = (offset + rows.double() / count) % 1
    return u.clamp(2.0**-54, 1 - 2.0**-53)


@dataclass(frozen=True, kw_only=True)
class UniformTime:
    """t uniform on [low, high]."""

    kind: Literal["uniform"] = "uniform"
    low: float = 1e-4
    high: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 1:
            raise ValueError(f"uniform times need 0 <= low < high <= 1, got [{self.low}, {self.high}]")

    def __call__(self, u: Tensor, schedule: AnySchedule | None = None) -> Tensor:
        return self.low + (self.high - self.low) * u

    def log_snr_density(self, t: Tensor, schedule: AnySchedule) -> Tensor:
        return 1 / ((self.high - self.low) * schedule.rate(t).abs())


@dataclass(frozen=True, kw_only=True)
class LogNormal:
    """ln(sigma / alpha) ~ N(mean, std^2): EDM's density of noise levels."""

    kind: Literal["log_normal"] = "log_normal"
    mean: float = -1.2
    std: float = 1.2

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and 0 < self.std < math.inf):
            raise ValueError(
                f"a log-normal density needs a finite mean and a positive std, got {self.mean}, {self.std}"
            )

    def __call__(self, u: Tensor, schedule: AnySchedule) -> Tensor:
        return time_of_rho(schedule, torch.exp(self.mean + self.std * _normal_quantile(u)))

    def log_snr_density(self, t: Tensor, schedule: AnySchedule) -> Tensor:
        return 0.5 * _normal_density(-0.5 * schedule.log_snr(t), self.mean, self.std)  # ln rho = -log_snr / 2


@dataclass(frozen=True, kw_only=True)
class LogitNormal:
    """ln(t / (1 - t)) ~ N(mean, std^2) ("Scaling Rectified Flow Transformers", 2024)."""

    kind: Literal["logit_normal"] = "logit_normal"
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and 0 < self.std < math.inf):
            raise ValueError(
                f"a logit-normal density needs a finite mean and a positive std, got {self.mean}, {self.std}"
            )

    def __call__(self, u: Tensor, schedule: AnySchedule | None = None) -> Tensor:
        return 1 / (1 + torch.exp(-self.mean - self.std * _normal_quantile(u)))

    def log_snr_density(self, t: Tensor, schedule: AnySchedule) -> Tensor:
        logit = t.log() - torch.log1p(-t)
        return _normal_density(logit, self.mean, self.std) / (t * (1 - t) * schedule.rate(t).abs())


TimeDensity = UniformTime | LogNormal | LogitNormal | Importance
