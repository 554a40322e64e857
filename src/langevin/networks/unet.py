"""A U-Net in one, two or three dimensions ("Denoising Diffusion Probabilistic Models", 2020).

Residual blocks at falling resolutions and back, with skips between equals; the time and condition vector scales and
shifts after each block's second norm; attention at chosen levels, where text tokens are extra keys and values.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from langevin.diffusion.condition import Condition
from langevin.networks.attention import Attention
from langevin.networks.embedding import Encoder, Ports, TimeEmbedding, require_question
from langevin.networks.patches import fold, unfold

_CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def _groups(channels: int) -> int:
    """32 groups, or the largest count below that divides the channels."""
    return next(g for g in range(min(32, channels), 0, -1) if channels % g == 0)


def _heads(channels: int, head_width: int | None) -> int:
    return max(1, channels // head_width) if head_width else 1


class ResidualBlock(nn.Module):
    """norm, silu, conv; norm, scale and shift, silu, conv; plus the input. Starts as the skip."""

    def __init__(self, inner: int, outer: int, vector: int, dimensions: int, dropout: float) -> None:
        super().__init__()
        conv = _CONV[dimensions]
        self.norm_1 = nn.GroupNorm(_groups(inner), inner, eps=1e-6)
        self.conv_1 = conv(inner, outer, 3, padding=1)
        self.modulate = nn.Linear(vector, 2 * outer)
        self.norm_2 = nn.GroupNorm(_groups(outer), outer, eps=1e-6)
        self.dropout = nn.Dropout(dropout)
        self.conv_2 = conv(outer, outer, 3, padding=1)
        self.skip = conv(inner, outer, 1) if inner != outer else nn.Identity()
        nn.init.zeros_(self.conv_2.weight)
        nn.init.zeros_(self.conv_2.bias)

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        h = self.conv_1(F.silu(self.norm_1(x)))
        modulation = self.modulate(vector)
        scale, shift = modulation.reshape(*modulation.shape, *([1] * (x.ndim - 2))).chunk(2, 1)
        h = torch.addcmul(shift, self.norm_2(h), 1 + scale)
        return self.skip(x) + self.conv_2(self.dropout(F.silu(h)))


class SpatialAttention(nn.Module):
    """Attention over all places of (b, c, *space), added to its input."""

    def __init__(self, channels: int, head_width: int | None, text_width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(_groups(channels), channels, eps=1e-6)
        self.attention = Attention(channels, heads=_heads(channels, head_width), extra_width=text_width)
        nn.init.zeros_(self.attention.out.weight)
        nn.init.zeros_(self.attention.out.bias)

    def forward(self, x: Tensor, text: Tensor | None, mask: Tensor | None) -> Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        if mask is not None:
            mask = torch.cat([mask.new_ones(len(x), tokens.shape[1]), mask], 1)
        h = self.attention(tokens, mask=mask, extra=text)
        return x + h.transpose(1, 2).unflatten(2, x.shape[2:])


class Level(nn.Module):
    """Residual blocks of one resolution, each followed by attention where the level has it."""

    def __init__(self, widths: list[tuple[int, int]], config: "UNet.Config", attend: bool, vector: int) -> None:
        super().__init__()
        text = vector if config.ports.vocabulary else 0
        self.blocks = nn.ModuleList(ResidualBlock(a, b, vector, config.dimensions, config.dropout) for a, b in widths)
        self.attention = nn.ModuleList(SpatialAttention(b, config.head_width, text) for _, b in widths if attend)

    def forward(self, x: Tensor, at: int, told: "tuple[Tensor, Tensor | None, Tensor | None]") -> Tensor:
        x = self.blocks[at](x, told[0])
        return self.attention[at](x, *told[1:]) if len(self.attention) else x


class UNet(nn.Module):
    """(b, channels, *space) -> the same shape; every side a multiple of patch 2^(levels - 1)."""

    edges = ("first", "last", "modulate", "time", "encoder")

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Args:
        width: channels of the first level.
        multipliers: of the width, one a level; each level halves the resolution of the one before.
        patch: side of the patches that are folded into channels before the first level, which makes it that much coarser.
        blocks: residual blocks a level on the way down; one more on the way up.
        attention: levels (0 is the finest) with attention after every block; the middle always has it.
        head_width: channels of an attention head; None is one head.
        vector: channels of the time and condition vector; None is twice the width.
        fourier: powers n of input channels sin(2^n pi x) and cos(2^n pi x) that are added to x, for details far below
        its spread,
            which a likelihood is made of ("Variational Diffusion Models", 2021).
        """

        kind: Literal["unet"] = "unet"
        width: int = 64
        multipliers: tuple[int, ...] = (1, 2, 2)
        patch: int = 1
        blocks: int = 2
        attention: tuple[int, ...] = (1,)
        head_width: int | None = 64
        vector: int | None = None
        fourier: tuple[int, ...] = ()
        dropout: float = 0.0
        dimensions: Literal[1, 2, 3] = 2
        channels: int | None = None
        ports: Ports = Ports()

        def __post_init__(self) -> None:
            if min(self.width, self.patch, self.blocks, *self.multipliers) < 1 or not self.multipliers:
                raise ValueError(f"a U-Net's sizes are positive: {self}")
            given = [size for size in (self.head_width, self.vector) if size is not None]
            if min(given, default=1) < 1:
                raise ValueError(f"network.head_width and network.vector are positive, got {given}")
            if any(not 0 <= level < len(self.multipliers) for level in self.attention):
                raise ValueError(
                    f"network.attention {self.attention} names levels beyond the {len(self.multipliers)} there are"
                )
            for level in (*self.attention, len(self.multipliers) - 1):  # the middle is as wide as the last level
                channels = self.width * self.multipliers[level]
                if channels % _heads(channels, self.head_width):
                    raise ValueError(
                        f"network.head_width {self.head_width} does not cut the {channels} channels of level {level} evenly"
                    )
            if not 0 <= self.dropout < 1:
                raise ValueError(f"network.dropout is a probability below 1, got {self.dropout}")
            if any(not 0 <= n <= 12 for n in self.fourier):
                raise ValueError(f"network.fourier holds powers of two between 0 and 12, got {self.fourier}")

        def build(self) -> "UNet":
            return UNet(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        if not config.channels:
            raise ValueError("a U-Net needs to know the data's channels before it is built")
        self.config = config
        vector = config.vector or 2 * config.width
        conv, k = _CONV[config.dimensions], config.blocks
        widths = [config.width * m for m in config.multipliers]
        last = len(widths) - 1
        self.time = TimeEmbedding(vector)
        self.encoder = Encoder(config.ports, vector)
        inside = config.channels * config.patch**config.dimensions
        self.first = conv(inside * (1 + 2 * len(config.fourier)), config.width, 3, padding=1)
        skips, inner = [config.width], config.width
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        for i, outer in enumerate(widths):
            pairs = [(inner, outer)] + [(outer, outer)] * (k - 1)
            self.down.append(Level(pairs, config, i in config.attention, vector))
            skips += [outer] * k
            if i < last:
                self.shrink.append(conv(outer, outer, 3, stride=2, padding=1))
                skips.append(outer)
            inner = outer
        self.middle = Level([(inner, inner)], config, True, vector)
        self.middle_2 = ResidualBlock(inner, inner, vector, config.dimensions, config.dropout)
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        for i, outer in reversed(list(enumerate(widths))):
            pairs = []
            for _ in range(k + 1):
                pairs.append((inner + skips.pop(), outer))
                inner = outer
            self.up.append(Level(pairs, config, i in config.attention, vector))
            if i > 0:
                self.grow.append(conv(outer, outer, 3, padding=1))
        self.norm = nn.GroupNorm(_groups(inner), inner, eps=1e-6)
        self.last = conv(inner, inside, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def _check(self, x: Tensor, c_time: Tensor) -> None:
        require_question(x, c_time, channels=self.config.channels or 0, dimensions=self.config.dimensions)
        factor = self.config.patch * 2 ** (len(self.config.multipliers) - 1)
        if any(n % factor for n in x.shape[2:]):
            raise ValueError(
                f"data of space {tuple(x.shape[2:])} does not fit a {self.config.dimensions}-dimensional U-Net of "
                f"{len(self.config.multipliers)} levels: every side must be a multiple of {factor}"
            )

    def forward(self, x: Tensor, c_time: Tensor, condition: Condition | None = None) -> Tensor:
        self._check(x, c_time)
        vector, text, mask = self.encoder(condition, len(x))
        told = (F.silu(self.time(c_time) + vector), text, mask)
        waves = [math.pi * 2**n * x for n in self.config.fourier]
        x = torch.cat([x, *(wave.sin() for wave in waves), *(wave.cos() for wave in waves)], 1) if waves else x
        x = fold(x, self.config.patch)
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        h = self.first(x)
        skips = [h]
        for i, level in enumerate(self.down):
            for at in range(self.config.blocks):
                h = level(h, at, told)
                skips.append(h)
            if i < len(self.shrink):
                h = self.shrink[i](h)
                skips.append(h)
        h = self.middle_2(self.middle(h, 0, told), told[0])
        for i, level in enumerate(self.up):
            for at in range(self.config.blocks + 1):
                h = level(torch.cat([h, skips.pop()], 1), at, told)
            if i < len(self.grow):
                h = self.grow[i](F.interpolate(h, scale_factor=2.0, mode="nearest"))
        return unfold(self.last(F.silu(self.norm(h))), self.config.patch)
