"""Denoisers of tokens that modify the logits of another denoiser."""

from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.posterior import TokenPosterior


@dataclass(frozen=True, kw_only=True)
class KeepSourceBias:
    """Adds `logit_bias` to the logits of the tokens of the source, the first stream of `condition.source`.

    An edit then needs a token that is more likely by that much.

    Args:
        denoiser: of tokens.
        logit_bias: in nats.
    """

    denoiser: Denoiser
    logit_bias: float

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> TokenPosterior:
        q = self.denoiser(x_t, t, condition)
        assert isinstance(q, TokenPosterior)
        if condition is None or condition.source is None:
            return q

        def kept(logits: Tensor, source: Tensor) -> Tensor:
            real = (source >= 0) & (source < logits.shape[-1])
            index = torch.where(real, source, 0)[..., None]
            return logits.scatter_add(-1, index, (self.logit_bias * real.to(logits.dtype))[..., None])

        return q.map_logits(kept, condition.source[:, 0])


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
