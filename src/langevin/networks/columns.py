"""Networks over the columns of a table: numbers and tokens in named parts, each column with a noise level of its own.

Parts of numbers are (b, n) floats, parts of tokens (b, n) int64, where the number of tokens of a position, beyond which
there is the mask, differs from position to position. The output has a number for each number, and logits (b, n, V) for the
tokens, V the largest number of tokens of the part, with -inf for those that a position has not.

The noise level of a number is read next to it; that of the noisiest number modulates the blocks. Tokens need none, as a
masked process shows which of them are known.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from langevin.diffusion.condition import Condition
from langevin.diffusion.reuse import Deep
from langevin.networks import mlp, transformer_block
from langevin.networks.deep import picked, through_blocks
from langevin.networks.embedding import ConditioningConfig, TimeEmbedding, require_bounded
from langevin.networks.sizes import DataSizes, Reads

CLEAN = -2.5  # c_time of a number without noise


def _require(config: "ColumnMLP.Config | ColumnTransformer.Config", network: str) -> None:
    """Check the sizes of a configuration. Raises `ValueError`."""
    require_bounded(config)
    if min(config.width, config.depth) < 1:
        raise ValueError(f"{network}'s sizes are positive: {config}")
    if not 0 <= config.dropout < 1:
        raise ValueError(f"network.dropout is a probability below 1, got {config.dropout}")
    for name, count in config.numbers.items():
        if not 1 <= count <= 100_000:
            raise ValueError(f"network.numbers.{name} is a number of columns from 1 to 100,000, got {count}")
    for name, choices in config.tokens.items():
        if not choices or min(choices) < 1 or sum(choices) > 10_000_000 or len(choices) > 100_000:
            raise ValueError(f"network.tokens.{name} is the number of tokens of each column, each at least 1")
    config.conditioning.require(network, (), cross_attends=False)


def _positions(config: "ColumnMLP.Config | ColumnTransformer.Config") -> dict[str, int]:
    return {**config.numbers, **{name: len(choices) for name, choices in config.tokens.items()}}


def _sizes(sizes: DataSizes) -> dict[str, dict[str, int] | dict[str, tuple[int, ...]]]:
    """`numbers` and `tokens` of a configuration for data of these sizes."""
    numbers = {name: part.channels for name, part in sizes.parts.items() if part.tokens is None}
    tokens = {
        name: tuple(part.choices) or (part.tokens,) * part.space[0]
        for name, part in sizes.parts.items() if part.tokens is not None
    }  # fmt: skip
    return {"numbers": numbers, "tokens": tokens}


class _Columns(nn.Module):
    """What both networks need of the columns: indices of tokens, levels of numbers, and the vector that modulates."""

    def __init__(self, numbers: Mapping[str, int], tokens: Mapping[str, tuple[int, ...]], width: int) -> None:
        super().__init__()
        if not numbers and not tokens:
            raise ValueError("a network of columns needs network.numbers or network.tokens before it is built")
        self.numbers, self.tokens = dict(numbers), dict(tokens)
        self.time_embedding = TimeEmbedding(width) if numbers else None
        self.still = None if numbers else nn.Parameter(torch.randn(width))
        for name, choices in tokens.items():
            size, largest = torch.tensor(choices), max(choices)
            offset = torch.cat([size.new_zeros(1), (size + 1).cumsum(0)])  # a mask more for each
            place = [column * largest + token for column, count in enumerate(choices) for token in range(count)]
            self.register_buffer(f"offset_{name}", offset[:-1], persistent=False)
            self.register_buffer(f"size_{name}", size, persistent=False)
            self.register_buffer(f"place_{name}", torch.tensor(place), persistent=False)

    def number_inputs(self, x: Mapping[str, Tensor], c_time: Mapping[str, Tensor], name: str) -> Tensor:
        """(b, n, 3): the numbers, their noise levels, and whether they are without noise."""
        value = x[name]
        if value.ndim != 2 or value.shape[1] != self.numbers[name]:
            raise ValueError(f"the part {name} has {self.numbers[name]} numbers, got shape {tuple(value.shape)}")
        level = self.levels(c_time, name, value)
        return torch.stack([value, level / 2.5, (level <= CLEAN).to(value)], -1)

    @staticmethod
    def levels(c_time: Mapping[str, Tensor], name: str, value: Tensor) -> Tensor:
        """c_time of each number, (b, n)."""
        level = c_time[name]
        return (level[:, None] if level.ndim == 1 else level).expand_as(value)

    def vector(self, x: Mapping[str, Tensor], c_time: Mapping[str, Tensor], count: int) -> Tensor:
        """(b, width): the embedding of the noisiest number's level."""
        if self.time_embedding is None:
            assert self.still is not None
            return self.still.expand(count, -1)
        noisiest = torch.stack([self.levels(c_time, name, x[name]).amax(1) for name in self.numbers]).amax(0)
        return nn.functional.silu(self.time_embedding(noisiest))

    def token_index(self, x: Mapping[str, Tensor], name: str) -> Tensor:
        """(b, n) int64: the index of each token, or of its column's mask, among those of all columns."""
        value, size = x[name], getattr(self, f"size_{name}")
        if value.ndim != 2 or value.shape[1] != len(size):
            raise ValueError(f"the part {name} has {len(size)} tokens, got shape {tuple(value.shape)}")
        return getattr(self, f"offset_{name}") + torch.minimum(value, size)

    def spread_logits(self, flat: Tensor, name: str) -> Tensor:
        """Logits of all tokens (b, sum of choices) as (b, n, V)."""
        choices = self.tokens[name]
        dense = flat.new_full((len(flat), len(choices) * max(choices)), -torch.inf)
        return dense.index_copy(1, getattr(self, f"place_{name}"), flat).view(len(flat), len(choices), -1)


class ColumnMLP(nn.Module):
    """A residual MLP over all columns at once."""

    non_hidden = ("number_in", "token_in", "number_out", "token_out", "modulation", "columns")
    head = ("norm", "number_out", "token_out")

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Args:
        width: hidden channels.
        depth: residual blocks.
        dropout: probability, in [0, 1).
        numbers: columns of each part of numbers; taken from the data.
        tokens: the number of tokens of each column, for each part of tokens; taken from the data.
        """

        kind: Literal["column_mlp"] = "column_mlp"
        reads: ClassVar[Reads] = "parts"
        width: int = 256
        depth: int = 4
        dropout: float = 0.0
        numbers: dict[str, int] = field(default_factory=dict)
        tokens: dict[str, tuple[int, ...]] = field(default_factory=dict)
        conditioning: ConditioningConfig = ConditioningConfig()

        def __post_init__(self) -> None:
            _require(self, "a column MLP")

        @property
        def positions(self) -> dict[str, int]:
            """Columns of each part."""
            return _positions(self)

        def fitted(self, sizes: DataSizes) -> "ColumnMLP.Config":
            """For data of these sizes."""
            return replace(self, **_sizes(sizes))

        def build(self) -> "ColumnMLP":
            return ColumnMLP(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, width = config, config.width
        self.columns = _Columns(config.numbers, config.tokens, width)
        self.number_in = nn.ModuleDict({name: nn.Linear(3 * n, width) for name, n in config.numbers.items()})
        self.token_in = nn.ModuleDict({name: nn.Embedding(sum(c) + len(c), width) for name, c in config.tokens.items()})
        for name, choices in config.tokens.items():
            nn.init.normal_(self.token_in[name].weight, std=len(choices) ** -0.5)  # type: ignore[arg-type]
        self.blocks = nn.ModuleList(mlp.Block(width, config.dropout) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)
        self.number_out = nn.ModuleDict({name: nn.Linear(width, n) for name, n in config.numbers.items()})
        self.token_out = nn.ModuleDict({name: nn.Linear(width, sum(c)) for name, c in config.tokens.items()})
        for layer in (*self.number_out.values(), *self.token_out.values()):
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(
        self, x: Mapping[str, Tensor], c_time: Mapping[str, Tensor], condition: Condition | None = None
    ) -> dict[str, Tensor]:
        columns = self.columns
        read = [layer(columns.number_inputs(x, c_time, name).flatten(1)) for name, layer in self.number_in.items()]
        read += [layer(columns.token_index(x, name)).sum(1) for name, layer in self.token_in.items()]
        h = torch.stack(read).sum(0)
        vector = columns.vector(x, c_time, len(h))
        for block in self.blocks:
            h = block(h, vector)
        h = self.norm(h)
        return {name: layer(h) for name, layer in self.number_out.items()} | {
            name: columns.spread_logits(layer(h), name) for name, layer in self.token_out.items()
        }


class ColumnTransformer(nn.Module):
    """A transformer whose positions are the columns."""

    non_hidden = ("number_in", "token_in", "number_out", "token_out", "modulation", "columns")
    head = ("norm", "number_out", "token_out")

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Args:
        width: channels of a column, a multiple of head_dim.
        depth: number of blocks.
        head_dim: channels of an attention head.
        dropout: probability, in [0, 1).
        numbers: columns of each part of numbers; taken from the data.
        tokens: the number of tokens of each column, for each part of tokens; taken from the data.
        """

        kind: Literal["column_transformer"] = "column_transformer"
        reads: ClassVar[Reads] = "parts"
        width: int = 96
        depth: int = 3
        head_dim: int = 32
        dropout: float = 0.0
        numbers: dict[str, int] = field(default_factory=dict)
        tokens: dict[str, tuple[int, ...]] = field(default_factory=dict)
        conditioning: ConditioningConfig = ConditioningConfig()

        def __post_init__(self) -> None:
            _require(self, "a column transformer")
            if self.head_dim < 1 or self.width % self.head_dim:
                raise ValueError(
                    f"network.width {self.width} must be a multiple of network.head_dim {self.head_dim}, the channels of "
                    "an attention head"
                )

        @property
        def positions(self) -> dict[str, int]:
            """Columns of each part."""
            return _positions(self)

        def fitted(self, sizes: DataSizes) -> "ColumnTransformer.Config":
            """For data of these sizes."""
            return replace(self, **_sizes(sizes))

        def build(self) -> "ColumnTransformer":
            return ColumnTransformer(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, width = config, config.width
        self.columns = _Columns(config.numbers, config.tokens, width)
        scale = width**-0.5
        self.number_in = nn.ParameterDict({n: torch.randn(count, 4, width) for n, count in config.numbers.items()})
        self.token_in = nn.ModuleDict({name: nn.Embedding(sum(c) + len(c), width) for name, c in config.tokens.items()})
        heads = width // config.head_dim
        self.blocks = nn.ModuleList(
            transformer_block.Block(width, heads, 2 * width, config.dropout, modulated=True)
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(width)
        self.number_out = nn.ParameterDict({n: torch.zeros(c, width + 1) for n, c in config.numbers.items()})
        self.token_out = nn.ParameterDict({n: torch.zeros(sum(c), width + 1) for n, c in config.tokens.items()})
        with torch.no_grad():
            for part in (*self.number_in.values(), *(layer.weight for layer in self.token_in.values())):
                part.mul_(scale * 4)  # type: ignore[union-attr]

    def forward(
        self, x: Mapping[str, Tensor], c_time: Mapping[str, Tensor], condition: Condition | None = None
    ) -> dict[str, Tensor]:
        return self.reusing(x, c_time, condition, None)

    def num_layers(self) -> int:
        """See `HasDeepLayers`."""
        return (self.config.depth - 1) // 2

    def reusing(
        self, x: Mapping[str, Tensor], c_time: Mapping[str, Tensor], condition: Condition | None, deep: Deep | None
    ) -> dict[str, Tensor]:
        """The output, with what the blocks between the first and the last ones add from `deep`; None computes all."""
        columns, read = self.columns, list[Tensor]()
        for name, weight in self.number_in.items():
            inputs = nn.functional.pad(columns.number_inputs(x, c_time, name), (0, 1), value=1.0)
            read.append(torch.einsum("bni,niw->bnw", inputs, weight))
        read += [layer(columns.token_index(x, name)) for name, layer in self.token_in.items()]
        h = torch.cat(read, 1)
        vector = columns.vector(x, c_time, len(h))

        def through(block: nn.Module, h: Tensor, index: Tensor | None) -> Tensor:
            return block(h, picked(vector, index), None, None, None, None)[0]

        h = through_blocks(self.blocks, h, through, deep)
        parts = iter(self.norm(h).split([part.shape[1] for part in read], 1))
        found = dict[str, Tensor]()
        for name, weight in self.number_out.items():
            found[name] = (next(parts) * weight[:, :-1]).sum(-1) + weight[:, -1]
        for name, weight in self.token_out.items():
            each = torch.repeat_interleave(next(parts), getattr(columns, f"size_{name}"), 1)  # a row for each token
            found[name] = columns.spread_logits((each * weight[:, :-1]).sum(-1) + weight[:, -1], name)
        return found
