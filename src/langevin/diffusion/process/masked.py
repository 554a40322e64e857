"""Masked (absorbing) diffusion over symbols: each place keeps its symbol with probability alpha(t), else shows the mask,
index `symbols` ("Simplified and Generalized Masked Diffusion for Discrete Data", 2024).

    linear      alpha = 1 - t
    cosine      alpha = 1 - sin(pi t / 2)      more time where little is hidden
    quadratic   alpha = 1 - t^2                more where much is

Backwards from t to s a masked place is revealed with probability (alpha_s - alpha_t) / (1 - alpha_t) and never changes
after. In continuous time the bound is the cross-entropy of the masked places, weighted by -alpha' / (1 - alpha): its value
does not depend on alpha, the variance of its estimate does. As p(x | x_t) does not depend on t, a network need not know it.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from langevin.diffusion.noise import Noise
from langevin.diffusion.posterior import Symbolic
from langevin.diffusion.process.arrival import Arrivals
from langevin.diffusion.process.terms import Terms
from langevin.diffusion.shape import right_pad

Rate = Literal["linear", "cosine", "quadratic"]


@dataclass(frozen=True, kw_only=True)
class Masked:
    """Masked diffusion of int64 data in [0, symbols); `symbols` + 1 is padding, which never changes."""

    symbols: int
    rate: Rate = "linear"
    kind: Literal["masked"] = "masked"

    def __post_init__(self) -> None:
        if self.symbols < 1:
            raise ValueError(f"symbols counts the vocabulary without the mask: at least 1, got {self.symbols}")

    @property
    def mask(self) -> int:
        """The index that stands for 'not known'."""
        return self.symbols

    def hidden(self, t: Tensor) -> Tensor:
        """1 - alpha(t), the probability of a mask; float64, shaped like t."""
        t = t.double()
        if self.rate == "linear":
            return t
        return torch.sin(0.5 * math.pi * t) if self.rate == "cosine" else t * t

    def time(self, hidden: Tensor) -> Tensor:
        """The t at which a place is masked with probability `hidden`: the inverse of the above."""
        hidden = hidden.double()
        if self.rate == "linear":
            return hidden
        return torch.asin(hidden) / (0.5 * math.pi) if self.rate == "cosine" else hidden.sqrt()

    def speed(self, t: Tensor) -> Tensor:
        """-alpha' / (1 - alpha), the weight of the bound; infinite at t = 0."""
        t = t.double()
        if self.rate == "cosine":
            return 0.5 * math.pi / torch.tan(0.5 * math.pi * t)
        return (1 if self.rate == "linear" else 2) / t

    def arrivals(self, t: Tensor) -> Arrivals:
        hidden = self.hidden(t)
        zero = torch.zeros_like(hidden)
        rate = self.speed(t) * hidden / (1 - hidden)
        return Arrivals(alpha=1 - hidden, symbol=zero, mask=hidden, rate_symbol=zero, rate_mask=rate)

    def prior(self, like: Tensor, noise: Noise, t: Tensor | None = None) -> Tensor:
        """All masked, but for padding."""
        return torch.where(like > self.mask, like, self.mask)

    def corrupt(self, x: Tensor, t: Tensor, noise: Noise, known: Tensor | None = None) -> Tensor:
        """Each place masked with probability 1 - alpha(t), but for those in `known` and padding."""
        hidden = (noise.uniform(x) < right_pad(self.hidden(t), x)) & (x <= self.mask)
        return torch.where(hidden if known is None else hidden & ~known, self.mask, x)

    def transition(self, q: Symbolic, x_t: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        """Reveal masked places with probability (alpha_s - alpha_t) / (1 - alpha_t), each from q; nothing else changes."""
        before, after = right_pad(self.hidden(t), x_t), right_pad(self.hidden(s), x_t)
        chance = torch.where(before > 0, (before - after) / torch.where(before > 0, before, 1.0), 0.0)
        reveal = (x_t == self.mask) & (noise.fork(1).uniform(x_t) < chance)
        return torch.where(reveal, q.draw(noise.fork(2), reveal), x_t)

    def bound(self, q: Symbolic, x: Tensor, x_t: Tensor, t: Tensor) -> Terms:
        """diffusion = cross-entropy x -alpha' / (1 - alpha) at the masked places; prior and reconstruction are zero."""
        hidden = (x_t == self.mask) & (x < self.symbols)
        weight = self.speed(right_pad(t, x).clamp_min(1e-300))
        error = torch.where(hidden, q.error(torch.where(hidden, x, 0)).double(), 0.0) * torch.where(hidden, weight, 0.0)
        return Terms(prior=torch.zeros_like(error), diffusion=error, reconstruction=torch.zeros_like(error))
