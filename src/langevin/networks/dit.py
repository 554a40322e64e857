"""A diffusion transformer for any number of space dimensions ("Scalable Diffusion Models with Transformers", 2022).

Space is cut into patches, each a token; blocks of attention and MLP are modulated by the time and condition vector
(adaLN-zero: every block starts as the identity); text tokens stand before the patches and are attended to like them.
Positions enter twice: added sines, and rotations of queries and keys, axis by axis, so sizes other than the trained one
can be asked for.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from langevin.diffusion.condition import Condition
from langevin.networks.attention import Attention, rotary_angles
from langevin.networks.embedding import Encoder, Ports, TimeEmbedding, require_question
from langevin.networks.patches import fold, unfold


class Block(nn.Module):
    """Attention, then an MLP, each normalised, modulated and gated by the vector; tokens are (b, n, d)."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, dropout: float) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.norm_1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.norm_2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attention = Attention(width, heads=heads)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU("tanh"), nn.Dropout(dropout), nn.Linear(hidden, width)
        )
        self.modulate = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)

    def forward(self, x: Tensor, vector: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.modulate(vector)[:, None].chunk(6, -1)
        h = torch.addcmul(shift_1, self.norm_1(x), 1 + scale_1)
        x = torch.addcmul(x, gate_1, self.attention(h, mask=mask, rotary=rotary))
        h = torch.addcmul(shift_2, self.norm_2(x), 1 + scale_2)
        return torch.addcmul(x, gate_2, self.mlp(h))


def sine_positions(shape: tuple[int, ...], width: int, *, device: torch.device | None = None) -> Tensor:
    """(places, width) sines and cosines of the place's coordinates, each axis a share of the channels."""
    angles = rotary_angles(shape, width - width % 2, device=device)
    positions = torch.cat([angles.sin(), angles.cos()], -1)
    return nn.functional.pad(positions, (0, width - positions.shape[-1]))


class DiT(nn.Module):
    """(b, channels, *space) -> the same shape."""

    edges = ("patches", "last", "last_modulate", "modulate", "time", "encoder", "text")

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Args:
        width: channels of a token, a multiple of head_width.
        depth: blocks.
        head_width: channels of a head.
        patch: side of a patch, along every dimension.
        dimensions: of space: 1, 2, 3 or more.
        channels: of the data; None is taken from the data.
        sketch: features from which what is told is drawn, once, over all patches before the first block; 0 for none. A
            memory of what belongs to a caption that costs two matrices a picture, where blocks would have to look it up
            patch by patch; data must then be of one size.
        places: number of patches of that size; None is taken from the data.
        """

        kind: Literal["dit"] = "dit"
        width: int = 256
        depth: int = 8
        head_width: int = 64
        patch: int = 4
        mlp_ratio: float = 4.0
        dropout: float = 0.0
        dimensions: int = 2
        channels: int | None = None
        sketch: int = 0
        places: int | None = None
        ports: Ports = Ports()

        def __post_init__(self) -> None:
            sizes = (self.width, self.depth, self.head_width, self.patch, self.dimensions)
            if min(sizes) < 1 or not 1 <= self.width * self.mlp_ratio < math.inf:
                raise ValueError(f"a transformer's sizes are positive: {self}")
            if self.sketch < 0 or (self.places is not None and self.places < 1):
                raise ValueError(f"network.sketch and network.places count things, got {self.sketch} and {self.places}")
            if self.head_width % 2:
                raise ValueError(f"network.head_width {self.head_width} must be even: channels are turned in pairs")
            if self.width % self.head_width:
                raise ValueError(
                    f"network.width {self.width} must be a multiple of network.head_width {self.head_width}"
                )
            if not 0 <= self.dropout < 1:
                raise ValueError(f"network.dropout is a probability below 1, got {self.dropout}")

        def build(self) -> "DiT":
            return DiT(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        if not config.channels:
            raise ValueError("a transformer needs to know the data's channels before it is built")
        self.config = config
        width, inside = config.width, config.channels * config.patch**config.dimensions
        self.time = TimeEmbedding(width)
        self.encoder = Encoder(config.ports, width)
        self.text = nn.Linear(width, width) if config.ports.vocabulary and config.ports.text == "tokens" else None
        self.edges = (*DiT.edges, "sketch") if config.sketch else DiT.edges
        self.sketch = _sketch(width, config.sketch, config.places) if config.sketch else None
        self.patches = nn.Linear(inside, width)
        self.blocks = nn.ModuleList(
            Block(width, width // config.head_width, config.mlp_ratio, config.dropout) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.last_modulate = nn.Linear(width, 2 * width)
        self.last = nn.Linear(width, inside)
        for layer in (self.last_modulate, self.last):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, c_time: Tensor, condition: Condition | None = None) -> Tensor:
        require_question(x, c_time, channels=self.config.channels or 0, dimensions=self.config.dimensions)
        told, text, mask = self.encoder(condition, len(x))
        vector = nn.functional.silu(self.time(c_time) + told)
        folded = fold(x, self.config.patch)
        grid, patches = tuple(folded.shape[2:]), folded.flatten(2).transpose(1, 2)
        width = self.config.width
        h = self.patches(patches) + sine_positions(grid, width, device=x.device).to(patches.dtype)
        if self.sketch is not None:
            h = h + self._drawn(told, len(x), h)
        before = 0
        if text is not None and mask is not None and self.text is not None:
            before = text.shape[1]
            h = torch.cat([self.text(text).to(h.dtype), h], 1)
            mask = torch.cat([mask, mask.new_ones(len(x), h.shape[1] - before)], 1)
        angles = rotary_angles(grid, self.config.head_width, skip=before, device=x.device)
        rotary = (angles.cos(), angles.sin())
        for block in self.blocks:
            h = block(h, vector, rotary, mask)
        shift, scale = self.last_modulate(vector)[:, None].chunk(2, -1)
        h = torch.addcmul(shift, self.norm(h[:, before:]), 1 + scale)
        return unfold(self.last(h).transpose(1, 2).unflatten(2, grid), self.config.patch)

    def _drawn(self, told: Tensor | float, rows: int, like: Tensor) -> Tensor:
        """What is told, over all patches, (b, patches, width)."""
        assert self.sketch is not None
        if like.shape[1] != self.config.places:
            raise ValueError(
                f"this network draws what it is told over {self.config.places} patches, and the data has {like.shape[1]}: "
                "with network.sketch data is of one size"
            )
        told = told if isinstance(told, Tensor) else like.new_zeros(rows, self.config.width)
        return self.sketch(told).to(like.dtype).unflatten(1, (-1, self.config.width))


def _sketch(width: int, features: int, places: int | None) -> nn.Sequential:
    """From the condition's vector to all patches."""
    if not places:
        raise ValueError("network.sketch needs to know the number of patches before it is built")
    last = nn.Linear(features, places * width)
    nn.init.normal_(last.weight, std=0.5 / features**0.5)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.SiLU(), nn.Linear(width, features), nn.SiLU(), last)
