"""The block of the diffusion transformer, and what modulates its tokens."""

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from langevin.networks.attention import Attention, Rotary, rotary_angles
from langevin.networks.fused import Dropout


class Block(nn.Module):
    """Attention, then an MLP, each with adaLN-zero modulation; tokens are (b, n, width).

    With a kernel, a depthwise convolution over neighbouring patches is added before the attention. With an axis, patches
    attend to those of their own frame, and to the tokens before the patches; or to those at their own position in all
    frames."""

    def __init__(
        self, width: int, heads: int, mlp_ratio: float, dropout: float, kernel: int, dimensions: int,
        axis: Literal["space", "time"] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.axis: Literal["space", "time"] | None = axis
        self.local = LocalMixing(width, kernel, dimensions) if kernel else None
        self.norm_1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.norm_2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attention = Attention(width, heads=heads)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU("tanh"), Dropout(dropout), nn.Linear(hidden, width))
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(
        self, x: Tensor, vectors: Tensor, rotary: Rotary, mask: Tensor | None, grid: tuple[int, ...] = (),
        index: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Args:
        x: (b, prefix + n, width), n patches on `grid` after tokens of the condition.
        vectors: (b, 1 or 1 + groups, width), see `grouped`.
        mask: (b, prefix + n) bool, False at padding.
        index: (tokens,) int64, the vector of each token, in place of groups.
        """
        prefix = x.shape[1] - math.prod(grid)
        modulation = self.modulation(vectors)
        modulation = modulation if index is None else modulation[:, index]
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = modulation.chunk(6, -1)
        per_token = partial(grouped, prefix) if index is None else ungrouped
        h = per_token(modulated, (self.norm_1(x),), (shift_1, scale_1))
        h = h if self.local is None else self.local(h, grid, mask)
        if self.axis is None:
            h = self.attention(h, mask=mask, rotary=rotary)
        else:
            h = attend_along(self.attention, h, grid, self.axis, mask)
        x = per_token(torch.addcmul, (x, h), (gate_1,))
        h = per_token(modulated, (self.norm_2(x),), (shift_2, scale_2))
        return per_token(torch.addcmul, (x, self.mlp(h)), (gate_2,))


def modulated(h: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """h (1 + scale) + shift."""
    return torch.addcmul(shift, h, 1 + scale)


def ungrouped(function: Callable[..., Tensor], tokens: tuple[Tensor, ...], vectors: tuple[Tensor, ...]) -> Tensor:
    """`function` of tokens (b, n, width) and of a vector for each, (b, n, width)."""
    return function(*tokens, *vectors)


def grouped(
    prefix: int, function: Callable[..., Tensor], tokens: tuple[Tensor, ...], vectors: tuple[Tensor, ...]
) -> Tensor:
    """`function` of tokens (b, prefix + n, width) and of the vectors that belong to each of them.

    Args:
        vectors: (b, 1, width), for all tokens; or (b, 1 + groups, width): for the first `prefix` tokens, then for each of
            equally many consecutive ones.
    """
    groups = vectors[0].shape[1] - 1
    if not groups:
        return function(*tokens, *vectors)
    patches = function(
        *(part[:, prefix:].unflatten(1, (groups, -1)) for part in tokens), *(part[:, 1:, None] for part in vectors)
    ).flatten(1, 2)
    if not prefix:
        return patches
    return torch.cat([function(*(part[:, :prefix] for part in tokens), *(part[:, :1] for part in vectors)), patches], 1)


def levels_of_patches(c_time: Tensor, grid: tuple[int, ...], sides: tuple[int, ...]) -> Tensor:
    """The mean level of each of equally many consecutive patches of the grid, (b, groups), from c_time (b, 1, ...) with the
    first dimensions of space; (b, 1) from c_time (b,)."""
    if c_time.ndim == 1:
        return c_time[:, None]
    pooled = c_time[:, 0]
    for axis in range(1, pooled.ndim):
        pooled = pooled if pooled.shape[axis] == 1 else pooled.unflatten(axis, (-1, sides[axis - 1])).mean(axis + 1)
    while pooled.ndim > 2 and pooled.shape[-1] == 1:  # the same along the last dimensions
        pooled = pooled.squeeze(-1)
    return pooled.expand(-1, *grid[: pooled.ndim - 1]).flatten(1)


def attend_along(
    attention: Attention, h: Tensor, grid: tuple[int, ...], axis: Literal["space", "time"], mask: Tensor | None
) -> Tensor:
    """Attention of h (b, prefix + n, width) within each frame, or at each position along time, the first axis of `grid`.

    Within a frame patches also attend to the tokens before them. Each frame with data has a copy of those, whose mean is
    the result; along time they get 0."""
    b, prefix, frames = h.shape[0], h.shape[1] - math.prod(grid), grid[0]
    patches = h[:, prefix:].unflatten(1, (frames, -1))  # (b, frames, positions, width)
    valid = None if mask is None else mask[:, prefix:].unflatten(1, (frames, -1))
    if axis == "time":
        patches, valid = patches.transpose(1, 2), None if valid is None else valid.transpose(1, 2)
    count = patches.shape[1]
    sequences, keys = patches.flatten(0, 1), None if valid is None else valid.flatten(0, 1)
    before = prefix if axis == "space" else 0
    if before:
        copies = h[:, None, :prefix].expand(-1, count, -1, -1).flatten(0, 1)
        sequences = torch.cat([copies, sequences], 1)
        if mask is not None and keys is not None:
            keys = torch.cat([mask[:, None, :prefix].expand(-1, count, -1).flatten(0, 1), keys], 1)
    shown = patches.new_ones(1, count, 1, 1) if valid is None else valid.any(2)[..., None, None].to(patches)
    if keys is not None:
        keys = keys | ~keys.any(1, keepdim=True)  # a softmax needs a key
    line = (1, *grid[1:]) if axis == "space" else (frames, *(1 for _ in grid[1:]))
    angles = rotary_angles(line, h.shape[-1] // attention.heads, skip=before, device=h.device)
    y = attention(sequences, mask=keys, rotary=(angles.cos(), angles.sin())).unflatten(0, (b, count))
    result = y[:, :, before:] if axis == "space" else y.transpose(1, 2)
    result = result.flatten(1, 2)
    if not prefix:
        return result
    copies = (y[:, :, :prefix] * shown).sum(1) / shown.sum(1).clamp_min(1)
    first = copies if before else torch.zeros_like(h[:, :prefix])
    return torch.cat([first.to(result.dtype), result], 1)


class LocalMixing(nn.Module):
    """h + depthwise convolution of h over the grid of patches; tokens before the patches, and padding, stay out of it."""

    def __init__(self, width: int, kernel: int, dimensions: int) -> None:
        super().__init__()
        convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1]
        self.convolution = convolution(width, width, kernel, padding=kernel // 2, groups=width)
        nn.init.zeros_(self.convolution.weight)
        nn.init.zeros_(self.convolution.bias)  # type: ignore[arg-type]

    def forward(self, h: Tensor, grid: tuple[int, ...], mask: Tensor | None) -> Tensor:
        """h (b, prefix + n, width), n patches on `grid`; `mask` (b, prefix + n) is False at padding."""
        n = math.prod(grid)
        patches = h[:, -n:] if mask is None else torch.where(mask[:, -n:, None], h[:, -n:], 0)
        mixed = self.convolution(patches.transpose(1, 2).unflatten(2, grid)).flatten(2).transpose(1, 2)
        return torch.cat([h[:, :-n], h[:, -n:] + mixed], 1) if h.shape[1] > n else h + mixed
