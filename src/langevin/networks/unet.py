"""A U-Net in one, two or three dimensions ("Denoising Diffusion Probabilistic Models", 2020, arXiv 2006.11239).

Residual blocks go down in resolution and up again, with skip connections between equal resolutions. The time and condition
vector scales and shifts after the second norm of each block ("Diffusion Models Beat GANs on Image Synthesis", 2021, arXiv
2105.05233). Chosen levels have self-attention, where tokens of the port `cross` are extra keys and values. `concat` and, in
one dimension, `aligned` are concatenated to the data's channels.

Time may differ by position: c_time is (b,), or (b, 1, ...) with the first dimensions of space, such as (b, 1, frames) for
video. A position of a coarser level is modulated by the mean of those under it.

With a data mask every layer sees zeros outside it, as at the border of data of that size: before each convolution, in the
statistics of each norm, among the keys of attention. A position of a coarser level holds data if one under it does.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from langevin.diffusion.condition import Condition
from langevin.diffusion.reuse import Deep
from langevin.networks.attention import Attention
from langevin.networks.convolution import CONVOLUTIONS
from langevin.networks.deep import picked
from langevin.networks.embedding import (
    ALL_PORTS,
    SPAN,
    ConditioningConfig,
    TimeEmbedding,
    require_bounded,
    require_input,
)
from langevin.networks.encoder import ConditionEncoder, Conditioning
from langevin.networks.fused import Dropout, plain
from langevin.networks.patches import patchify, unpatchify
from langevin.networks.sizes import DataSizes, Reads, conditioned, require_space


def _num_groups(channels: int) -> int:
    """32, or the largest count below that divides the channels."""
    return next(g for g in range(min(32, channels), 0, -1) if channels % g == 0)


def _num_heads(channels: int, head_dim: int | None) -> int:
    return max(1, channels // head_dim) if head_dim else 1


def _masked(x: Tensor, mask: Tensor | None) -> Tensor:
    """x (b, c, *space), 0 where `mask` (b, 1, *space) bool is False."""
    return x if mask is None else torch.where(mask, x, 0)


def group_norm(norm: nn.GroupNorm, x: Tensor, mask: Tensor | None) -> Tensor:
    """`norm` of x (b, c, *space) with mean and variance over the positions where `mask` (b, 1, *space) bool holds."""
    if mask is None:
        # by channels and in bf16 it is slow on a CPU, in torch 2.13
        slow = x.device.type == "cpu" and x.dtype == torch.bfloat16 and not x.is_contiguous()
        given = plain(x.float() if slow else x)
        y = F.group_norm(given, norm.num_groups, norm.weight, norm.bias, norm.eps)
        return y if given is x else y.to(x.dtype)
    groups = x.to(torch.promote_types(x.dtype, torch.float32)).unflatten(
        1, (norm.num_groups, -1)
    )  # (b, g, c / g, *space)
    weight, dims = mask[:, None].to(groups.dtype), tuple(range(2, groups.ndim))
    count = (weight.sum(dims, keepdim=True) * groups.shape[2]).clamp_min(1)
    centred = groups - (groups * weight).sum(dims, keepdim=True) / count
    variance = (centred * weight).square().sum(dims, keepdim=True) / count
    normalised = (centred * torch.rsqrt(variance + norm.eps)).flatten(1, 2)  # (b, c, *space)
    ones = (1,) * (x.ndim - 2)
    return torch.addcmul(norm.bias.view(-1, *ones), normalised, norm.weight.view(-1, *ones)).to(x.dtype)


class ResidualBlock(nn.Module):
    """x -> skip(x) + conv2(silu(norm2(conv1(silu(norm1(x)))) (1 + scale) + shift)); starts as skip(x)."""

    def __init__(
        self, in_channels: int, out_channels: int, embedding_width: int, dimensions: int, dropout: float
    ) -> None:
        super().__init__()
        conv = CONVOLUTIONS[dimensions]
        self.norm_1 = nn.GroupNorm(_num_groups(in_channels), in_channels, eps=1e-6)
        self.conv_1 = conv(in_channels, out_channels, 3, padding=1)
        self.modulation = nn.Linear(embedding_width, 2 * out_channels)
        self.norm_2 = nn.GroupNorm(_num_groups(out_channels), out_channels, eps=1e-6)
        self.dropout = Dropout(dropout)
        self.conv_2 = conv(out_channels, out_channels, 3, padding=1)
        self.skip = conv(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()
        nn.init.zeros_(self.conv_2.weight)
        nn.init.zeros_(self.conv_2.bias)

    def forward(self, x: Tensor, vector: Tensor, mask: Tensor | None) -> Tensor:
        """x (b, c, *space), modulated by `vector` (b, *space, embedding_width), where space may have sizes of 1."""
        h = self.conv_1(_masked(F.silu(group_norm(self.norm_1, x, mask)), mask))
        scale, shift = self.modulation(vector).movedim(-1, 1).chunk(2, 1)  # (b, c, 1 or a size of space, ...)
        h = torch.addcmul(shift, group_norm(self.norm_2, h, mask), 1 + scale)
        return self.skip(x) + self.conv_2(_masked(self.dropout(F.silu(h)), mask))


class SpatialAttention(nn.Module):
    """Self-attention over all positions of (b, c, *space), added to its input; starts as the identity."""

    def __init__(self, channels: int, head_dim: int | None, context_width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(_num_groups(channels), channels, eps=1e-6)
        self.attention = Attention(channels, heads=_num_heads(channels, head_dim), context_width=context_width)
        nn.init.zeros_(self.attention.out.weight)
        nn.init.zeros_(self.attention.out.bias)

    def forward(self, x: Tensor, conditioning: Conditioning, mask: Tensor | None) -> Tensor:
        tokens = group_norm(self.norm, x, mask).flatten(2).transpose(1, 2)  # (b, n, c)
        key_mask = None if mask is None else mask.flatten(1)
        if conditioning.token_mask is not None:
            key_mask = conditioning.token_mask.new_ones(x.shape[0], tokens.shape[1]) if key_mask is None else key_mask
            key_mask = torch.cat([key_mask, conditioning.token_mask], 1)
        elif key_mask is not None:
            key_mask = key_mask | ~key_mask.any(1, keepdim=True)  # a softmax needs a key: without data, the padding
        h = self.attention(tokens, mask=key_mask, context=conditioning.tokens)
        return x + h.transpose(1, 2).unflatten(2, x.shape[2:])


class Level(nn.Module):
    """Residual blocks of one resolution, each followed by attention if the level has it.

    `channels` are (in, out) of each block."""

    def __init__(
        self, channels: list[tuple[int, int]], config: "UNet.Config", attention: bool, embedding_width: int
    ) -> None:
        super().__init__()
        context_width = embedding_width if config.conditioning.cross_attends else 0
        self.blocks = nn.ModuleList(
            ResidualBlock(c_in, c_out, embedding_width, config.dimensions, config.dropout) for c_in, c_out in channels
        )
        self.attention = nn.ModuleList(
            SpatialAttention(c_out, config.head_dim, context_width) for _, c_out in channels if attention
        )

    def forward(self, x: Tensor, i: int, vector: Tensor, conditioning: Conditioning, mask: Tensor | None) -> Tensor:
        """Block `i` on x (b, c, *space), modulated by `vector` (b, *space, embedding_width)."""
        x = self.blocks[i](x, vector, mask)
        return self.attention[i](x, conditioning, mask) if len(self.attention) else x


@dataclass(frozen=True)
class Descent:
    """What the way up needs of the way down.

    Args:
        conditioning: of the condition.
        data_mask: (b, 1, *space) bool, False at padding; None without.
        vectors, masks: the vector that modulates each resolution, and its mask, the finest first.
        skips: for the skip connections, the coarsest last.
    """

    conditioning: Conditioning
    data_mask: Tensor | None
    vectors: list[Tensor]
    masks: list[Tensor | None]
    skips: list[Tensor]

    def of(self, skip: Tensor, index: Tensor | None) -> "Descent":
        """The way of the inputs `index` (m,) int64, all for None, from where `skip` (b, ...) is the last one so far."""
        tokens, shown = self.conditioning.tokens, self.conditioning.token_mask
        conditioning = replace(
            self.conditioning,
            tokens=None if tokens is None else picked(tokens, index),
            token_mask=None if shown is None else picked(shown, index),
        )
        masks = [None if mask is None else picked(mask, index) for mask in self.masks]
        vectors = [picked(vector, index) for vector in self.vectors]
        return Descent(conditioning, self.data_mask, vectors, masks, [picked(skip, index)])


class UNet(nn.Module):
    """(b, channels, *space) -> the same shape; every side is a multiple of patch * 2^(levels - 1)."""

    side_inputs = SPAN
    non_hidden = ("conv_in", "conv_out", "modulation", "time_embedding", "encoder")
    head = ("norm", "conv_out")

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Args:
        width: channels of the first level.
        channel_mult: multiples of the width, one per level; each level halves the resolution of the one before.
        patch: side of the patches that become channels before the first level, which is that much coarser than the data.
        blocks: residual blocks per level on the way down; one more on the way up.
        attention: levels (0 is the finest) with attention after every block; the middle always has it.
        head_dim: channels of an attention head; None is one head.
        embedding_width: channels of the time and condition vector; None is twice the width.
        fourier: powers n of input channels sin(2^n pi x) and cos(2^n pi x) that are concatenated to x. They resolve details
            far below the data's standard deviation, which likelihoods depend on ("Variational Diffusion Models", 2021,
            arXiv 2107.00630).
        dropout: probability, in [0, 1).
        dimensions: of space: 1, 2 or 3.
        channels: of the data; None is taken from the data.
        """

        kind: Literal["unet"] = "unet"
        reads: ClassVar[Reads] = "grids"
        levels_per_frame: ClassVar[bool] = True
        width: int = 64
        channel_mult: tuple[int, ...] = (1, 2, 2)
        patch: int = 1
        blocks: int = 2
        attention: tuple[int, ...] = (1,)
        head_dim: int | None = 64
        embedding_width: int | None = None
        fourier: tuple[int, ...] = ()
        dropout: float = 0.0
        dimensions: Literal[1, 2, 3] = 2
        channels: int | None = None
        conditioning: ConditioningConfig = ConditioningConfig()

        def __post_init__(self) -> None:
            require_bounded(self)
            if min(self.width, self.patch, self.blocks, *self.channel_mult) < 1 or not self.channel_mult:
                raise ValueError(f"a U-Net's sizes are positive: {self}")
            sizes = [size for size in (self.head_dim, self.embedding_width) if size is not None]
            if min(sizes, default=1) < 1:
                raise ValueError(f"network.head_dim and network.embedding_width are positive, got {sizes}")
            levels = len(self.channel_mult)
            if any(not 0 <= level < levels for level in self.attention):
                raise ValueError(f"network.attention {self.attention} names levels outside 0 to {levels - 1}")
            for level in (*self.attention, levels - 1):  # the middle is as wide as the last level
                channels = self.width * self.channel_mult[level]
                if channels % _num_heads(channels, self.head_dim):
                    raise ValueError(
                        f"network.head_dim {self.head_dim} does not divide the {channels} channels of level {level}"
                    )
            if not 0 <= self.dropout < 1:
                raise ValueError(f"network.dropout is a probability below 1, got {self.dropout}")
            if any(not 0 <= n <= 12 for n in self.fourier):
                raise ValueError(f"network.fourier holds exponents between 0 and 12, got {self.fourier}")
            self.conditioning.require(f"a {self.dimensions}-dimensional U-Net", self.supported_ports, span=True)

        @property
        def supported_ports(self) -> tuple[str, ...]:
            """The ports that this network can be built with: not `prepend`, as convolutions have no prefix."""
            refused = ("prepend",) if self.dimensions == 1 else ("prepend", "aligned")
            return tuple(port for port in ALL_PORTS if port not in refused)

        def fitted(self, sizes: DataSizes) -> "UNet.Config":
            """For data of these sizes. Raises `ValueError` where patches and levels do not cut it."""
            levels = len(self.channel_mult)
            what = f"patches of {self.patch}" + (f" and {levels} levels" if levels > 1 else "")
            require_space(self.dimensions, sizes, self.factor, what)
            return replace(self, channels=sizes.channels, conditioning=conditioned(self.conditioning, sizes))

        def build(self) -> "UNet":
            return UNet(self)

        @property
        def factor(self) -> int:
            """How much coarser the last level is than the data, along each dimension."""
            return self.patch * 2 ** (len(self.channel_mult) - 1)

        @property
        def middle_width(self) -> int:
            """Channels of the middle."""
            return self.width * self.channel_mult[-1]

    def __init__(self, config: Config, *, middle: bool = True) -> None:
        """`middle`: whether it has a middle of its own; without, `down_to_middle` and `up_from_middle` are called."""
        super().__init__()
        if not config.channels:
            raise ValueError("a U-Net needs network.channels before it is built: the number of channels of the data")
        self.config = config
        embedding_width = config.embedding_width or 2 * config.width
        conv, n = CONVOLUTIONS[config.dimensions], config.blocks
        widths = [config.width * mult for mult in config.channel_mult]
        volume = config.patch**config.dimensions
        self.time_embedding = TimeEmbedding(embedding_width)
        self.encoder = ConditionEncoder(config.conditioning, embedding_width, network="a U-Net")
        in_channels = config.channels * (1 + 2 * len(config.fourier)) + config.conditioning.channels
        self.conv_in = conv(in_channels * volume, config.width, 3, padding=1)
        skips, c_in = [config.width], config.width  # channels of the skip connections, and of the next block's input
        self.down, self.downsample = nn.ModuleList(), nn.ModuleList()
        for i, c_out in enumerate(widths):
            channels = [(c_in, c_out)] + [(c_out, c_out)] * (n - 1)
            self.down.append(Level(channels, config, i in config.attention, embedding_width))
            skips += [c_out] * n
            if i < len(widths) - 1:
                self.downsample.append(conv(c_out, c_out, 3, stride=2, padding=1))
                skips.append(c_out)
            c_in = c_out
        if middle:
            self.middle = Level([(c_in, c_in)], config, True, embedding_width)
            self.middle_2 = ResidualBlock(c_in, c_in, embedding_width, config.dimensions, config.dropout)
        self.up, self.upsample = nn.ModuleList(), nn.ModuleList()
        for i, c_out in reversed(list(enumerate(widths))):
            channels = []
            for _ in range(n + 1):
                channels.append((c_in + skips.pop(), c_out))
                c_in = c_out
            self.up.append(Level(channels, config, i in config.attention, embedding_width))
            if i > 0:
                self.upsample.append(conv(c_out, c_out, 3, padding=1))
        self.norm = nn.GroupNorm(_num_groups(c_in), c_in, eps=1e-6)
        self.conv_out = conv(c_in, config.channels * volume, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)

    def forward(self, x: Tensor, c_time: Tensor, condition: Condition | None = None) -> Tensor:
        h, way = self.down_to_middle(x, c_time, self.encoder(condition, x, tuple(x.shape[2:])))
        return self.up_from_middle(self._through_middle(h, way), way)

    def num_layers(self) -> int:
        """See `HasDeepLayers`."""
        return len(self.config.channel_mult) - 1

    def reusing(self, x: Tensor, c_time: Tensor, condition: Condition | None, deep: Deep) -> Tensor:
        """The output, with that of the levels below the finest ones from `deep`."""
        h, way = self._begun(x, c_time, self.encoder(condition, x, tuple(x.shape[2:])))
        h = self._down(h, way, range(deep.shallow))
        skip = way.skips.pop()  # for the way up below
        below = range(deep.shallow, len(self.down))

        def layers(index: Tensor | None) -> Tensor:
            part = way.of(skip, index)
            return self._up(self._through_middle(self._down(part.skips[-1], part, below), part), part, below)

        return self._ended(self._up(deep.instead(layers), way, range(deep.shallow)), way)

    def _through_middle(self, h: Tensor, way: Descent) -> Tensor:
        h = self.middle(h, 0, way.vectors[-1], way.conditioning, way.masks[-1])
        return self.middle_2(h, way.vectors[-1], way.masks[-1])

    def down_to_middle(self, x: Tensor, c_time: Tensor, conditioning: Conditioning) -> tuple[Tensor, Descent]:
        """The input of the middle, (b, middle_width, *space / factor). Raises `ValueError` for data it cannot read."""
        h, way = self._begun(x, c_time, conditioning)
        return self._down(h, way, range(len(self.down))), way

    def up_from_middle(self, h: Tensor, way: Descent) -> Tensor:
        """The output of the network, from that of the middle."""
        way = replace(way, skips=list(way.skips))
        return self._ended(self._up(h, way, range(len(self.up))), way)

    def _begun(self, x: Tensor, c_time: Tensor, conditioning: Conditioning) -> tuple[Tensor, Descent]:
        """The input of the finest level."""
        self._require(x, c_time)
        data_mask = None if conditioning.data_mask is None else conditioning.data_mask[:, None]  # (b, 1, *space)
        vectors, masks = self._vectors(c_time, conditioning.vector, len(self.down)), self._level_masks(data_mask)
        x = patchify(self._input(x, conditioning, data_mask), self.config.patch)
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        h = self.conv_in(x)
        return h, Descent(conditioning, data_mask, vectors, masks, [h])

    def _down(self, h: Tensor, way: Descent, levels: range) -> Tensor:
        """Down these levels, and to the next; skips are added to those of the way."""
        for i in levels:
            for j in range(self.config.blocks):
                h = self.down[i](h, j, way.vectors[i], way.conditioning, way.masks[i])
                way.skips.append(h)
            if i < len(self.downsample):
                h = self.downsample[i](_masked(h, way.masks[i]))
                way.skips.append(h)
        return h

    def _up(self, h: Tensor, way: Descent, levels: range) -> Tensor:
        """Up these levels, the coarsest first, and to the next; skips are taken from those of the way."""
        for i in reversed(levels):
            above = len(self.up) - 1 - i  # the coarsest level is the first
            for j in range(self.config.blocks + 1):
                skipped = torch.cat([h, way.skips.pop()], 1)
                h = self.up[above](skipped, j, way.vectors[i], way.conditioning, way.masks[i])
            if i > 0:
                h = F.interpolate(h, scale_factor=2.0, mode="nearest")
                h = self.upsample[above](_masked(h, way.masks[i - 1]))
        return h

    def _ended(self, h: Tensor, way: Descent) -> Tensor:
        """The output of the network, from that of the finest level."""
        h = _masked(F.silu(group_norm(self.norm, h, way.masks[0])), way.masks[0])
        return _masked(unpatchify(self.conv_out(h), self.config.patch), way.data_mask)

    def _vectors(self, c_time: Tensor, condition: Tensor | float, levels: int) -> list[Tensor]:
        """What modulates each resolution, the finest first: (b, *space, embedding_width), where space may have sizes 1."""
        c_time = c_time[:, None] if c_time.ndim == 1 else c_time
        c_time = c_time.reshape(*c_time.shape, *(1,) * (self.config.dimensions + 2 - c_time.ndim))  # (b, 1, *space)
        if isinstance(condition, Tensor):
            condition = condition.view(condition.shape[0], *(1,) * self.config.dimensions, -1)
        vectors = list[Tensor]()
        for side in (self.config.patch, *(2,) * (levels - 1)):
            for dim in range(2, c_time.ndim):
                if c_time.shape[dim] > 1:
                    c_time = c_time.unflatten(dim, (-1, side)).mean(dim + 1)
            vectors.append(F.silu(self.time_embedding(c_time[:, 0]) + condition))
        return vectors

    def _require(self, x: Tensor, c_time: Tensor) -> None:
        """Raises `ValueError` for data that the network cannot read."""
        require_input(x, c_time, channels=self.config.channels or 0, dimensions=self.config.dimensions, levels=True)
        levels, factor = len(self.config.channel_mult), self.config.factor
        if any(side % factor for side in x.shape[2:]):
            raise ValueError(
                f"data of space {tuple(x.shape[2:])} does not fit a {self.config.dimensions}-dimensional U-Net of {levels} "
                f"levels: every side must be a multiple of {factor}"
            )

    def _input(self, x: Tensor, conditioning: Conditioning, data_mask: Tensor | None) -> Tensor:
        """The data, its Fourier features and the channels of the condition, (b, channels, *space), 0 at padding."""
        x = _masked(x, data_mask)
        angles = [math.pi * 2**n * x for n in self.config.fourier]
        channels = [] if conditioning.channels is None else [conditioning.channels.to(x.dtype)]
        if not angles and not channels:
            return x
        return _masked(torch.cat([x, *(a.sin() for a in angles), *(a.cos() for a in angles), *channels], 1), data_mask)

    def _level_masks(self, data_mask: Tensor | None) -> list[Tensor | None]:
        """The mask of each level, (b, 1, *space) bool, the finest first."""
        if data_mask is None:
            return [None] * len(self.config.channel_mult)
        masks = [patchify(data_mask, self.config.patch).any(1, keepdim=True)]
        for _ in self.config.channel_mult[1:]:
            masks.append(patchify(masks[-1], 2).any(1, keepdim=True))
        return list[Tensor | None](masks)
