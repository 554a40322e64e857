"""Discrete processes in which a visible token may be wrong: `UniformDiffusion`, and `GIDD`, with masks as well.

Their models can correct visible tokens. Both need a network with a time input and leave-one-out logits (see
`interpolating`).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from langevin.diffusion.float64 import float64_device, to_float64
from langevin.diffusion.noise import Noise
from langevin.diffusion.posterior import Categorical
from langevin.diffusion.process import interpolating
from langevin.diffusion.process.interpolating import Marginals
from langevin.diffusion.process.terms import Terms


@dataclass(frozen=True, kw_only=True)
class UniformDiffusion:
    """Uniform diffusion, alpha = 1 - t: q(x_t | x) = (1 - t) 1[x_t = x] + t / V.

    "Structured Denoising Diffusion Models in Discrete State-Spaces" (2021, arXiv:2107.03006).

    Args:
        vocab_size: V. Data x is (b, positions) int64 in [0, V); the id V is not used, V + 1 is padding.

    Raises:
        ValueError: vocab_size below 2.
    """

    vocab_size: int
    kind: Literal["uniform"] = "uniform"

    def __post_init__(self) -> None:
        _require_two_tokens(self.vocab_size)

    @property
    def mask(self) -> int:
        return self.vocab_size

    def arrivals(self, t: Tensor) -> Marginals:
        t = to_float64(t)
        zero = torch.zeros_like(t)
        rate = 1 / ((1 - t) * self.vocab_size)
        return Marginals(alpha=1 - t, uniform=t / self.vocab_size, mask=zero, rate_uniform=rate, rate_mask=zero)

    def prior(self, like: Tensor, noise: Noise, t: Tensor | None = None) -> Tensor:
        """Uniform tokens at every position except padding."""
        one = torch.ones(len(like), dtype=torch.float64, device=float64_device(like.device))
        return interpolating.corrupt_tokens(self, like, self.arrivals(one).over(like), noise)

    def corrupt(self, x: Tensor, t: Tensor, noise: Noise, known: Tensor | None = None) -> Tensor:
        return interpolating.corrupt_tokens(self, x, self.arrivals(t).over(x), noise, known)

    def transition(self, q: Categorical, x_t: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        return interpolating.reverse_step(self, q, x_t, t, s, noise)

    def bound(self, q: Categorical, x: Tensor, x_t: Tensor, t: Tensor) -> Terms:
        return interpolating.bound(self, q, x, x_t, t)


@dataclass(frozen=True, kw_only=True)
class GIDD:
    """A mixture of masks and uniform tokens: with c_t = B (t (1 - t))^(g / 2), C = 1 + c_t and B = 2^g p / (1 - p),

        alpha = (1 - t) / C,     q_t(mask) = t / C,     q_t(each of V tokens) = c_t / (V C),

    so that at t = 1/2 a fraction p of all positions is a uniform token, and at t = 1 all are masked; p = 0 is `Masked`.
    "Generalized Interpolating Discrete Diffusion" (2025, arXiv:2503.04482).

    Args:
        vocab_size: V. Data x is (b, positions) int64 in [0, V); the id V is the mask, V + 1 is padding.
        uniform_fraction: p, in [0, 1).
        exponent: g, in [0, 2]; larger concentrates uniform tokens around t = 1/2.

    Raises:
        ValueError: a number out of range.
    """

    vocab_size: int
    uniform_fraction: float = 0.2
    exponent: float = 1.0
    kind: Literal["hybrid"] = "hybrid"

    def __post_init__(self) -> None:
        _require_two_tokens(self.vocab_size)
        if not (0 <= self.uniform_fraction < 1 and 0 <= self.exponent <= 2):
            raise ValueError(
                "uniform_fraction must be in [0, 1) and exponent in [0, 2], got "
                f"{self.uniform_fraction} and {self.exponent}"
            )

    @property
    def mask(self) -> int:
        """The token id of the mask, V."""
        return self.vocab_size

    def arrivals(self, t: Tensor) -> Marginals:
        t, g, v = to_float64(t), self.exponent, self.vocab_size
        c = 2**g * self.uniform_fraction / (1 - self.uniform_fraction) * (t * (1 - t)) ** (g / 2)
        scale = 1 / (1 + c)
        inner = 0.0 if self.uniform_fraction == 0 else c * (g / 2 + (1 - g) * t) / (t * v * (1 - t)) * scale
        rate_uniform = inner * torch.ones_like(t)
        return Marginals(
            alpha=(1 - t) * scale, uniform=c / v * scale, mask=t * scale, rate_uniform=rate_uniform,
            rate_mask=scale / (1 - t),
        )  # fmt: skip

    def prior(self, like: Tensor, noise: Noise, t: Tensor | None = None) -> Tensor:
        """The mask at every position except padding."""
        return torch.where(like > self.mask, like, self.mask)

    def corrupt(self, x: Tensor, t: Tensor, noise: Noise, known: Tensor | None = None) -> Tensor:
        return interpolating.corrupt_tokens(self, x, self.arrivals(t).over(x), noise, known)

    def transition(self, q: Categorical, x_t: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        return interpolating.reverse_step(self, q, x_t, t, s, noise)

    def bound(self, q: Categorical, x: Tensor, x_t: Tensor, t: Tensor) -> Terms:
        return interpolating.bound(self, q, x, x_t, t)


def _require_two_tokens(vocab_size: int) -> None:
    if vocab_size < 2:
        raise ValueError(f"vocab_size, the number of tokens without the mask, is at least 2 here, got {vocab_size}")
