"""A residual MLP for vectors: point clouds, tables, likelihood tests."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from torch import Tensor, nn

from langevin.diffusion.condition import Condition
from langevin.networks.embedding import SPAN, ConditioningConfig, TimeEmbedding, require_bounded, require_input
from langevin.networks.encoder import ConditionEncoder
from langevin.networks.fused import Dropout
from langevin.networks.sizes import DataSizes, Reads


class Block(nn.Module):
    """x + gate * W2 silu(W1 (norm(x) (1 + scale) + shift)), modulated by the conditioning vector (adaLN-zero).

    Starts as the identity."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 3 * width)
        self.layers = nn.Sequential(
            nn.Linear(width, 2 * width), nn.SiLU(), Dropout(dropout), nn.Linear(2 * width, width)
        )
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        shift, scale, gate = self.modulation(vector).chunk(3, -1)
        return x + gate * self.layers(self.norm(x) * (1 + scale) + shift)


class MLP(nn.Module):
    """(b, channels) -> (b, channels)."""

    side_inputs = SPAN
    non_hidden = ("proj_in", "proj_out", "modulation", "time_embedding", "encoder")
    head = ("norm", "proj_out")

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Args:
        width: hidden channels.
        depth: residual blocks.
        dropout: probability, in [0, 1).
        channels: of the data; None is taken from the data.
        """

        kind: Literal["mlp"] = "mlp"
        reads: ClassVar[Reads] = "vectors"
        width: int = 128
        depth: int = 4
        dropout: float = 0.0
        channels: int | None = None
        conditioning: ConditioningConfig = ConditioningConfig()

        def __post_init__(self) -> None:
            require_bounded(self)
            if min(self.width, self.depth) < 1:
                raise ValueError(f"an MLP's sizes are positive: {self}")
            if not 0 <= self.dropout < 1:
                raise ValueError(f"network.dropout is a probability below 1, got {self.dropout}")
            self.conditioning.require("an MLP", self.supported_ports, cross_attends=False, span=True)

        @property
        def supported_ports(self) -> tuple[str, ...]:
            """The ports that this network can be built with: those that reduce to a vector."""
            return ("global_", "global_vector", "cross", "cross_vectors")

        def fitted(self, sizes: DataSizes) -> "MLP.Config":
            """For data of these sizes."""
            return replace(self, channels=sizes.channels)

        def build(self) -> "MLP":
            return MLP(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        if not config.channels:
            raise ValueError("an MLP needs network.channels before it is built: the number of channels of the data")
        self.config = config
        self.time_embedding = TimeEmbedding(config.width)
        self.encoder = ConditionEncoder(config.conditioning, config.width, network="an MLP", facts=())
        self.proj_in = nn.Linear(config.channels, config.width)
        self.blocks = nn.ModuleList(Block(config.width, config.dropout) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        self.proj_out = nn.Linear(config.width, config.channels)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)

    def forward(self, x: Tensor, c_time: Tensor, condition: Condition | None = None) -> Tensor:
        require_input(x, c_time, channels=self.config.channels or 0, dimensions=0)
        vector = nn.functional.silu(self.time_embedding(c_time) + self.encoder(condition, x).vector)
        h = self.proj_in(x)
        for block in self.blocks:
            h = block(h, vector)
        return self.proj_out(self.norm(h))
