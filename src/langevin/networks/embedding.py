"""The configuration of a network's conditioning, and the embedding of time."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

PORT_KEYS = {  # by port, the configuration key that enables it
    "global_": "classes", "global_vector": "vector_width", "cross": "vocabulary", "cross_vectors": "cross_width",
    "prepend": "prepend_width", "concat": "concat_channels", "aligned": "aligned_width",
}  # fmt: skip
ALL_PORTS = tuple(PORT_KEYS)
SPAN = ("encoder.span.",)  # weights that a network without spans lacks, where others have them


_LARGEST = {
    "depth": 1000, "blocks": 1000, "text_layers": 1000, "streams": 1024, "patch": 1024,
    "dimensions": 8, "mlp_ratio": 64,
}  # fmt: skip
_OTHER = 10_000_000  # of any other size: widths, vocabularies


def require_bounded(config: Any, section: str = "network.") -> None:
    """Check that no size of a configuration is absurd, so that its products are numbers and its layers can be counted.

    Raises:
        ValueError: with the key, and the largest value."""
    for name, value in vars(config).items():
        values = value if isinstance(value, tuple) else (value,)
        if len(values) > 64:
            raise ValueError(f"{section}{name} lists at most 64 numbers, got {len(values):,}")
        largest = _LARGEST.get(name, _OTHER)
        if any(isinstance(v, int | float) and v > largest for v in values):
            raise ValueError(f"{section}{name} is at most {largest:,}, got {str(value)[:40]}")
        if name in ("channels", "vocab_size") and any(v is not None and v < 0 for v in values):
            raise ValueError(f"{section}{name} is not negative, got {str(value)[:40]}")


@dataclass(frozen=True, kw_only=True)
class ConditioningConfig:
    """The ports of a condition that a network reads, and their sizes; a size of 0 disables the port.

    Args:
        classes: number of classes of `global_` (int64 in [0, classes)).
        vocabulary: number of token indices of `cross`; 0 is padding.
        length: maximum number of tokens of `cross`.
        text_layers: transformer layers over the tokens of `cross`.
        text: how the cross ports are used: `cross_attention` attends to their positions, and adds their mean and the sum of
            an embedding of each word to the vector; `pooled` only adds these two, which is cheaper.
        vector_width: width of `global_vector`.
        cross_width: width of `cross_vectors`.
        prepend_width: width of `prepend`.
        concat_channels: channels of `concat`.
        aligned_width: width of `aligned`.
        span: whether the network reads the length of a step, so that it can learn a flow map.

    Raises:
        ValueError: a negative size, or a vocabulary without a length.
    """

    classes: int = 0
    vocabulary: int = 0
    length: int = 0
    text_layers: int = 2
    text: Literal["cross_attention", "pooled"] = "cross_attention"
    vector_width: int = 0
    cross_width: int = 0
    prepend_width: int = 0
    concat_channels: int = 0
    aligned_width: int = 0
    span: bool = False

    def __post_init__(self) -> None:
        require_bounded(self, "network.conditioning.")
        sizes = (self.length, self.text_layers, *(getattr(self, key) for key in PORT_KEYS.values()))
        if min(sizes) < 0:
            raise ValueError(f"network.conditioning holds sizes, and none of them is negative: {self}")
        if (self.vocabulary > 0) != (self.length > 0):
            raise ValueError(f"text needs both a vocabulary and a length, got {self.vocabulary} and {self.length}")

    @property
    def ports(self) -> tuple[str, ...]:
        """The names of the enabled ports."""
        return tuple(port for port, key in PORT_KEYS.items() if getattr(self, key))

    @property
    def modulates(self) -> bool:
        """Whether some port contributes to the conditioning vector."""
        return bool(self.classes or self.vector_width or self.vocabulary or self.cross_width)

    @property
    def cross_attends(self) -> bool:
        """Whether the network attends to the positions of a cross port."""
        return self.text == "cross_attention" and bool(self.vocabulary or self.cross_width)

    @property
    def channels(self) -> int:
        """The channels that are concatenated to those of the data."""
        return self.concat_channels + self.aligned_width

    def require(self, network: str, ports: Collection[str], *, cross_attends: bool = True, span: bool = False) -> None:
        """Check that a network supports the enabled ports.

        Args:
            network: its name, for errors.
            ports: the names of the ports that it supports.
            cross_attends: whether it can attend to the positions of the cross ports.
            span: whether it can read the length of a step.

        Raises:
            ValueError: naming the network, the port, and the key to leave out."""
        for port in self.ports:
            if port not in ports:
                raise ValueError(
                    f"{network} does not read the port {port}: leave network.conditioning.{PORT_KEYS[port]} at 0, or take "
                    f"another network (this one reads {', '.join(ports) or 'none'})"
                )
        if self.span and not span:
            raise ValueError(
                f"{network} does not read the length of a step: leave network.conditioning.span at false, or take another "
                "network (a DiT, a U-Net or an MLP reads it)"
            )
        if self.cross_attends and not cross_attends:
            raise ValueError(
                f"{network} does not attend to the positions of a text: set network.conditioning.text=pooled, which uses "
                "their mean"
            )


def require_input(x: Tensor, c_time: Tensor, *, channels: int, dimensions: int, levels: bool = False) -> None:
    """Check that x is (b, channels, *space) with so many dimensions of space, and c_time (b,), or with `levels` also
    (b, 1, ...) with the first dimensions of space, each of its size or 1.

    Raises:
        ValueError: with the expected and the given shape."""
    if x.ndim != 2 + dimensions or x.shape[1] != channels:
        data = f"(b, channels, *space) of {dimensions} space dimensions" if dimensions else "vectors (b, channels)"
        raise ValueError(f"this network of {channels} channels reads {data}, got shape {tuple(x.shape)}")
    per_position = levels and 3 <= c_time.ndim <= x.ndim and c_time.shape[:2] == (x.shape[0], 1)
    if per_position and all(n in (1, size) for n, size in zip(c_time.shape[2:], x.shape[2:], strict=False)):
        return
    if c_time.shape != x.shape[:1]:
        raise ValueError(
            f"this network takes one noise level per sample, ({x.shape[0]},), got shape {tuple(c_time.shape)}"
        )


class BagOfWords(nn.Embedding):
    """Tokens (b, n) and where they are shown (b, n) bool -> the sum of their embeddings, (b, width).

    Among twenty words one changes their mean by a twentieth and their sum by all of its own, so what single words mean is
    learned at once."""

    def __init__(self, vocabulary: int, length: int, width: int) -> None:
        super().__init__(vocabulary, width)
        nn.init.normal_(self.weight, std=length**-0.5)

    def forward(self, tokens: Tensor, shown: Tensor) -> Tensor:  # type: ignore[override]
        return (super().forward(tokens) * shown[..., None]).sum(1)


class ClassEmbedding(nn.Embedding):
    """Classes (b,) int64 -> their embeddings (b, width); the last row of the table, of index `classes`, is of no class."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__(classes + 1, width)


class TimeEmbedding(nn.Module):
    """Fourier features of c_time (b, ...) at log-spaced frequencies (1/8 to `highest` cycles per unit), then an MLP:
    (b, ..., width)."""

    def __init__(self, width: int, *, features: int = 64, highest: float = 16.0) -> None:
        super().__init__()
        frequency = 2 * math.pi * torch.logspace(-3, math.log2(highest), features, base=2.0)
        self.register_buffer("frequency", frequency, persistent=False)
        self.layers = nn.Sequential(nn.Linear(2 * features, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, c_time: Tensor) -> Tensor:
        angle = c_time[..., None] * self.frequency  # type: ignore[operator]
        return self.layers(torch.cat([angle.cos(), angle.sin()], -1))
