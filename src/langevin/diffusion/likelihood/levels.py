"""The unit of a likelihood: recorded levels, and the noise that turns them into numbers of a density.

Data is read as whole numbers k and diffused as x = offset + scale k. A density of x says nothing about k until k is given a
width: with q any law on its bin, |y - x| < scale / 2,

    ln P(k) = ln int_bin p(y) dy >= E_q[ln p(y)] + H(q).

Uniform q has H = ln(scale) a place: in bits, the offset -log2(scale), 0 for numbers 0..255 as they are, 7 for steps of
1/128, 6.994 for those of 1/127.5. It follows from the recorded map and is written down nowhere. The normal of the
smallest noise level, rho eps, cut to |eps| < tau = scale / (2 rho), is what the model saw in training ("Improved
Techniques for Maximum Likelihood Estimation for Diffusion ODEs", 2023); with Z = 2 Phi(tau) - 1,

    H = ln(sqrt(2 pi e) rho Z) - tau phi(tau) / Z.

Likelihoods take -ln q(y) of the drawn noise for H: the mean is the same, and where p follows the noise its chance cancels.

Bins with edges are one reading of a density as a law of levels. The bound's is another, a decoder without edges,

    P(k) = int p(y) softmax_k(-(y - v_k)^2 / 2 rho^2) dy >= exp E_q[ln p(y) + ln softmax_k - ln q(y)],   q = N(x, rho^2),

and two figures speak of the same data in the same way only if they share it: `Decoded`.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from langevin.diffusion.noise import Noise

_NUMBERS = 1 << 22  # of a table of levels at once


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
        return self.offset + self.scale * torch.arange(self.count, dtype=torch.float64, device=like.device)

    def index(self, x: Tensor) -> Tensor:
        """k of each place, int64, shaped like x.

        Raises:
            ValueError: x is not on the levels, so its probability is not asked for in their unit."""
        k = (x.double() - self.offset) / self.scale
        near = k.round()
        if not bool((((k - near).abs() < 0.01) & (near >= 0) & (near < self.count)).all()):
            low, high = float(x.min()), float(x.max())
            raise ValueError(
                f"data in [{low:.4g}, {high:.4g}] is not on the {self.count} levels {self.offset:.4g} + {self.scale:.4g} "
                "k: give the levels of the codec that made it"
            )
        return near.long()


def levels_of(codec: Any) -> Levels:
    """The levels that a codec records.

    Raises:
        ValueError: it records none: its data has no scale in which a likelihood could be stated."""
    levels = getattr(codec, "levels", None)
    if not isinstance(levels, Levels):
        raise ValueError(
            f"a likelihood in bits needs the scale of the recorded data, and {type(codec).__name__} does not state one: "
            "use a codec with `levels` (Pixels), or ask for the density of its numbers in nats"
        )
    return levels


def decode(y: Tensor, x: Tensor, levels: Levels, rho: float | Tensor) -> Tensor:
    """ln softmax_k(-(y - v_k)^2 / 2 rho^2) at the level k of x, a place: y and x (b, places), rho a number or (b,).

    Raises:
        ValueError: x is not on the levels."""
    k, values = levels.index(x), levels.values(x)
    width = torch.as_tensor(rho, dtype=torch.float64, device=x.device).expand(len(x))
    few = max(1, _NUMBERS // (x.shape[1] * levels.count))
    parts: list[Tensor] = []
    for start in range(0, len(x), few):
        i = slice(start, start + few)
        logits = -(y[i, :, None].double() - values).square() / (2 * width[i].square())[:, None, None]
        parts.append(logits.log_softmax(-1).gather(-1, k[i, :, None])[..., 0])
    return torch.cat(parts)


def _normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


@dataclass(frozen=True, kw_only=True)
class Uniform:
    """y = x + scale (u - 1/2)."""

    kind: Literal["uniform"] = "uniform"

    def draw(self, x: Tensor, levels: Levels, rho: float, noise: Noise) -> Tensor:
        """y, float64, shaped like x."""
        return x.double() + levels.scale * (noise.uniform(x) - 0.5)

    def surprise(self, y: Tensor, x: Tensor, levels: Levels, rho: float) -> Tensor:
        """-ln q(y) a place."""
        return torch.full_like(y, math.log(levels.scale))

    def entropy(self, levels: Levels, rho: float) -> float:
        """Its mean, H."""
        return math.log(levels.scale)


@dataclass(frozen=True, kw_only=True)
class TruncatedNormal:
    """y = x + rho eps, |eps| < tau; see the module."""

    kind: Literal["truncated_normal"] = "truncated_normal"

    def draw(self, x: Tensor, levels: Levels, rho: float, noise: Noise) -> Tensor:
        """y, float64, shaped like x."""
        tail = _normal_cdf(-levels.scale / (2 * rho))
        p = tail + (1 - 2 * tail) * noise.uniform(x)
        return x.double() + rho * torch.special.ndtri(p)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]

    def surprise(self, y: Tensor, x: Tensor, levels: Levels, rho: float) -> Tensor:
        """-ln q(y) a place."""
        z = math.erf(levels.scale / (2 * rho) / math.sqrt(2))
        return 0.5 * ((y - x.double()) / rho).square() + 0.5 * math.log(2 * math.pi) + math.log(rho * z)

    def entropy(self, levels: Levels, rho: float) -> float:
        """Its mean, H."""
        tau = levels.scale / (2 * rho)
        z = math.erf(tau / math.sqrt(2))
        density = math.exp(-0.5 * tau * tau) / math.sqrt(2 * math.pi)
        return 0.5 * math.log(2 * math.pi * math.e) + math.log(rho * z) - tau * density / z


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """y = x + rho eps without an edge, told apart again by the bound's own decoder; see the module."""

    kind: Literal["decoded"] = "decoded"

    def draw(self, x: Tensor, levels: Levels, rho: float, noise: Noise) -> Tensor:
        """y, float64, shaped like x."""
        return x.double() + rho * noise.normal(x.double())

    def surprise(self, y: Tensor, x: Tensor, levels: Levels, rho: float) -> Tensor:
        """ln of the decoder over q(y), a place."""
        told = decode(y.flatten(1), x.flatten(1), levels, rho).view_as(y)
        return told + 0.5 * ((y - x.double()) / rho).square() + 0.5 * math.log(2 * math.pi) + math.log(rho)


Dequantisation = Uniform | TruncatedNormal | Decoded
