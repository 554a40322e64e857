"""What a token sees, and where it stands: masks of attention, True where a key may be seen, and rotary angles."""

from functools import lru_cache

import torch
from torch import Tensor

ROTARY_BASE = 10_000.0


def rotary(places: Tensor | int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines for places 0 .. n - 1, or those given, (n,) or (b, n)."""
    where = torch.arange(places, device=device) if isinstance(places, int) else places
    pairs = width // 2
    frequency = ROTARY_BASE ** (-torch.arange(pairs, dtype=torch.float32, device=device) / pairs)
    angles = where[..., None] * frequency
    if where.ndim == 2:
        angles = angles[:, None]  # the heads
    return angles.cos(), angles.sin()


def ones(n: int, device: torch.device) -> Tensor:
    """(1, n, n): every place sees every other."""
    return torch.ones(1, n, n, dtype=torch.bool, device=device)


@lru_cache(maxsize=16)
def causal(n: int, device: torch.device) -> Tensor:
    """(1, n, n): a place sees itself and those before."""
    return torch.ones(n, n, dtype=torch.bool, device=device).tril()[None]


@lru_cache(maxsize=16)
def blockwise(n: int, block: int, device: torch.device) -> Tensor:
    """(1, n, n): a place sees its own block and those before."""
    number = torch.arange(n, device=device) // block
    return (number[:, None] >= number)[None]


@lru_cache(maxsize=16)
def halves(n: int, block: int, device: torch.device) -> Tensor:
    """(1, 2 n, 2 n): noisy places see their own block and the clean blocks before it, clean ones no noisy ones."""
    number = torch.arange(n, device=device) // block
    own, before = number[:, None] == number, number[:, None] > number
    noisy = torch.cat([own, before], 1)
    clean = torch.cat([torch.zeros_like(own), own | before], 1)
    return torch.cat([noisy, clean])[None]
