"""Multi-head self-attention with query-key normalisation, and position embeddings (rotary and sinusoidal)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from langevin.networks.fused import rms_norm

# keys up to which plain matrix products beat the fused kernel in bf16 on a CPU, with and without a gradient
UNFUSED_MAX_KEYS, UNFUSED_MAX_KEYS_FORWARD = 256, 128
TEXT_ROTARY_BASE = 10_000.0

Rotary = tuple[Tensor, Tensor]  # cosines and sines, (n, head_dim / 2) or (b, 1, n, head_dim / 2)


class Attention(nn.Module):
    """Multi-head self-attention; context tokens, if any, are keys and values only.

    Queries and keys are RMS-normalised per head and scaled per channel, which bounds the logits ("Scaling Vision
    Transformers to 22 Billion Parameters", 2023, arXiv 2302.05442).

    Args:
        width: channels, a multiple of `heads`.
        heads: number of heads.
        context_width: channels of the context tokens; 0 for none.
    """

    def __init__(self, width: int, *, heads: int, context_width: int = 0) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of the {heads} heads")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.context_kv = nn.Linear(context_width, 2 * width) if context_width else None
        self.q_norm = nn.RMSNorm(width // heads, eps=1e-6)
        self.k_norm = nn.RMSNorm(width // heads, eps=1e-6)
        self.out = nn.Linear(width, width)

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (b, n, d) -> (b, heads, n, head_dim)

    def project(
        self, x: Tensor, rotary: Rotary | None = None, valid: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, (b, heads, n, head_dim) each; queries and keys are normalised, then rotated.

        Args:
            x: (b, n, d), or (m, d) of the m positions where `valid` holds.
            rotary: cosines and sines, see `rotate`; None rotates nothing.
            valid: (b, n) bool; queries, keys and values elsewhere come from zeros.
        """
        qkv = self.qkv(x)
        qkv = qkv if valid is None else scatter_tokens(qkv, valid)
        q, k, v = (self._split_heads(part) for part in qkv.chunk(3, -1))
        q, k = _normalised(self.q_norm, q), _normalised(self.k_norm, k)
        return (q, k, v) if rotary is None else (rotate(q, *rotary), rotate(k, *rotary), v)

    def project_context(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of context tokens (b, m, context_width), (b, heads, m, head_dim) each; keys are normalised."""
        assert self.context_kv is not None, "the layer reads a context"
        k, v = (self._split_heads(part) for part in self.context_kv(context).chunk(2, -1))
        return _normalised(self.k_norm, k), v

    def mix(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, at: Tensor | None = None) -> Tensor:
        """Attention and output projection, (b, n, d), or (m, d) of the m positions where `at` (b, n) bool holds.

        `mask` (b, keys), or (b or 1, n, keys), is True where a query attends to a key."""
        if mask is not None:
            mask = mask[:, None, None, :] if mask.ndim == 2 else mask[:, None]
        y = attend(q.to(v.dtype), k.to(v.dtype), v, mask)
        y = y.transpose(1, 2).flatten(2)  # (b, heads, n, head_dim) -> (b, n, d)
        return self.out(y if at is None else y[at])

    def forward(
        self, x: Tensor, *, mask: Tensor | None = None, rotary: Rotary | None = None, context: Tensor | None = None
    ) -> Tensor:
        """x (b, n, d) -> (b, n, d). `mask` as in `mix`; the keys of `context` (b, m, context_width) come last."""
        q, k, v = self.project(x, rotary)
        if self.context_kv is not None and context is not None:
            context_k, context_v = self.project_context(context)
            k, v = torch.cat([k, context_k], 2), torch.cat([v, context_v], 2)
        return self.mix(q, k, v, mask)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q k^T / sqrt(head_dim)) v over (b, heads, n, head_dim), where `mask` is True.

    Fused, except for short sequences in bf16 on a CPU, where the fused kernel is slower."""
    most = UNFUSED_MAX_KEYS if q.requires_grad else UNFUSED_MAX_KEYS_FORWARD
    if q.device.type != "cpu" or q.dtype != torch.bfloat16 or k.shape[-2] > most:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if mask is not None:
        logits = logits.masked_fill(~mask, -torch.inf)
    return logits.softmax(-1) @ v  # it sums in float32


def scatter_tokens(x: Tensor, mask: Tensor) -> Tensor:
    """(m, d) of the m positions where `mask` (b, n) bool holds -> (b, n, d), 0 elsewhere."""
    return x.new_zeros(*mask.shape, x.shape[-1]).index_put((mask,), x)


def _normalised(norm: nn.RMSNorm, x: Tensor) -> Tensor:
    """`norm` of x, in the dtype of x."""
    return rms_norm(x) * norm.weight.to(x.dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding: channels (i, i + d/2) of x (..., n, d) turn by the angles of their position.

    `cos` and `sin` are (n, d / 2), or broadcast to (..., n, d / 2) ("RoFormer: Enhanced Transformer with Rotary Position
    Embedding", 2021, arXiv 2104.09864)."""
    a, b, cos, sin = *x.chunk(2, -1), cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


def rotary_angles(
    shape: tuple[int, ...], width: int, *, skip: int = 0, base: float = 100.0, device: torch.device | None = None
) -> Tensor:
    """Axial rotary angles (skip + positions, width / 2) on a grid of `shape`; each axis has its own part of the channels.

    The first `skip` positions (tokens that lie nowhere on the grid) have angle 0. Frequencies fall from 1 to 1 / `base`."""
    grids = torch.meshgrid(*(torch.arange(n, dtype=torch.float32, device=device) for n in shape), indexing="ij")
    angles = axial_angles(torch.stack([grid.flatten() for grid in grids], 1), width, base=base)
    return torch.cat([angles.new_zeros(skip, width // 2), angles])


def axial_angles(positions: Tensor, width: int, *, base: float = 100.0) -> Tensor:
    """Rotary angles (n, width / 2) at positions (n, axes); each axis has its own part of the channels."""
    pairs, axes = width // 2, positions.shape[1]
    parts = list[Tensor]()
    for i in range(axes):
        count = pairs // axes + (i < pairs % axes)
        frequency = base ** (-torch.arange(count, dtype=torch.float32, device=positions.device) / max(count, 1))
        parts.append(positions[:, i : i + 1] * frequency)
    return torch.cat(parts, -1)


def text_rotary(positions: Tensor | int, head_dim: int, device: torch.device, *, skip: int = 0) -> Rotary:
    """Rotary cosines and sines of positions in a text: 0 .. positions - 1, or those given, (n,) or (b, n).

    `skip` positions before the text have angle 0."""
    positions = torch.arange(positions, device=device) if isinstance(positions, int) else positions
    positions = F.pad(positions, (skip, 0)) if skip else positions
    pairs = head_dim // 2
    frequency = TEXT_ROTARY_BASE ** (-torch.arange(pairs, dtype=torch.float32, device=device) / pairs)
    angles = positions[..., None] * frequency
    if positions.ndim == 2:
        angles = angles[:, None]  # (b, 1, n, head_dim / 2), for all heads
    return angles.cos(), angles.sin()


def sine_positions(shape: tuple[int, ...], width: int, *, device: torch.device | None = None) -> Tensor:
    """Sinusoidal position embeddings (positions, width) on a grid of `shape`; each axis has its own channels."""
    angles = rotary_angles(shape, width - width % 2, device=device)
    embedding = torch.cat([angles.sin(), angles.cos()], -1)
    return F.pad(embedding, (0, width - embedding.shape[-1]))
