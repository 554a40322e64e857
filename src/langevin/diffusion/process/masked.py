"""Masked (absorbing) diffusion over symbols: each place keeps its symbol with probability alpha(t) = 1 - t, else shows
the mask, index `symbols` ("Simplified and Generalized Masked Diffusion for Discrete Data", 2024).

Backwards from t to s a masked place is revealed with probability (alpha_s - alpha_t) / (1 - alpha_t) and never changes
after. In continuous time the bound is the cross-entropy of the masked places, weighted by -alpha' / (1 - alpha) = 1 / t.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from langevin.diffusion.noise import Noise
from langevin.diffusion.posterior import Categorical
from langevin.diffusion.process.terms import Terms
from langevin.diffusion.shape import right_pad


@dataclass(frozen=True, kw_only=True)
class Masked:
    """Masked diffusion of int64 data in [0, symbols)."""

    symbols: int
    kind: Literal["masked"] = "masked"

    def __post_init__(self) -> None:
        if self.symbols < 1:
            raise ValueError(f"symbols counts the vocabulary without the mask: at least 1, got {self.symbols}")

    @property
    def mask(self) -> int:
        """The index that stands for 'not known'."""
        return self.symbols

    def prior(self, like: Tensor, noise: Noise, t: Tensor | None = None) -> Tensor:
        """All masked."""
        return torch.full_like(like, self.mask)

    def corrupt(self, x: Tensor, t: Tensor, noise: Noise, known: Tensor | None = None) -> Tensor:
        """Each place masked with probability t, but for those in `known`."""
        hidden = noise.uniform(x) < right_pad(t.double(), x)
        return torch.where(hidden if known is None else hidden & ~known, self.mask, x)

    def transition(self, q: Categorical, x_t: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        """Reveal masked places with probability (t - s) / t, drawing each from q; nothing else changes."""
        t, s = right_pad(t.double(), x_t), right_pad(s.double(), x_t)
        chance = torch.where(t > 0, (t - s) / torch.where(t > 0, t, 1.0), 0.0)
        reveal = (x_t == self.mask) & (noise.fork(1).uniform(x_t) < chance)
        return torch.where(reveal, q.draw(noise.fork(2)), x_t)

    def bound(self, q: Categorical, x: Tensor, x_t: Tensor, t: Tensor) -> Terms:
        """diffusion = cross-entropy / t at the masked places; prior and reconstruction are zero."""
        hidden = x_t == self.mask
        error = torch.where(hidden, q.error(x).double(), 0.0) / right_pad(t.double(), x).clamp_min(1e-300)
        return Terms(prior=torch.zeros_like(error), diffusion=error, reconstruction=torch.zeros_like(error))
