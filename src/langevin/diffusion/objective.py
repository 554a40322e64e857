"""Training objectives and time densities.

Every weighting is a weight on |x - D|^2 at a noise level, independent of the prediction target: the weights `edm`,
`velocity` and `noise` of `WeightedMSE` give the squared errors of those targets. Learned uncertainty normalises the
loss at each noise level: L e^{-u} + u is least where e^u = E[L | t]. The weight SNR / 2 divided by the density of
log-SNR gives the variational bound in nats: `LikelihoodWeightedMSE`.

A time density maps uniforms to times, and gives the density of their log-SNR. The uniforms of a global batch are a randomly
shifted lattice (low-discrepancy, arXiv:2107.00630): each is uniform, and together they cover (0, 1) evenly.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from langevin.diffusion.float64 import to_float64
from langevin.diffusion.importance import Importance
from langevin.diffusion.posterior import Joint, Posterior
from langevin.diffusion.process.gaussian import Gaussian
from langevin.diffusion.process.product import Product
from langevin.diffusion.process.terms import Bounded
from langevin.diffusion.schedule import AnySchedule, shifted, time_of_rho
from langevin.diffusion.shape import Data, append_dims, first_leaf, part_of, tree_map


class Objective(Protocol):
    """A training loss."""

    def __call__(self, q: Posterior, x: Any, x_t: Any, t: Tensor, mask: Tensor | None = None) -> Tensor:
        """A loss per sample, (b,) float32 on the device of x, for the posterior q of clean x given x_t at t.

        A mean over the elements where `mask` (bool, of the first dimensions of x) holds; None: all."""
        ...


def mean_per_sample(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean per sample, (b,), over the elements where `mask` (bool, of the first dimensions of `values`) holds."""
    if mask is None:
        return values.flatten(1).mean(1)
    counts = append_dims(mask.bool().to(values.device), values).expand_as(values)
    return torch.where(counts, values, 0).flatten(1).sum(1) / counts.flatten(1).sum(1).clamp_min(1)


@dataclass(frozen=True, kw_only=True)
class WeightedMSE:
    """w(t) |x - D|^2, a mean over elements, for a Gaussian process. With SNR = alpha^2 / sigma^2 and rho = sigma / alpha:

        edm        (rho^2 + s_d^2) / (rho s_d)^2       the squared error of the `edm` target, of unit variance
        velocity   ((b alpha - a sigma) / sigma)^2     the squared error of the velocity, (a, b) the schedule's tangent
        noise      SNR                                 the squared error of the noise
        min_snr    min(SNR, gamma)

    "Elucidating the Design Space of Diffusion-Based Generative Models" (2022, arXiv:2206.00364); "Progressive Distillation
    for Fast Sampling of Diffusion Models" (2022, arXiv:2202.00512); "Denoising Diffusion Probabilistic Models" (2020,
    arXiv:2006.11239); "Efficient Diffusion Training via Min-SNR Weighting Strategy" (2023, arXiv:2303.09556).

    Args:
        process: the Gaussian process.
        weighting: one of the above.
        gamma: the cap of `min_snr`.

    Raises:
        ValueError: a gamma that is not positive and finite.
    """

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
        if t.ndim > 1:  # positions at t = 0 were given to the network
            given = append_dims((t > 0).to(error.device), error)
            mask = given.expand_as(error) if mask is None else given & append_dims(mask, error)
        return mean_per_sample(append_dims(self.weight(to_float64(t)), error).to(error) * error, mask)


@dataclass(frozen=True, kw_only=True)
class ELBO:
    """The diffusion term of the variational bound at the given times, in nats per element, for discrete data.

    "Simplified and Generalized Masked Diffusion for Discrete Data" (2024, arXiv:2406.04329)."""

    process: Bounded

    def __call__(self, q: Posterior, x: Any, x_t: Any, t: Tensor, mask: Tensor | None = None) -> Tensor:
        def reduce(part: Tensor) -> Tensor:
            return mean_per_sample(part, mask).to(first_leaf(x).device, torch.float32)

        return _total(tree_map(reduce, self.process.bound(q, x, x_t, t).diffusion))


@dataclass(frozen=True, kw_only=True)
class LikelihoodWeightedMSE:
    """SNR |x - D|^2 / (2 p(log_snr)): the diffusion term of the bound of a Gaussian process, in nats per element.

    Its mean over times of density p is the integral of SNR |x - D|^2 / 2 over the support of p in log-SNR, for every p.
    "Variational Diffusion Models" (2021, arXiv:2107.00630)."""

    process: Gaussian
    times: "TimeDensity"

    def weight(self, t: Tensor) -> Tensor:
        """The weight on |x - D|^2 at times t, float64, shaped like t."""
        schedule = self.process.schedule
        snr = schedule.log_snr(t).clamp(-40, 40).exp()
        return snr / (2 * self.times.log_snr_density(t, schedule))

    def __call__(self, q: Posterior, x: Tensor, x_t: Tensor, t: Tensor, mask: Tensor | None = None) -> Tensor:
        error = q.error(x)
        return mean_per_sample(append_dims(self.weight(to_float64(t)), error).to(error) * error, mask)


@dataclass(frozen=True, kw_only=True)
class PartsLoss:
    """The sum of the losses of all parts of a product, each a mean over its elements: of Gaussian parts the weighted
    squared error, of masked ones the cross-entropy at masked positions. Known elements, at time 0, have no loss.

    Args:
        weighting: of the squared error, see `WeightedMSE`.
        gamma: the cap of `min_snr`.
    """

    process: Product
    weighting: Literal["edm", "velocity", "noise", "min_snr"] = "edm"
    gamma: float = 5.0

    def __call__(self, q: Joint, x: Any, x_t: Any, t: Data, mask: Tensor | None = None) -> Tensor:
        losses: list[Tensor] = []
        for name, part in self.process.parts.items():
            error: Tensor = q.parts[name].error(x[name])
            if isinstance(part, Gaussian):
                time = append_dims(to_float64(part_of(t, name)), error)
                weight = WeightedMSE(process=part, weighting=self.weighting, gamma=self.gamma).weight(time)
                error = torch.where(time > 0, weight, 0.0).to(error) * error
            losses.append(error.flatten(1).mean(1))
        return torch.stack(losses).sum(0)


@dataclass(frozen=True, kw_only=True)
class CrossEntropy:
    """-ln q(x) in nats per token, the same weight at all times; 0 at visible positions of a masked process.

    For masked diffusion it is the bound without its weight 1 / t, whose estimate varies less."""

    def __call__(self, q: Posterior, x: Tensor, x_t: Any, t: Tensor, mask: Tensor | None = None) -> Tensor:
        real = torch.ones_like(x, dtype=torch.bool) if mask is None else mask
        return mean_per_sample(q.error(torch.where(real, x, 0)), mask)


def _total(losses: Any) -> Tensor:
    """The sum over all parts of a (nested) mapping."""
    return torch.stack([_total(part) for part in losses.values()]).sum(0) if isinstance(losses, Mapping) else losses  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


class Uncertainty(nn.Module):
    """Learned loss weighting L e^{-u} + u, with u(c_time) a linear layer on Fourier features, initialised at zero.

    "Analyzing and Improving the Training Dynamics of Diffusion Models" (2024, arXiv:2312.02696).

    Args:
        features: number of Fourier features.
        seed: of their fixed frequencies and phases.
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


def low_discrepancy(count: int, offset: Tensor, samples: Tensor) -> Tensor:
    """Low-discrepancy uniforms (offset + i / count) mod 1 for the indices i, `samples` (int64), of a batch of `count`."""
    u = (offset + to_float64(samples) / count) % 1
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
    """ln(sigma / alpha) ~ N(mean, std^2): EDM's density of noise levels (2022, arXiv:2206.00364)."""

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
    """ln(t / (1 - t)) ~ N(mean, std^2).

    "Scaling Rectified Flow Transformers for High-Resolution Image Synthesis" (2024, arXiv:2403.03206)."""

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


@dataclass(frozen=True, kw_only=True)
class ShiftedTimes:
    """Another density with every noise level times `factor`, for images of `factor` times the side length ("simple
    diffusion: End-to-end diffusion for high resolution images", 2023, arXiv:2301.11093).

    The mean of blocks of k x k pixels has noise of 1 / k the standard deviation, so that the image averaged to the smaller
    size is seen at the levels of the density that is shifted: log-SNR falls by 2 ln k. A log-normal density is shifted by
    ln k in its mean. Levels beyond what the schedule reaches are t = 1.

    Args:
        times: the density that is shifted.
        factor: k, positive.

    Raises:
        ValueError: a factor that is not positive and finite.
    """

    kind: Literal["shifted"] = "shifted"
    times: UniformTime | LogNormal | LogitNormal | Importance = LogNormal()
    factor: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.factor < math.inf:
            raise ValueError(f"a density of times is shifted by a positive and finite factor, got {self.factor}")

    def __call__(self, u: Tensor, schedule: AnySchedule) -> Tensor:
        return shifted(self.times(u, schedule), schedule, self.factor)

    def log_snr_density(self, t: Tensor, schedule: AnySchedule) -> Tensor:
        return self.times.log_snr_density(shifted(t, schedule, 1 / self.factor), schedule)


TimeDensity = UniformTime | LogNormal | LogitNormal | Importance | ShiftedTimes
