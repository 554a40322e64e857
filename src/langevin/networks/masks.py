"""Attention masks over token positions: (1, queries, keys) bool, True where the query attends to the key."""

from functools import lru_cache

import torch
from torch import Tensor


def full_mask(n: int, device: torch.device) -> Tensor:
    """(1, n, n): every position attends to every position."""
    return torch.ones(1, n, n, dtype=torch.bool, device=device)


@lru_cache(maxsize=16)
def causal_mask(n: int, device: torch.device) -> Tensor:
    """(1, n, n): a position attends to itself and to those before it."""
    return torch.ones(n, n, dtype=torch.bool, device=device).tril()[None]


@lru_cache(maxsize=16)
def block_causal_mask(n: int, block_size: int, device: torch.device) -> Tensor:
    """(1, n, n): a position attends to its own block and to the blocks before it."""
    block = torch.arange(n, device=device) // block_size
    return (block[:, None] >= block)[None]


@lru_cache(maxsize=16)
def block_diffusion_mask(n: int, block_size: int, device: torch.device) -> Tensor:
    """(1, 2 n, 2 n) over n noisy positions, then the same n positions clean.

    A noisy position attends to its own noisy block and to the clean blocks before it. A clean position attends to its own
    clean block and to the clean blocks before it ("Block Diffusion: Interpolating Between Autoregressive and Diffusion
    Language Models", 2025, arXiv 2503.09573)."""
    block = torch.arange(n, device=device) // block_size
    same, before = block[:, None] == block, block[:, None] > block
    noisy = torch.cat([same, before], 1)
    clean = torch.cat([torch.zeros_like(same), same | before], 1)
    return torch.cat([noisy, clean])[None]


def with_prefix(mask: Tensor, prefix_mask: Tensor) -> Tensor:
    """A mask (1 or b, n, n) of n positions, with a prefix of p tokens before them: (b, p + n, p + n).

    `prefix_mask` (b, p) is False at padding. All positions attend to the prefix, which does not attend to them."""
    (b, p), n = prefix_mask.shape, mask.shape[-1]
    prefix_keys = prefix_mask[:, None].expand(-1, p + n, -1)
    # (b, p + n, n), False where the prefix is the query
    keys = torch.nn.functional.pad(mask, (0, 0, p, 0)).expand(b, -1, -1)
    return torch.cat([prefix_keys, keys], 2)
