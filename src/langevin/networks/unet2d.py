"""diffusers' `UNet2DModel`, with its names of weights, so that those of either are those of the other.

"Denoising Diffusion Probabilistic Models" (2020, arXiv 2006.11239). Beside `unet`: queries and keys are not normalised,
time is a sinusoid of timesteps, and every norm has the same number of groups.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from langevin.diffusion.betas import Betas
from langevin.diffusion.condition import FACTS, Condition, Port
from langevin.networks.embedding import ConditioningConfig, require_bounded, require_input
from langevin.networks.sizes import DataSizes, Reads, conditioned, require_space
from langevin.networks.timesteps import TimestepEmbedding, Timesteps, sinusoid


class Resnet(nn.Module):
    """x -> skip(x) + conv2(silu(norm2(conv1(silu(norm1(x)))))), with the time added before norm2, or scaling and shifting
    after it."""

    def __init__(self, c_in: int, c_out: int, width: int, config: "UNet2D.Config") -> None:
        super().__init__()
        groups, eps, self.scale_shift = (
            config.norm_num_groups,
            config.norm_eps,
            config.time_scale_shift == "scale_shift",
        )
        self.norm1 = nn.GroupNorm(groups, c_in, eps=eps)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.time_emb_proj = nn.Linear(width, 2 * c_out if self.scale_shift else c_out)
        self.norm2 = nn.GroupNorm(groups, c_out, eps=eps)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else None

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        time = self.time_emb_proj(F.silu(embedding))[:, :, None, None]
        if self.scale_shift:
            scale, shift = time.chunk(2, 1)
            h = self.norm2(h) * (1 + scale) + shift
        else:
            h = self.norm2(h + time)
        h = self.conv2(self.dropout(F.silu(h)))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class SelfAttention(nn.Module):
    """Attention over all positions of (b, c, h, w), added to its input."""

    def __init__(self, channels: int, head_dim: int | None, groups: int | None, eps: float) -> None:
        super().__init__()
        self.heads = channels // (head_dim or channels)
        self.group_norm = nn.GroupNorm(groups, channels, eps=eps) if groups else None
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        h = x if self.group_norm is None else self.group_norm(x)
        h = h.flatten(2).transpose(1, 2)
        q, k, v = (f(h).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.to_q, self.to_k, self.to_v))
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x + self.to_out[0](h).transpose(1, 2).unflatten(2, x.shape[2:])


class Convolution(nn.Module):
    """A convolution under the name `conv`."""

    def __init__(self, channels: int, **options: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, **options)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Stage(nn.Module):
    """The blocks of one resolution, under the names that diffusers gives them."""

    def __init__(
        self, channels: list[tuple[int, int]], width: int, config: "UNet2D.Config", *, attends: bool,
        down: dict[str, Any] | None = None, up: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        c_out = channels[-1][1]
        self.resnets = nn.ModuleList(Resnet(a, b, width, config) for a, b in channels)
        if attends:
            self.attentions = nn.ModuleList(
                SelfAttention(c_out, config.attention_head_dim, config.norm_num_groups, config.norm_eps)
                for _ in channels
            )
        self.attends, self.asymmetric = attends, down is not None and not down["padding"]
        self.downsamplers = None if down is None else nn.ModuleList([Convolution(c_out, stride=2, **down)])
        self.upsamplers = nn.ModuleList([Convolution(c_out, padding=1)]) if up else None

    def block(self, i: int, x: Tensor, embedding: Tensor) -> Tensor:
        x = self.resnets[i](x, embedding)
        return self.attentions[i](x) if self.attends else x

    def downsampled(self, x: Tensor) -> Tensor:
        assert self.downsamplers is not None
        return self.downsamplers[0](F.pad(x, (0, 1, 0, 1)) if self.asymmetric else x)


class Middle(nn.Module):
    """A block, attention if there is any, and a block."""

    def __init__(self, channels: int, width: int, config: "UNet2D.Config") -> None:
        super().__init__()
        self.resnets = nn.ModuleList(Resnet(channels, channels, width, config) for _ in range(2))
        plain = config.norm_num_groups if config.time_scale_shift == "default" else None
        groups = config.attn_norm_num_groups or plain
        one = SelfAttention(channels, config.attention_head_dim, groups, config.norm_eps)
        self.attentions = nn.ModuleList([one] if config.add_attention else [])

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        x = self.resnets[0](x, embedding)
        for attention in self.attentions:
            x = attention(x)
        return self.resnets[1](x, embedding)


class UNet2D(nn.Module):
    """(b, channels, height, width) -> the same shape; sides are multiples of 2^(levels - 1)."""

    side_inputs = ()
    head = ("conv_norm_out", "conv_out")
    non_hidden = ("conv_in", "conv_out", "time_embedding", "time_emb_proj", "class_embedding")

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Args:
        block_out_channels: channels of each level, the finest first.
        layers_per_block: residual blocks per level on the way down; one more on the way up.
        attention: levels (0 is the finest) with attention after every block.
        attention_head_dim: channels of an attention head; None is one head.
        add_attention: whether the middle has attention.
        norm_num_groups, norm_eps: of every norm; the channels are multiples of the groups.
        attn_norm_num_groups: groups of the norm of the middle's attention; None is those of every norm, and no norm with
            time_scale_shift=scale_shift.
        time_scale_shift: default adds the time, scale_shift scales and shifts by it.
        freq_shift, flip_sin_to_cos: of the features of timesteps.
        downsample_padding: 1, or 0, which pads below and to the right only.
        dropout: probability, in [0, 1).
        betas: whose timesteps the network reads; None reads c_time, EDM's c_noise.
        null_class: whether the last row of the class table is that of no class.
        channels: of the data; None is taken from the data.
        """

        kind: Literal["unet2d"] = "unet2d"
        reads: ClassVar[Reads] = "grids"
        dimensions: ClassVar[int] = 2
        block_out_channels: tuple[int, ...] = (64, 128)
        layers_per_block: int = 2
        attention: tuple[int, ...] = (1,)
        attention_head_dim: int | None = 32
        add_attention: bool = True
        norm_num_groups: int = 32
        norm_eps: float = 1e-5
        attn_norm_num_groups: int | None = None
        time_scale_shift: Literal["default", "scale_shift"] = "default"
        freq_shift: float = 0
        flip_sin_to_cos: bool = True
        downsample_padding: Literal[0, 1] = 1
        dropout: float = 0.0
        betas: Betas | None = None
        null_class: bool = True
        channels: int | None = None
        conditioning: ConditioningConfig = ConditioningConfig()

        def __post_init__(self) -> None:
            require_bounded(self)
            sizes = (
                *self.block_out_channels,
                self.layers_per_block,
                self.norm_num_groups,
                self.attention_head_dim or 1,
            )
            if not self.block_out_channels or min(sizes) < 1:
                raise ValueError(f"a U-Net's sizes are positive: {self}")
            if len(self.block_out_channels) > 16 or self.layers_per_block > 64:
                raise ValueError("a U-Net of this kind has at most 16 levels of 64 blocks")
            if any(c % self.norm_num_groups for c in self.block_out_channels):
                raise ValueError(
                    f"network.block_out_channels {self.block_out_channels} are multiples of network.norm_num_groups "
                    f"{self.norm_num_groups}"
                )
            if any(not 0 <= level < len(self.block_out_channels) for level in self.attention):
                raise ValueError(f"network.attention {self.attention} names levels that there are not")
            if any(
                self.block_out_channels[i] % (self.attention_head_dim or 1)
                for i in (*self.attention, len(self.block_out_channels) - 1)
            ):
                raise ValueError(f"network.attention_head_dim {self.attention_head_dim} does not divide the channels")
            if not 0 <= self.dropout < 1 or not 0 < self.norm_eps < 1 or not abs(self.freq_shift) < 1e4:
                raise ValueError("network.dropout, norm_eps or freq_shift is out of range")
            if self.freq_shift in [c // 2 for c in self.block_out_channels[:1]]:
                raise ValueError(f"network.freq_shift {self.freq_shift} divides by 0")
            self.conditioning.require("a U-Net of diffusers' form", self.supported_ports, cross_attends=False)

        @property
        def supported_ports(self) -> tuple[str, ...]:
            """The ports that this network can be built with."""
            return ("global_",)

        def fitted(self, sizes: DataSizes) -> "UNet2D.Config":
            """For data of these sizes. Raises `ValueError` where levels do not cut it."""
            require_space(2, sizes, 2 ** (len(self.block_out_channels) - 1), f"{len(self.block_out_channels)} levels")
            return replace(self, channels=sizes.channels, conditioning=conditioned(self.conditioning, sizes))

        def build(self) -> "UNet2D":
            return UNet2D(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        if not config.channels:
            raise ValueError("a U-Net needs network.channels before it is built: the number of channels of the data")
        self.config = config
        n, classes = config.layers_per_block, config.conditioning.classes
        sizes: list[int] = list(config.block_out_channels)
        width = 4 * sizes[0]
        self.timesteps = Timesteps(config.betas)
        self.conv_in = nn.Conv2d(config.channels, sizes[0], 3, padding=1)
        self.time_embedding = TimestepEmbedding(sizes[0], width)
        self.class_embedding = nn.Embedding(classes + config.null_class, width) if classes else None
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        skips, c_in, last = [sizes[0]], sizes[0], len(sizes) - 1
        for i, c in enumerate(sizes):
            down = {"padding": config.downsample_padding} if i < last else None
            channels = [(c_in, c), *[(c, c)] * (n - 1)]
            self.down_blocks.append(Stage(channels, width, config, attends=i in config.attention, down=down))
            skips += [c] * (n + (i < last))
            c_in = c
        self.mid_block = Middle(c_in, width, config)
        for i, c in reversed(list(enumerate(sizes))):
            channels = []
            for _ in range(n + 1):
                channels.append((c_in + skips.pop(), c))
                c_in = c
            self.up_blocks.append(Stage(channels, width, config, attends=i in config.attention, up=i > 0))
        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, c_in, eps=config.norm_eps)
        self.conv_out = nn.Conv2d(c_in, config.channels, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, c_time: Tensor, condition: Condition | None = None) -> Tensor:
        require_input(x, c_time, channels=self.config.channels or 0, dimensions=2)
        return self.at(x, self.timesteps(c_time), class_of(condition, self.config.conditioning.classes))

    def at(self, x: Tensor, timestep: Tensor, port: Port | None) -> Tensor:
        """The output at timesteps (b,), as diffusers' forward."""
        config = self.config
        features = sinusoid(
            timestep, config.block_out_channels[0], freq_shift=config.freq_shift, flip_sin_to_cos=config.flip_sin_to_cos
        )
        embedding = self.time_embedding(features.to(x.dtype))
        if self.class_embedding is not None and port is not None:
            embedding = embedding + class_vector(self.class_embedding, port, null=config.null_class)
        x = self.conv_in(x)
        skips = [x]
        for stage in self.down_blocks:
            for i in range(config.layers_per_block):
                x = stage.block(i, x, embedding)  # type: ignore[operator]
                skips.append(x)
            if stage.downsamplers is not None:
                x = stage.downsampled(x)  # type: ignore[operator]
                skips.append(x)
        x = self.mid_block(x, embedding)
        for stage in self.up_blocks:
            for i in range(config.layers_per_block + 1):
                x = stage.block(i, torch.cat([x, skips.pop()], 1), embedding)  # type: ignore[operator]
            if stage.upsamplers is not None:
                x = stage.upsamplers[0](F.interpolate(x, scale_factor=2.0, mode="nearest"))  # type: ignore[index]
        return self.conv_out(F.silu(self.conv_norm_out(x)))


def class_of(condition: Condition | None, classes: int) -> Port | None:
    """The class port of a condition; None for a network without classes.

    Raises:
        ValueError: it is missing, out of range, or something is given that the network does not read."""
    condition = condition or Condition()
    given = [*condition.ports, *(name for name in FACTS if getattr(condition, name) is not None)]
    if unread := [name for name in given if name != "global_" or not classes]:
        raise ValueError(f"a network of diffusers' form is given {unread[0]}, which it does not read: leave it out")
    if not classes:
        return None
    port = condition.global_
    if port is None:
        raise ValueError("this network is conditioned on class labels (the port global_): give one for every sample")
    asked = not torch.compiler.is_exporting()
    if asked and bool(((port.tensor < 0) | (port.tensor >= classes)).any()):
        raise ValueError(f"class labels must lie in [0, {classes}), got {port.tensor.tolist()[:8]}")
    return port


def class_vector(table: nn.Embedding, port: Port, *, null: bool) -> Tensor:
    """The embedding of classes (b, width); where withheld, the last row of the table, or 0 where it is that of a class."""
    keep = port.kept()
    if null:
        return table(torch.where(keep, port.tensor, table.num_embeddings - 1))
    return table(port.tensor) * keep[:, None].to(table.weight.dtype)
