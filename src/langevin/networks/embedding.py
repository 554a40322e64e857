"""From what a network is told (time, class, text) to vectors: `TimeEmbedding`, and `Encoder` for the condition's ports."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from langevin.diffusion.condition import Condition, Port
from langevin.networks.attention import Attention


@dataclass(frozen=True, kw_only=True)
class Ports:
    """What the network can be told; zero is 'nothing'.

    Args:
        classes: number of classes of the global port (int64 in [0, classes)).
        vocabulary: number of token indices of the cross port; 0 is padding.
        length: the most tokens of a text.
        text_layers: transformer layers that read the text.
        text: what is told of a text: its tokens, to be attended to, and their mean; or their mean alone, which is cheaper.
    """

    classes: int = 0
    vocabulary: int = 0
    length: int = 0
    text_layers: int = 2
    text: Literal["tokens", "vector"] = "tokens"

    def __post_init__(self) -> None:
        if min(self.classes, self.vocabulary, self.length, self.text_layers) < 0:
            raise ValueError(f"ports count things, so none is negative: {self}")
        if (self.vocabulary > 0) != (self.length > 0):
            raise ValueError(f"text needs both a vocabulary and a length, got {self.vocabulary} and {self.length}")


def require_question(x: Tensor, c_time: Tensor, *, channels: int, dimensions: int) -> None:
    """Check that x is (b, channels, *space) and c_time (b,).

    Raises:
        ValueError: with what was expected and what was given."""
    if x.ndim != 2 + dimensions or x.shape[1] != channels:
        what = (
            f"{channels} channels and {dimensions}-dimensional space"
            if dimensions
            else f"vectors of {channels} channels"
        )
        raise ValueError(f"this network reads {what}, got data of shape {tuple(x.shape)}")
    if c_time.shape != x.shape[:1]:
        raise ValueError(f"this network is told one noise level a row, ({len(x)},), got shape {tuple(c_time.shape)}")


class TimeEmbedding(nn.Module):
    """Cosines and sines of c_time at log-spaced frequencies (1/8 to 16 cycles a unit), then two layers."""

    def __init__(self, width: int, *, features: int = 64) -> None:
        super().__init__()
        frequency = 2 * math.pi * torch.logspace(-3, 4, features, base=2.0)
        self.register_buffer("frequency", frequency, persistent=False)
        self.layers = nn.Sequential(nn.Linear(2 * features, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, c_time: Tensor) -> Tensor:
        angle = c_time[:, None] * self.frequency  # type: ignore[operator]
        return self.layers(torch.cat([angle.cos(), angle.sin()], -1))


class TextLayer(nn.Module):
    """Pre-norm transformer layer over text, (b, n, d)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads=next(h for h in range(max(1, width // 64), 0, -1) if width % h == 0))
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attention(self.norm_1(x), mask=mask)
        return x + self.mlp(self.norm_2(x))


class Encoder(nn.Module):
    """The condition as one vector (b, width), and its text as tokens (b, length, width) with a mask if asked for.

    A row whose port is withheld gets that port's learned 'nothing' instead. Text is read by a small transformer trained
    with the rest; its mean over the tokens joins the vector.
    """

    def __init__(self, ports: Ports, width: int) -> None:
        super().__init__()
        self.ports = ports
        if ports.classes:
            self.classes = nn.Embedding(ports.classes + 1, width)  # the last index is 'nothing'
        if ports.vocabulary:
            self.tokens = nn.Embedding(ports.vocabulary, width)
            self.places = nn.Parameter(torch.zeros(ports.length, width))
            self.nothing = nn.Parameter(torch.zeros(width))
            self.text = nn.ModuleList(TextLayer(width) for _ in range(ports.text_layers))
            self.norm = nn.LayerNorm(width)
            self.pool = nn.Linear(width, width)
            nn.init.normal_(self.tokens.weight, std=0.5)
            nn.init.normal_(self.places, std=0.1)

    def forward(self, condition: Condition | None, rows: int) -> tuple[Tensor | float, Tensor | None, Tensor | None]:
        """(vector, tokens, mask); a vector of 0.0 and no tokens if there are no ports.

        Raises:
            ValueError: a port that the network was built with is missing, a text too long, an index out of range.
        """
        vector: Tensor | float = 0.0
        if self.ports.classes:
            port = _require(condition.global_ if condition else None, rows, "class labels (the global port)")
            if bool(((port.tensor < 0) | (port.tensor >= self.ports.classes)).any()):
                raise ValueError(f"class labels must lie in [0, {self.ports.classes}), got {port.tensor.tolist()[:8]}")
            vector = self.classes(torch.where(port.kept(), port.tensor, self.ports.classes))
        if not self.ports.vocabulary:
            return vector, None, None
        port = _require(condition.cross if condition else None, rows, "text (the cross port)")
        if port.tensor.shape[1] > self.ports.length:
            raise ValueError(f"this network reads at most {self.ports.length} tokens, got {port.tensor.shape[1]}")
        if bool(((port.tensor < 0) | (port.tensor >= self.ports.vocabulary)).any()):
            raise ValueError(
                f"tokens must lie in [0, {self.ports.vocabulary}), got {port.tensor.flatten().tolist()[:8]}"
            )
        keep, mask = port.kept(), port.tensor > 0 if port.mask is None else port.mask
        told = keep & mask.any(1)  # an empty text says nothing
        x = self.tokens(port.tensor) + self.places[: port.tensor.shape[1]]
        x = torch.where(told[:, None, None], x, self.nothing)
        first = torch.arange(mask.shape[1], device=mask.device) == 0
        mask = torch.where(told[:, None], mask, first)
        for layer in self.text:
            x = layer(x, mask)
        x = self.norm(x)
        weight = mask.to(x.dtype)[..., None]
        vector = vector + self.pool((x * weight).sum(1) / weight.sum(1))
        return (vector, x, mask) if self.ports.text == "tokens" else (vector, None, None)


def _require(port: Port | None, rows: int, what: str) -> Port:
    if port is None or len(port.tensor) != rows:
        given = "nothing" if port is None else f"{len(port.tensor)} rows"
        raise ValueError(f"this network is told {what}: expected {rows} rows of it, got {given}")
    return port
