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


@dataclass(frozen=True, kw_only=True)
class CopyMask:
    """Allows at masked positions the tokens that the sample shows anywhere, and those of a list.

    Args:
        listed: (vocabulary,) bool.
    """

    denoiser: Denoiser
    listed: Tensor

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> TokenPosterior:
        q = self.denoiser(x_t, t, condition)
        assert isinstance(q, TokenPosterior)
        count = len(self.listed)
        shown = torch.zeros(len(x_t), count + 1, dtype=torch.bool, device=x_t.device)
        shown = shown.scatter(1, x_t.clamp_max(count), True)[:, :count]  # what is no token is one more column
        allowed = shown | self.listed.to(x_t.device)
        row = torch.arange(len(x_t), device=x_t.device)[:, None].expand_as(x_t)

        def copied(logits: Tensor, row: Tensor) -> Tensor:
            return logits.masked_fill(~allowed[row], -torch.inf)

        return q.map_logits(copied, row)
