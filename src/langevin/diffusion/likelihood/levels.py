"""Recorded levels, which fix the unit of a likelihood, and dequantisation, which turns them into continuous data.

Recorded integers k are diffused as x = offset + scale k. A density of x becomes a probability of k by integrating over
a bin. For any distribution q on the bin |y - x| < scale / 2,

    ln P(k) = ln int_bin p(y) dy >= E_q[ln p(y)] + H(q).

Uniform q has H = ln(scale) per dimension. In bits this is an offset of -log2(scale): 0 for data in 0..255 unscaled, 7
for steps of 1/128, 6.994 for steps of 1/127.5. It is computed from the recorded map. The truncated normal rho eps,
|eps| < tau = scale / (2 rho), has the noise of the smallest level, which the model saw in training ("Improved
Techniques for Maximum Likelihood Estimation for Diffusion ODEs", 2023, arXiv:2305.03935). With Z = 2 Phi(tau) - 1,

    H = ln(sqrt(2 pi e) rho Z) - tau phi(tau) / Z.

Likelihoods use -ln q(y) of the drawn noise in place of H: it has the same mean, and less variance in the sum.

The variational bound has no bins but a decoder,

    P(k) = int p(y) softmax_k(-(y - v_k)^2 / 2 rho^2) dy >= exp E_q[ln p(y) + ln softmax_k - ln q(y)], q = N(x, rho^2),

which defines another P(k). A flow likelihood is comparable with the bound only if it uses the same decoder: `Decoded`.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from langevin.diffusion.float64 import float64_device, to_float64
from langevin.diffusion.noise import Noise

_NUMBERS = 1 << 22  # entries of the table (samples, dimensions, levels) held at once


@dataclass(frozen=True, kw_only=True)
class Levels:
    """x = offset + scale k for k in 0..count - 1.

    Raises:
        ValueError: a scale that is not positive, or fewer than two levels.
    """

    scale: float
    offset: float
    count: int

    def __post_init__(self) -> None:
        if not (0 < self.scale < math.inf and math.isfinite(self.offset)) or self.count < 2:
            raise ValueError(
                f"levels need a positive scale, a finite offset and a count of at least 2, got scale {self.scale}, "
                f"offset {self.offset}, count {self.count}"
            )

    def values(self, like: Tensor) -> Tensor:
        """(count,) float64."""
        return self.offset + self.scale * torch.arange(
            self.count, dtype=torch.float64, device=float64_device(like.device)
        )

    def index(self, x: Tensor) -> Tensor:
        """The level k of each dimension, int64, shaped like x.

        Raises:
            ValueError: x is not on the levels."""
        k = (to_float64(x) - self.offset) / self.scale
        near = k.round()
        if not bool((((k - near).abs() < 0.01) & (near >= 0) & (near < self.count)).all()):
            low, high = float(x.min()), float(x.max())
            raise ValueError(
                f"data in [{low:.4g}, {high:.4g}] is not on the {self.count} levels {self.offset:.4g} + {self.scale:.4g} "
                "k: give the levels of the codec that encoded it"
            )
        return near.long()


def levels_of(codec: Any) -> Levels:
    """The levels that a codec records.

    Raises:
        ValueError: it records none, so its data has no unit for a likelihood in bits."""
    levels = getattr(codec, "levels", None)
    if not isinstance(levels, Levels):
        raise ValueError(
            f"a likelihood in bits needs the scale of the recorded data, and {type(codec).__name__} does not state one: "
            "use a codec with `levels` (Pixels), or compute its log-density in nats"
        )
    return levels


def decode(y: Tensor, x: Tensor, levels: Levels, rho: float | Tensor) -> Tensor:
    """ln softmax_k(-(y - v_k)^2 / 2 rho^2) at the level k of x, per dimension; y, x (b, d), rho a number or (b,).

    Raises:
        ValueError: x is not on the levels."""
    k, values = levels.index(x), levels.values(x)
    width = torch.as_tensor(rho, dtype=torch.float64, device=float64_device(x.device)).expand(len(x))
    chunk = max(1, _NUMBERS // (x.shape[1] * levels.count))  # samples at once
    parts: list[Tensor] = []
    for start in range(0, len(x), chunk):
        i = slice(start, start + chunk)
        logits = -(to_float64(y)[i, :, None] - values).square() / (2 * width[i].square())[:, None, None]
        parts.append(logits.log_softmax(-1).gather(-1, k[i, :, None])[..., 0])
    return torch.cat(parts)


def gaussian_mass(x: Tensor, levels: Levels, mean: Tensor, std: float) -> Tensor:
    """ln P(k) per dimension, float64, of the level k of x if y is N(mean, std^2) and k the level whose bin holds it.

    ln of Phi((x + scale / 2 - mean) / std) - Phi((x - scale / 2 - mean) / std). The outer bins have no end, so the
    probabilities of all levels sum to 1.

    Raises:
        ValueError: x is not on the levels."""
    k, x, mean = levels.index(x), to_float64(x), to_float64(mean)
    low = ((x - 0.5 * levels.scale - mean) / std).masked_fill(k == 0, -math.inf)
    high = ((x + 0.5 * levels.scale - mean) / std).masked_fill(k == levels.count - 1, math.inf)
    low, high = torch.where(low > 0, -high, low), torch.where(low > 0, -low, high)  # the tail in which Phi is small
    log_low, log_high = _log_normal_cdf(low), _log_normal_cdf(high)
    return log_high + (-torch.expm1(log_low - log_high)).log()


def _log_normal_cdf(x: Tensor) -> Tensor:
    return torch.special.log_ndtr(x)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def _normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


@dataclass(frozen=True, kw_only=True)
class UniformDequantisation:
    """y = x + scale (u - 1/2), u uniform on (0, 1)."""

    kind: Literal["uniform"] = "uniform"

    def draw(self, x: Tensor, levels: Levels, rho: float, noise: Noise) -> Tensor:
        """y, float64, shaped like x."""
        return to_float64(x) + levels.scale * (noise.uniform(x) - 0.5)

    def surprise(self, y: Tensor, x: Tensor, levels: Levels, rho: float) -> Tensor:
        """-ln q(y) per dimension, float64."""
        return torch.full_like(y, math.log(levels.scale))

    def entropy(self, levels: Levels, rho: float) -> float:
        """The mean of `surprise`, H(q) per dimension in nats."""
        return math.log(levels.scale)


@dataclass(frozen=True, kw_only=True)
class TruncatedNormal:
    """y = x + rho eps, eps standard normal truncated to |eps| < tau = scale / (2 rho)."""

    kind: Literal["truncated_normal"] = "truncated_normal"

    def draw(self, x: Tensor, levels: Levels, rho: float, noise: Noise) -> Tensor:
        """y, float64, shaped like x."""
        tail = _normal_cdf(-levels.scale / (2 * rho))
        p = tail + (1 - 2 * tail) * noise.uniform(x)
        return to_float64(x) + rho * torch.special.ndtri(p)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]

    def surprise(self, y: Tensor, x: Tensor, levels: Levels, rho: float) -> Tensor:
        """-ln q(y) per dimension, float64."""
        z = math.erf(levels.scale / (2 * rho) / math.sqrt(2))
        return 0.5 * ((y - to_float64(x)) / rho).square() + 0.5 * math.log(2 * math.pi) + math.log(rho * z)

    def entropy(self, levels: Levels, rho: float) -> float:
        """The mean of `surprise`, H(q) per dimension in nats."""
        tau = levels.scale / (2 * rho)
        z = math.erf(tau / math.sqrt(2))
        density = math.exp(-0.5 * tau * tau) / math.sqrt(2 * math.pi)
        return 0.5 * math.log(2 * math.pi * math.e) + math.log(rho * z) - tau * density / z


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """y = x + rho eps, decoded by the softmax decoder of the variational bound; see the module."""

    kind: Literal["decoded"] = "decoded"

    def draw(self, x: Tensor, levels: Levels, rho: float, noise: Noise) -> Tensor:
        """y, float64, shaped like x."""
        return to_float64(x) + rho * noise.normal(to_float64(x))

    def surprise(self, y: Tensor, x: Tensor, levels: Levels, rho: float) -> Tensor:
        """ln softmax_k - ln q(y) per dimension."""
        log_decoder = decode(y.flatten(1), x.flatten(1), levels, rho).view_as(y)
        return log_decoder + 0.5 * ((y - to_float64(x)) / rho).square() + 0.5 * math.log(2 * math.pi) + math.log(rho)


Dequantisation = UniformDequantisation | TruncatedNormal | Decoded
