"""A residual multi-layer perceptron for vectors: toys, tables, likelihood tests."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from langevin.diffusion.condition import Condition
from langevin.networks.embedding import Encoder, Ports, TimeEmbedding, require_question


class Block(nn.Module):
    """x + gate * W2 silu(W1 modulate(norm x)), with shift, scale and gate from the condition; starts as the identity."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulate = nn.Linear(width, 3 * width)
        self.layers = nn.Sequential(
            nn.Linear(width, 2 * width), nn.SiLU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        shift, scale, gate = self.modulate(vector).chunk(3, -1)
        return x + gate * self.layers(self.norm(x) * (1 + scale) + shift)


class MLP(nn.Module):
    """(b, d) -> (b, d)."""

    edges = ("first", "last", "modulate", "time", "encoder")

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Args:
        width: hidden channels.
        depth: residual blocks.
        channels: d; None is taken from the data.
        """

        kind: Literal["mlp"] = "mlp"
        width: int = 128
        depth: int = 4
        dropout: float = 0.0
        channels: int | None = None
        ports: Ports = Ports()

        def __post_init__(self) -> None:
            if min(self.width, self.depth) < 1:
                raise ValueError(f"a perceptron's sizes are positive: {self}")
            if not 0 <= self.dropout < 1:
                raise ValueError(f"network.dropout is a probability below 1, got {self.dropout}")

        def build(self) -> "MLP":
            return MLP(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        if not config.channels:
            raise ValueError("an MLP needs to know the data's channels before it is built")
        self.config = config
        self.time = TimeEmbedding(config.width)
        self.encoder = Encoder(config.ports, config.width)
        self.first = nn.Linear(config.channels, config.width)
        self.blocks = nn.ModuleList(Block(config.width, config.dropout) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        self.last = nn.Linear(config.width, config.channels)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, c_time: Tensor, condition: Condition | None = None) -> Tensor:
        require_question(x, c_time, channels=self.config.channels or 0, dimensions=0)
        vector, _, _ = self.encoder(condition, len(x))
        vector = torch.nn.functional.silu(self.time(c_time) + vector)
        h = self.first(x)
        for block in self.blocks:
            h = block(h, vector)
        return self.last(self.norm(h))
