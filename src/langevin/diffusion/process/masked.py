"""Masked (absorbing-state) diffusion of tokens.

Forward, a position is masked at time t with probability 1 - alpha(t), independently of the others. In reverse from t to
s < t, a masked position is revealed with probability (alpha_s - alpha_t) / (1 - alpha_t), and a visible one never
changes.

The variational bound in continuous time is the cross-entropy at masked positions, weighted by -alpha' / (1 - alpha). Its
value does not depend on the schedule alpha; the variance of its estimate does. The posterior p(x | x_t) does not depend on
t, so the network needs no time input.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from langevin.diffusion.float64 import to_float64
from langevin.diffusion.noise import Noise
from langevin.diffusion.posterior import TokenPosterior
from langevin.diffusion.process.interpolating import Marginals
from langevin.diffusion.process.terms import Terms
from langevin.diffusion.shape import append_dims

MaskSchedule = Literal["linear", "cosine", "quadratic"]


@dataclass(frozen=True, kw_only=True)
class Masked:
    """q(x_t | x): each position keeps its token with probability alpha(t), else it is the mask. The schedules are

        linear      alpha = 1 - t
        cosine      alpha = 1 - sin(pi t / 2)
        quadratic   alpha = 1 - t^2

    "Simplified and Generalized Masked Diffusion for Discrete Data" (2024, arXiv:2406.04329); "Simple and Effective Masked
    Diffusion Language Models" (2024, arXiv:2406.07524).

    Args:
        vocab_size: V. Data x is (b, positions) int64: tokens are 0 .. V - 1, the mask is V, padding is V + 1 and never
            changes.
        schedule: linear, cosine or quadratic.

    Raises:
        ValueError: vocab_size below 1.
    """

    vocab_size: int
    schedule: MaskSchedule = "linear"
    kind: Literal["masked"] = "masked"

    def __post_init__(self) -> None:
        if self.vocab_size < 1:
            raise ValueError(f"vocab_size, the number of tokens without the mask, is at least 1, got {self.vocab_size}")

    @property
    def mask(self) -> int:
        """The token id of the mask, V."""
        return self.vocab_size

    def mask_probability(self, t: Tensor) -> Tensor:
        """1 - alpha(t), the probability that a position is masked; float64, shaped like t."""
        t = to_float64(t)
        if self.schedule == "linear":
            return t
        return torch.sin(0.5 * math.pi * t) if self.schedule == "cosine" else t * t

    def time(self, hidden: Tensor) -> Tensor:
        """The t at which a position is masked with probability `hidden`: the inverse of `mask_probability`."""
        hidden = to_float64(hidden)
        if self.schedule == "linear":
            return hidden
        return torch.asin(hidden) / (0.5 * math.pi) if self.schedule == "cosine" else hidden.sqrt()

    def loss_weight(self, t: Tensor) -> Tensor:
        """-alpha' / (1 - alpha), the weight of the bound, float64; infinite at t = 0."""
        t = to_float64(t)
        if self.schedule == "cosine":
            return 0.5 * math.pi / torch.tan(0.5 * math.pi * t)
        return (1 if self.schedule == "linear" else 2) / t  # 1 / t, or 2 t / t^2

    def arrivals(self, t: Tensor) -> Marginals:
        """The marginals q_t in the notation of `interpolating`: all replaced tokens are masks."""
        masked = self.mask_probability(t)
        zero = torch.zeros_like(masked)
        rate = self.loss_weight(t) * masked / (1 - masked)  # -alpha' / alpha
        return Marginals(alpha=1 - masked, uniform=zero, mask=masked, rate_uniform=zero, rate_mask=rate)

    def prior(self, like: Tensor, noise: Noise, t: Tensor | None = None) -> Tensor:
        """The mask at every position except padding, shaped like `like`."""
        return torch.where(like > self.mask, like, self.mask)

    def corrupt(self, x: Tensor, t: Tensor, noise: Noise, known: Tensor | None = None) -> Tensor:
        """x_t: each position is masked with probability 1 - alpha(t), except padding and those where `known` holds."""
        masked = (noise.uniform(x) < append_dims(self.mask_probability(t), x)).to(x.device) & (x <= self.mask)
        return torch.where(masked if known is None else masked & ~known, self.mask, x)

    def transition(self, q: TokenPosterior, x_t: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        """x_s: each masked position is revealed with probability (alpha_s - alpha_t) / (1 - alpha_t), as a draw from q."""
        mask_t, mask_s = (
            append_dims(self.mask_probability(t), x_t),
            append_dims(self.mask_probability(s), x_t),
        )  # 1 - alpha
        probability = torch.where(mask_t > 0, (mask_t - mask_s) / torch.where(mask_t > 0, mask_t, 1.0), 0.0)
        reveal = (x_t == self.mask) & (noise.fork(1).uniform(x_t) < probability).to(x_t.device)
        return torch.where(reveal, q.draw(noise.fork(2), reveal), x_t)

    def bound(self, q: TokenPosterior, x: Tensor, x_t: Tensor, t: Tensor) -> Terms:
        """diffusion = -alpha' / (1 - alpha) times the cross-entropy at masked positions; prior and reconstruction are 0."""
        masked = (x_t == self.mask) & (x < self.vocab_size)
        weight = self.loss_weight(append_dims(t, x).clamp_min(1e-300))
        error = to_float64(torch.where(masked, q.error(torch.where(masked, x, 0)), 0.0))  # -ln q(x)
        diffusion = error * torch.where(masked.to(error.device), weight, 0.0)
        return Terms(prior=torch.zeros_like(error), diffusion=diffusion, reconstruction=torch.zeros_like(error))
