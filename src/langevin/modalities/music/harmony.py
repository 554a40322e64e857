"""A rule of harmony as a constraint: no parallel fifths and octaves."""

from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.posterior import TokenPosterior
from langevin.modalities.music.codec import Voices

FIFTH = 7  # semitones
UNKNOWN = -2


@dataclass(frozen=True, kw_only=True)
class NoParallels:
    """Forbids tokens that would make parallel fifths or octaves with notes that are known.

    Two voices are parallel if they are a fifth or an octave apart, up to octaves, move in the same direction, and are so
    again. What is forbidden follows from the notes of the step, of the one before and of the one after. Tokens that
    are drawn in the same step of the sampler do not know each other; a position at which every token is forbidden is free.

    Args:
        denoiser: of tokens (b, steps * voices).
        codec: of the tokens.
    """

    denoiser: Denoiser
    codec: Voices

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> TokenPosterior:
        q = self.denoiser(x_t, t, condition)
        assert isinstance(q, TokenPosterior)
        return q.map_logits(without, self.forbidden(x_t))

    def forbidden(self, x_t: Tensor) -> Tensor:
        """(b, positions, vocabulary) bool, for x_t (b, positions)."""
        pitches = self.codec.pitches.to(x_t.device)  # of the tokens; UNKNOWN of the mask and of padding
        table = torch.cat([pitches, pitches.new_full((2,), UNKNOWN)])
        now = table[x_t].unflatten(1, (-1, self.codec.streams))
        found = torch.zeros(*now.shape, len(pitches), dtype=torch.bool, device=x_t.device)
        silent = torch.full_like(now[:, :1], UNKNOWN)
        for near in (torch.cat([silent, now[:, :-1]], 1), torch.cat([now[:, 1:], silent], 1)):
            for own in range(now.shape[2]):
                for other in range(now.shape[2]):
                    if own != other:
                        found[:, :, own] |= parallel(
                            near[..., own], near[..., other], now[..., other], pitches, own > other
                        )
        return found.flatten(1, 2)


def parallel(own: Tensor, other: Tensor, now: Tensor, pitches: Tensor, lower: bool) -> Tensor:
    """Which pitches (V,) of a voice would be parallel with another voice: (b, steps, V) bool.

    Args:
        own, other: (b, steps) pitches of both voices in the neighbouring step.
        now: (b, steps) pitch of the other voice.
        lower: whether the voice is the lower one.
    """
    interval = (own - other) % 12
    perfect = (interval == 0) | (interval == (12 - FIFTH if lower else FIFTH))
    watched = (own >= 0) & (other >= 0) & (now >= 0) & (now != other) & perfect
    same_interval = (pitches - now[..., None]) % 12 == interval[..., None]
    same_direction = (pitches - own[..., None]).sign() == (now - other)[..., None].sign()
    return watched[..., None] & same_interval & same_direction & (pitches >= 0)


def without(logits: Tensor, forbidden: Tensor) -> Tensor:
    """The logits without the forbidden tokens, unless all are."""
    return torch.where(forbidden & ~forbidden.all(-1, keepdim=True), -torch.inf, logits)
