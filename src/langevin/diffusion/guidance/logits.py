"""Denoisers of tokens that modify the logits of another denoiser."""

from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.posterior import TokenPosterior


@dataclass(frozen=True, kw_only=True)
class VocabularyMask:
    """Forbids the (control) tokens from id `limit` on, except at positions that already hold one."""

    denoiser: Denoiser
    limit: int

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> TokenPosterior:
        q = self.denoiser(x_t, t, condition)
        assert isinstance(q, TokenPosterior)

        def within(logits: Tensor, shown: Tensor) -> Tensor:
            excluded = torch.arange(logits.shape[-1], device=logits.device) >= self.limit
            own = ((shown >= self.limit) & (shown < logits.shape[-1]))[..., None]
            return logits.masked_fill(excluded & ~own, -torch.inf)

        return q.map_logits(within, x_t)
