"""The sizes of some data, which a network's `Config` takes in `fitted` before it is built."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, Protocol

from langevin.networks.embedding import ConditioningConfig

Reads = Literal[
    "grids", "vectors", "tokens", "parts"
]  # (b, channels, *space), (b, channels), (b, positions) int64, a mapping


class DataSizes(Protocol):
    """The sizes of data that determine a network."""

    @property
    def channels(self) -> int | None:
        """Channels of continuous data; None for tokens."""
        ...

    @property
    def space(self) -> tuple[int, ...]:
        """Sizes along each dimension of space: () for vectors, (length,) for sequences."""
        ...

    @property
    def spaces(self) -> tuple[tuple[int, ...], ...]:
        """Every space that examples have, if they differ; else empty."""
        ...

    @property
    def tokens(self) -> int | None:
        """Size of the vocabulary, special tokens included; None for continuous data."""
        ...

    @property
    def parts(self) -> Mapping[str, Any]:
        """The sizes of each named part of the data, of this type; empty for data that is one tensor."""
        ...

    @property
    def seconds(self) -> float | None:
        """How long the first dimension of space lasts, if it is time and known."""
        ...

    @property
    def choices(self) -> tuple[int, ...]:
        """The number of tokens that each position can have, if they differ; else empty."""
        ...

    @property
    def streams(self) -> int:
        """Tokens per step, see `transformer`; 1 for a sequence."""
        ...

    @property
    def classes(self) -> int:
        """Number of class labels; 0 for none."""
        ...

    @property
    def vocabulary(self) -> int:
        """Vocabulary size of captions; 0 for none."""
        ...

    @property
    def caption_length(self) -> int:
        """Maximum number of words of a caption."""
        ...

    @property
    def concat(self) -> int:
        """Channels of the port `concat`; 0 for none."""
        ...

    @property
    def aligned(self) -> int:
        """Width of the port `aligned`; 0 for none."""
        ...


def conditioned(config: ConditioningConfig, sizes: DataSizes) -> ConditioningConfig:
    """The conditioning with the ports of the data."""
    return replace(
        config, classes=sizes.classes, vocabulary=sizes.vocabulary, length=sizes.caption_length,
        concat_channels=sizes.concat or config.concat_channels, aligned_width=sizes.aligned or config.aligned_width,
    )  # fmt: skip


def require_space(dimensions: int, sizes: DataSizes, side: int | tuple[int, ...], what: str) -> None:
    """Check that every space is cut into a whole number of parts. Raises `ValueError` with what to do."""
    if dimensions != len(sizes.space):
        raise ValueError(f"network.dimensions is {dimensions}, and this data has {len(sizes.space)}")
    parts = (side,) * dimensions if isinstance(side, int) else side
    for space in sizes.spaces or (sizes.space,):
        for size, part in zip(space, parts, strict=True):
            if size % part:
                many = ", as those of all its buckets (data.buckets.multiple)" if sizes.spaces else ""
                raise ValueError(
                    f"data of side {size} does not fit {what}: its sides must be multiples of {part}{many}"
                )
