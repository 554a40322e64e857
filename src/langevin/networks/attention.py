"""Fused attention over places (b, n, d), with normalised queries and keys and optional rotary positions and extra keys."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from langevin.networks.lean import rms_norm

SHORT = 256  # keys up to which attention without the fused kernel wins in bf16 on a CPU


class Attention(nn.Module):
    """Multi-head self-attention; `extra` tokens are keys and values only.

    Queries and keys have unit root mean square times a learned scale a channel, which bounds the logits
    ("Scaling Vision Transformers to 22 Billion Parameters", 2023).

    Args:
        width: channels, a multiple of `heads`.
        heads: how many.
        extra_width: channels of the extra tokens; 0 for none.
    """

    def __init__(self, width: int, *, heads: int, extra_width: int = 0) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of the {heads} heads")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.extra = nn.Linear(extra_width, 2 * width) if extra_width else None
        self.q_norm = nn.RMSNorm(width // heads, eps=1e-6)
        self.k_norm = nn.RMSNorm(width // heads, eps=1e-6)
        self.out = nn.Linear(width, width)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (b, heads, n, d / heads)

    def project(
        self, x: Tensor, rotary: tuple[Tensor, Tensor] | None = None, real: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, (b, heads, n, d / heads) each: normalised, and turned where `rotary` is given.

        x is (b, n, d), or (m, d) of the m places where `real` (b, n) holds; those of the others are 0."""
        found = self.qkv(x)
        q, k, v = (self._split(part) for part in (found if real is None else spread(found, real)).chunk(3, -1))
        q, k = _unit(self.q_norm, q), _unit(self.k_norm, k)
        return (q, k, v) if rotary is None else (rotate(q, *rotary), rotate(k, *rotary), v)

    def mix(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, at: Tensor | None = None) -> Tensor:
        """What the queries find, (b, n, d), or (m, d) of those where `at` (b, n) holds.

        `mask` (b, keys), or (b or 1, n, keys), is True where a key may be seen."""
        if mask is not None:
            mask = mask[:, None, None, :] if mask.ndim == 2 else mask[:, None]
        y = attend(q.to(v.dtype), k.to(v.dtype), v, mask)
        y = y.transpose(1, 2).flatten(2)
        return self.out(y if at is None else y[at])

    def forward(
        self,
        x: Tensor,
        *,
        mask: Tensor | None = None,
        rotary: tuple[Tensor, Tensor] | None = None,
        extra: Tensor | None = None,
    ) -> Tensor:
        """`mask` as in `mix`; extra keys come last."""
        q, k, v = self.project(x, rotary)
        if self.extra is not None and extra is not None:
            more_k, more_v = (self._split(part) for part in self.extra(extra).chunk(2, -1))
            k, v = torch.cat([k, _unit(self.k_norm, more_k)], 2), torch.cat([v, more_v], 2)
        return self.mix(q, k, v, mask)


def attend(q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None) -> Tensor:
    """softmax(q k^T / sqrt(d)) v over (b, heads, n, d), where `seen` is True.

    Fused, but for short sequences in bf16 on a CPU: there the fused kernel is the slower one, forward and backward."""
    short = q.device.type == "cpu" and q.dtype == torch.bfloat16 and k.shape[-2] <= SHORT
    if not short:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
    logits = ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)).float()
    if seen is not None:
        logits = logits.masked_fill(~seen, -torch.inf)
    return logits.softmax(-1).to(v.dtype) @ v


def spread(x: Tensor, at: Tensor) -> Tensor:
    """(m, d) of the m places where `at` (b, n) holds, to (b, n, d); 0 elsewhere."""
    return x.new_zeros(*at.shape, x.shape[-1]).index_put((at,), x)


def _unit(norm: nn.RMSNorm, x: Tensor) -> Tensor:
    """`norm` in the type of x."""
    return rms_norm(x) * norm.weight.to(x.dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn channel pairs (i, i + d/2) by the angles of each place; cos and sin are (n, d / 2).

    ("RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021)"""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


def rotary_angles(
    shape: tuple[int, ...], width: int, *, skip: int = 0, base: float = 100.0, device: torch.device | None = None
) -> Tensor:
    """Angles (skip + places, width / 2) on a grid of `shape`: each axis turns its own share of the channels.

    The first `skip` places (tokens that lie nowhere on the grid) are not turned. Frequencies go from 1 to 1 / `base`."""
    pairs = width // 2
    share = [pairs // len(shape) + (i < pairs % len(shape)) for i in range(len(shape))]
    places = torch.meshgrid(*(torch.arange(n, dtype=torch.float32, device=device) for n in shape), indexing="ij")
    parts: list[Tensor] = []
    for place, count in zip(places, share, strict=True):
        frequency = base ** (-torch.arange(count, dtype=torch.float32, device=device) / max(count, 1))
        parts.append(place.flatten()[:, None] * frequency)
    angles = torch.cat(parts, -1)
    return torch.cat([angles.new_zeros(skip, pairs), angles])
