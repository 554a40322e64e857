"""Discrete processes in which a symbol that is seen may be wrong: `Uniform`, and the `Hybrid` of masks and wrong symbols.

Uniform ("Structured Denoising Diffusion Models in Discrete State-Spaces", 2021): alpha = 1 - t, arrivals are any symbol.
Hybrid ("Generalized Interpolating Discrete Diffusion", 2025): with c_t = B (t (1 - t))^(g / 2) and C = 1 + c_t,

    alpha = (1 - t) / C,     A(mask) = t / C,     A(each of V symbols) = c_t / (V C),     B = 2^g p / (1 - p),

so that at t = 1/2 a share p of all places shows a random symbol, and everything is masked at t = 1; p = 0 is `Masked`. A
model of it can mend what it, or anyone, got wrong. Both need a network that knows the time and answers leave-one-out.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from langevin.diffusion.noise import Noise
from langevin.diffusion.posterior import Categorical
from langevin.diffusion.process import arrival
from langevin.diffusion.process.arrival import Arrivals
from langevin.diffusion.process.terms import Terms


@dataclass(frozen=True, kw_only=True)
class Uniform:
    """Any symbol in place of another, of int64 data in [0, symbols); the index `symbols` is never seen, the one after is
    padding."""

    symbols: int
    kind: Literal["uniform"] = "uniform"

    def __post_init__(self) -> None:
        _require_symbols(self.symbols)

    @property
    def mask(self) -> int:
        return self.symbols

    def arrivals(self, t: Tensor) -> Arrivals:
        t = t.double()
        zero = torch.zeros_like(t)
        rate = 1 / ((1 - t) * self.symbols)
        return Arrivals(alpha=1 - t, symbol=t / self.symbols, mask=zero, rate_symbol=rate, rate_mask=zero)

    def prior(self, like: Tensor, noise: Noise, t: Tensor | None = None) -> Tensor:
        """Symbols drawn evenly, but for padding."""
        one = torch.ones(len(like), dtype=torch.float64, device=like.device)
        return arrival.replace(self, like, self.arrivals(one).over(like), noise)

    def corrupt(self, x: Tensor, t: Tensor, noise: Noise, known: Tensor | None = None) -> Tensor:
        return arrival.replace(self, x, self.arrivals(t).over(x), noise, known)

    def transition(self, q: Categorical, x_t: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        return arrival.step_back(self, q, x_t, t, s, noise)

    def bound(self, q: Categorical, x: Tensor, x_t: Tensor, t: Tensor) -> Terms:
        return arrival.bound(self, q, x, x_t, t)


@dataclass(frozen=True, kw_only=True)
class Hybrid:
    """Masks and wrong symbols, of int64 data in [0, symbols).

    Args:
        symbols: of the data; the next index is the mask, the one after padding.
        wrong: share of places that show a random symbol at t = 1/2, where it is largest.
        power: g; how narrow in time the wrong symbols lie, 0 to 2.
    """

    symbols: int
    wrong: float = 0.2
    power: float = 1.0
    kind: Literal["hybrid"] = "hybrid"

    def __post_init__(self) -> None:
        _require_symbols(self.symbols)
        if not (0 <= self.wrong < 1 and 0 <= self.power <= 2):
            raise ValueError(
                f"the share of wrong symbols lies in [0, 1) and the power in [0, 2], got {self.wrong} and {self.power}"
            )

    @property
    def mask(self) -> int:
        """The index that stands for 'not known'."""
        return self.symbols

    def arrivals(self, t: Tensor) -> Arrivals:
        t, g, v = t.double(), self.power, self.symbols
        c = 2**g * self.wrong / (1 - self.wrong) * (t * (1 - t)) ** (g / 2)
        scale = 1 / (1 + c)
        inner = 0.0 if self.wrong == 0 else c * (g / 2 + (1 - g) * t) / (t * v * (1 - t)) * scale
        rate_symbol = inner * torch.ones_like(t)
        return Arrivals(
            alpha=(1 - t) * scale, symbol=c / v * scale, mask=t * scale, rate_symbol=rate_symbol,
            rate_mask=scale / (1 - t),
        )  # fmt: skip

    def prior(self, like: Tensor, noise: Noise, t: Tensor | None = None) -> Tensor:
        """All masked, but for padding."""
        return torch.where(like > self.mask, like, self.mask)

    def corrupt(self, x: Tensor, t: Tensor, noise: Noise, known: Tensor | None = None) -> Tensor:
        return arrival.replace(self, x, self.arrivals(t).over(x), noise, known)

    def transition(self, q: Categorical, x_t: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        return arrival.step_back(self, q, x_t, t, s, noise)

    def bound(self, q: Categorical, x: Tensor, x_t: Tensor, t: Tensor) -> Terms:
        return arrival.bound(self, q, x, x_t, t)


def _require_symbols(symbols: int) -> None:
    if symbols < 2:
        raise ValueError(f"symbols counts the vocabulary without the mask: at least 2 to be wrong, got {symbols}")
