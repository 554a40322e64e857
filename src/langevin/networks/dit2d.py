"""diffusers' `DiTTransformer2DModel`, with its names of weights, so that those of either are those of the other.

"Scalable Diffusion Models with Transformers" (2022, arXiv 2212.09748), as it was published: beside `dit`, positions are
added only, queries and keys are not normalised, and every block embeds time and class for itself.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from langevin.diffusion.betas import Betas
from langevin.diffusion.condition import Condition, Port
from langevin.networks.embedding import ConditioningConfig, require_bounded, require_input
from langevin.networks.sizes import DataSizes, Reads, conditioned, require_space
from langevin.networks.timesteps import TimestepEmbedding, Timesteps, sinusoid
from langevin.networks.unet2d import class_of


class LabelEmbedding(nn.Module):
    """Classes to vectors; the last row of the table is of no class."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(classes + 1, width)


class TimeAndClass(nn.Module):
    """The vector of a timestep and a class, (b, width)."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.timestep_embedder = TimestepEmbedding(256, width)
        self.class_embedder = LabelEmbedding(classes, width)

    def forward(self, timestep: Tensor, port: Port | None) -> Tensor:
        features = sinusoid(timestep, 256, freq_shift=1, flip_sin_to_cos=True)
        table = self.class_embedder.embedding_table
        last = torch.full_like(timestep, table.num_embeddings - 1, dtype=torch.int64)
        index = last if port is None else torch.where(port.kept(), port.tensor, last)
        return self.timestep_embedder(features.to(table.weight.dtype)) + table(index)


class AdaNorm(nn.Module):
    """LayerNorm without weights, and the six vectors that modulate a block."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.emb = TimeAndClass(classes, width)
        self.linear = nn.Linear(width, 6 * width)

    def forward(self, x: Tensor, timestep: Tensor, port: Port | None) -> tuple[Tensor, ...]:
        return self.linear(F.silu(self.emb(timestep, port)))[:, None].chunk(6, -1)


class Heads(nn.Module):
    """Self-attention of (b, n, width)."""

    def __init__(self, width: int, heads: int, *, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width, bias=bias) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.to_q, self.to_k, self.to_v))
        return self.to_out[0](F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Projection(nn.Module):
    """A linear layer under the name `proj`, then GELU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.proj(x), approximate="tanh")


class FeedForward(nn.Module):
    """Linear, GELU, dropout, linear, under the names net.0.proj and net.2."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.net = nn.ModuleList([Projection(width, 4 * width), nn.Dropout(dropout), nn.Linear(4 * width, width)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.net:
            x = layer(x)
        return x


class TransformerBlock(nn.Module):
    """Attention, then an MLP, each modulated and gated."""

    def __init__(self, config: "DiT2D.Config") -> None:
        super().__init__()
        width = config.width
        self.norm_eps = config.norm_eps
        self.norm1 = AdaNorm(config.conditioning.classes, width)
        self.attn1 = Heads(width, config.num_attention_heads, bias=config.attention_bias)
        self.ff = FeedForward(width, config.dropout)

    def forward(self, x: Tensor, timestep: Tensor, port: Port | None) -> Tensor:
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.norm1(x, timestep, port)
        size = x.shape[-1:]
        x = x + gate_1 * self.attn1(F.layer_norm(x, size, eps=1e-6) * (1 + scale_1) + shift_1)
        return x + gate_2 * self.ff(F.layer_norm(x, size, eps=self.norm_eps) * (1 + scale_2) + shift_2)


class Patches(nn.Module):
    """Images to tokens, with positions added."""

    positions: Tensor

    def __init__(self, config: "DiT2D.Config") -> None:
        super().__init__()
        self.proj = nn.Conv2d(config.channels or 0, config.width, config.patch_size, stride=config.patch_size)
        self.register_buffer(
            "positions", grid_positions(config.sample_size // config.patch_size, config.width), persistent=False
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2) + self.positions


class DiT2D(nn.Module):
    """(b, channels, side, side) -> the same shape, for images of one size."""

    side_inputs = ()
    head = ("proj_out_1", "proj_out_2")
    non_hidden = ("pos_embed", "norm1", "proj_out_1", "proj_out_2")

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Args:
        num_attention_heads, attention_head_dim: whose product is the width.
        num_layers: blocks.
        patch_size: side of a patch.
        sample_size: side of the images, taken from the data.
        attention_bias: whether queries, keys and values have biases.
        norm_eps: of the norm before the MLP.
        learned_variance: whether the output has as many channels again, which are not used.
        dropout: probability, in [0, 1).
        betas: whose timesteps the network reads; None reads c_time, EDM's c_noise.
        channels: of the data; None is taken from the data.
        """

        kind: Literal["dit2d"] = "dit2d"
        reads: ClassVar[Reads] = "grids"
        dimensions: ClassVar[int] = 2
        num_attention_heads: int = 4
        attention_head_dim: int = 32
        num_layers: int = 4
        patch_size: int = 2
        sample_size: int = 0
        attention_bias: bool = True
        norm_eps: float = 1e-5
        learned_variance: bool = False
        dropout: float = 0.0
        betas: Betas | None = None
        channels: int | None = None
        conditioning: ConditioningConfig = ConditioningConfig()

        def __post_init__(self) -> None:
            require_bounded(self)
            sizes = (self.num_attention_heads, self.attention_head_dim, self.num_layers, self.patch_size)
            if min(sizes) < 1 or self.num_layers > 1000 or not 0 <= self.sample_size <= 16_384:
                raise ValueError(
                    f"a transformer's sizes are positive, and at most 1000 layers and images of 16384: {self}"
                )
            if self.width % 4 or self.width > 10**6:
                raise ValueError(
                    f"network.num_attention_heads x attention_head_dim is a multiple of 4, got {self.width}"
                )
            if not 0 <= self.dropout < 1 or not 0 < self.norm_eps < 1:
                raise ValueError("network.dropout or norm_eps is out of range")
            self.conditioning.require("a DiT of diffusers' form", self.supported_ports, cross_attends=False)

        @property
        def width(self) -> int:
            """Channels of a token."""
            return self.num_attention_heads * self.attention_head_dim

        @property
        def supported_ports(self) -> tuple[str, ...]:
            """The ports that this network can be built with."""
            return ("global_",)

        def fitted(self, sizes: DataSizes) -> "DiT2D.Config":
            """For data of these sizes. Raises `ValueError` where patches do not cut it, or it has several sizes."""
            require_space(2, sizes, self.patch_size, f"patches of {self.patch_size}")
            if sizes.space[0] != sizes.space[1] or sizes.spaces:
                raise ValueError("network.kind=dit2d is for squares of one size: take network.kind=dit")
            return replace(
                self, channels=sizes.channels, sample_size=sizes.space[0],
                conditioning=conditioned(self.conditioning, sizes),
            )  # fmt: skip

        def build(self) -> "DiT2D":
            return DiT2D(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        if not config.channels or not config.sample_size:
            raise ValueError("a DiT of diffusers' form needs network.channels and sample_size before it is built")
        self.config = config
        width, volume = config.width, config.patch_size**2
        self.timesteps = Timesteps(config.betas)
        self.pos_embed = Patches(config)
        self.transformer_blocks = nn.ModuleList(TransformerBlock(config) for _ in range(config.num_layers))
        self.proj_out_1 = nn.Linear(width, 2 * width)
        self.proj_out_2 = nn.Linear(width, volume * config.channels * (1 + config.learned_variance))
        zeroed = [block.norm1.linear for block in self.transformer_blocks]  # type: ignore[union-attr]
        for layer in (*zeroed, self.proj_out_1, self.proj_out_2):
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, c_time: Tensor, condition: Condition | None = None) -> Tensor:
        config = self.config
        require_input(x, c_time, channels=config.channels or 0, dimensions=2)
        if x.shape[2] != config.sample_size or x.shape[3] != config.sample_size:
            raise ValueError(f"this network reads images of {config.sample_size} pixels, got {tuple(x.shape[2:])}")
        port = class_of(condition, config.conditioning.classes)
        return self.at(x, self.timesteps(c_time), port)[:, : config.channels]

    def at(self, x: Tensor, timestep: Tensor, port: Port | None) -> Tensor:
        """The output at timesteps (b,), with all of its channels, as diffusers' forward."""
        side, patch = self.config.sample_size // self.config.patch_size, self.config.patch_size
        h = self.pos_embed(x)
        for block in self.transformer_blocks:
            h = block(h, timestep, port)
        vector = self.transformer_blocks[0].norm1.emb(timestep, port)  # type: ignore[union-attr, operator]
        shift, scale = self.proj_out_1(F.silu(vector)).chunk(2, 1)
        h = F.layer_norm(h, h.shape[-1:], eps=1e-6) * (1 + scale[:, None]) + shift[:, None]
        h = self.proj_out_2(h).unflatten(1, (side, side)).unflatten(-1, (patch, patch, -1))
        h = h.permute(0, 5, 1, 3, 2, 4)  # (b, c, side, patch, side, patch)
        return h.flatten(4, 5).flatten(2, 3)


def grid_positions(side: int, width: int) -> Tensor:
    """Sinusoidal positions (1, side side, width) float32: half of the channels for columns, half for rows."""
    frequency = 10_000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    angle = torch.arange(side, dtype=torch.float64)[:, None] * frequency
    line = torch.cat([angle.sin(), angle.cos()], -1)  # (side, width / 2)
    columns, rows = line[None].expand(side, -1, -1), line[:, None].expand(-1, side, -1)
    return torch.cat([columns, rows], -1).reshape(1, side * side, width).float()
