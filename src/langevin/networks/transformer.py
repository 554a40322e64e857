"""A transformer over tokens: (b, places) indices to logits (b, places, symbols), seen in both directions or block by block.

Indices: symbols 0 .. V - 1, the mask V, padding V + 1. Padding is never attended to, takes no part in anything and costs
little: layers work on the other places only.

    full     every place sees every other
    block    places are cut into blocks of `block`; a block sees itself in both directions, and what came before it *clean*
             ("Block Diffusion", 2025). What came before is told by one of two ports of the condition: `aligned`, the clean
             text of the same places, all blocks at once (training: noisy and clean halves in one pass); or `prepend`, the
             text before the first place, as tokens or as the keys and values that `cache` computed of it once.
             It is text like the rest, and no keep bit withholds it: the unconditional question has a past too
    causal   place i sees those before it and answers for itself: the logits of an autoregressive model, of the shifted text

The masked posterior does not depend on time, so by default the network is not told it ("Masked Diffusion Models are
Secretly Time-Agnostic", 2024); with `timed`, or with ports, blocks are modulated as in `dit`.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from langevin.diffusion.condition import Condition, Port
from langevin.networks.attention import Attention, spread
from langevin.networks.embedding import Encoder, Ports, TimeEmbedding
from langevin.networks.lean import rms_norm, squared_relu
from langevin.networks.neighbours import Neighbours
from langevin.networks.visible import blockwise, causal, halves, ones, rotary

Past = list[tuple[Tensor, Tensor]]  # keys and values of each layer


class Block(nn.Module):
    """Attention, then an MLP of squared ReLU, each on normalised tokens (b, n, d); starts as the identity."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float, *, told: bool) -> None:
        super().__init__()
        self.attention = Attention(width, heads=heads)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)
        self.modulate = nn.Linear(width, 4 * width) if told else None
        zeroed = [self.attention.out, self.down, *([self.modulate] if self.modulate is not None else [])]
        for layer in zeroed:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, x: Tensor, vector: Tensor | None, rotary: tuple[Tensor, Tensor], mask: Tensor | None,
        past: tuple[Tensor, Tensor] | None, real: Tensor | None, at: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:  # fmt: skip
        """The tokens, or the m of them `at` which it is asked; and all keys and values, behind those of `past`.

        x is (b, n, d), or (m, d) of the places where `real` (b, n) holds: none but these are worked on."""
        h = g = None
        if self.modulate is not None and vector is not None:
            shift_1, scale_1, shift_2, scale_2 = self.modulate(vector)[:, None].chunk(4, -1)
            h, g = _each((shift_1, 1 + scale_1), real), _each((shift_2, 1 + scale_2), real if at is None else at)
        q, k, v = self.attention.project(_normed(x, h), rotary, real)
        own = (k, v)
        if past is not None:
            k, v = torch.cat([past[0].to(k.dtype), k], 2), torch.cat([past[1].to(v.dtype), v], 2)
        if at is not None:
            x = x[at if real is None else at[real]]
        x = x + self.dropout(self.attention.mix(q, k, v, mask, real if at is None else at))
        return x + self.dropout(self.down(squared_relu(self.up(_normed(x, g))))), own


def _each(modulation: tuple[Tensor, Tensor], at: Tensor | None) -> tuple[Tensor, Tensor]:
    """A row's modulation (b, 1, d) for each of the m places where `at` (b, n) holds, (m, d)."""
    if at is None:
        return modulation
    shift, scale = (part.expand(*at.shape, -1)[at] for part in modulation)
    return shift, scale


def _normed(x: Tensor, modulation: tuple[Tensor, Tensor] | None) -> Tensor:
    h = rms_norm(x)
    return h if modulation is None else torch.addcmul(modulation[0], h, modulation[1])


class Transformer(nn.Module):
    """See the module."""

    edges = ("tokens", "beside", "neighbours", "neighbours_beside", "modulate", "time", "encoder", "last")

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Args:
        width: channels of a token, a multiple of head_width.
        depth: blocks of layers.
        attention: what a place sees, see the module.
        block: places of a block where attention is by block.
        timed: be told the time.
        beside: how many other rows of symbols are told beside one's own, place by place (the `concat` port, (b, rows, n)):
            a text to repair, and readings of it.
        neighbours: how far away symbols may stand to be embedded at a place too, and those of a row told beside (see
            `neighbours`); where attention is causal those before only, where by block those of the block. 0 for none.
        symbols: V; None is taken from the data.
        """

        kind: Literal["transformer"] = "transformer"
        width: int = 256
        depth: int = 4
        head_width: int = 64
        mlp_ratio: float = 4.0
        dropout: float = 0.0
        attention: Literal["full", "block", "causal"] = "full"
        block: int = 16
        timed: bool = False
        beside: int = 0
        neighbours: int = 0
        symbols: int | None = None
        ports: Ports = Ports()

        def __post_init__(self) -> None:
            sizes = (self.width, self.depth, self.head_width, self.block)
            if min(sizes) < 1 or not 1 <= self.width * self.mlp_ratio < math.inf:
                raise ValueError(f"a transformer's sizes are positive: {self}")
            if self.head_width % 2 or self.width % self.head_width:
                raise ValueError(
                    f"network.width {self.width} must be a multiple of network.head_width {self.head_width}, which is even"
                )
            if not 0 <= self.dropout < 1:
                raise ValueError(f"network.dropout is a probability below 1, got {self.dropout}")
            if self.beside and self.attention != "full":
                raise ValueError("network.beside needs network.attention=full: a text to repair is seen whole")
            if not 0 <= self.neighbours <= 64:
                raise ValueError(f"network.neighbours is a number of places, 0 to 64, got {self.neighbours}")

        def build(self) -> "Transformer":
            return Transformer(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        if not config.symbols:
            raise ValueError("a transformer over tokens needs to know the vocabulary before it is built")
        self.config, width = config, config.width
        told = config.timed or config.ports.classes > 0 or config.ports.vocabulary > 0
        self.tokens = nn.Embedding(config.symbols + 2, width)
        nn.init.normal_(self.tokens.weight, std=width**-0.5)
        self.beside = nn.ModuleList(nn.Embedding(config.symbols + 2, width) for _ in range(config.beside))
        for table in self.beside:
            nn.init.normal_(table.weight, std=width**-0.5)  # type: ignore[arg-type]
        near = range(-config.neighbours, 1 + config.neighbours)
        before, around = tuple(k for k in near if k < 0), tuple(k for k in near if k)
        kind = {"symbols": config.symbols + 2, "width": width, "padding": self.padding}
        offsets = before if config.attention == "causal" else around
        self.neighbours = Neighbours(**kind, offsets=offsets) if offsets else None
        rows = config.beside if around else 0
        self.neighbours_beside = nn.ModuleList(Neighbours(**kind, offsets=around) for _ in range(rows))
        self.time = TimeEmbedding(width) if config.timed else None
        self.encoder = Encoder(config.ports, width) if told else None
        hidden, heads = int(width * config.mlp_ratio), width // config.head_width
        self.blocks = nn.ModuleList(Block(width, heads, hidden, config.dropout, told=told) for _ in range(config.depth))
        self.last = nn.Parameter(torch.zeros(config.symbols))

    @property
    def padding(self) -> int:
        return (self.config.symbols or 0) + 1

    def forward(
        self, x: Tensor, c_time: Tensor, condition: Condition | None = None, at: Tensor | None = None
    ) -> Tensor:
        """(b, n) int64 -> (b, n, V), or (m, V) of the m places where `at` (b, n) holds, none of them padding.

        Raises:
            ValueError: indices outside the vocabulary, or a block network that is not told what came before."""
        self._require(x)
        vector = self._vector(x, c_time, condition)
        if self.config.attention == "causal":
            first = torch.full_like(x[:, :1], self.padding - 1)
            h, _ = self._run(torch.cat([first, x[:, :-1]], 1), vector, causal(x.shape[1], x.device), None, 0, at=at)
            return self._logits(h)
        if self.config.attention == "full":
            real = x != self.padding
            mask = None if bool(real.all()) else real | ~real.any(1, keepdim=True)
            return self._logits(self._run(x, vector, mask, None, 0, self._told(x, condition), at)[0])
        if condition is not None and condition.aligned is not None:
            return self._logits(self._beside(x, vector, condition.aligned, at))
        n, before = x.shape[1], None if condition is None else condition.prepend
        if n > self.config.block:
            raise ValueError(
                f"{n} places are more than one block of {self.config.block}: give the clean text of all of them as "
                "`aligned`, or ask for one block at a time, after the text before it as `prepend`"
            )
        if before is None:
            return self._logits(self._run(x, vector, self._real(ones(n, x.device), x), None, 0, at=at)[0])
        if not before.tensor.is_floating_point():
            before = self.cache(torch.where(before.shown(), before.tensor, self.padding))
        shown = before.shown()
        past, start = self._past(before), shown.sum(1)
        own = self._real(ones(n, x.device), x)
        mask = torch.cat([shown[:, None].expand(-1, n, -1), own.expand(len(x), -1, -1)], 2)
        places = start[:, None] + torch.arange(n, device=x.device)
        return self._logits(self._run(x, vector, mask, past, places, at=at)[0])

    def _beside(self, x: Tensor, vector: Tensor | None, clean: Port, at: Tensor | None) -> Tensor:
        """The noisy half of a pass over noisy places and the clean text of the same places."""
        self._require(clean.tensor)
        if clean.tensor.shape != x.shape:
            raise ValueError(f"{tuple(x.shape)} noisy places need as many clean ones, got {tuple(clean.tensor.shape)}")
        n, said = x.shape[1], torch.where(clean.shown(), clean.tensor, self.padding)
        both, places = torch.cat([x, said], 1), torch.arange(n, device=x.device).repeat(2)
        mask = self._real(halves(n, self.config.block, x.device), both)
        some = None if at is None else torch.cat([at, torch.zeros_like(at)], 1)
        h, _ = self._run(both, vector, mask, None, places, at=some)
        return h[:, :n] if at is None else h

    def cache(self, tokens: Tensor, before: Port | None = None) -> Port:
        """Keys and values of clean tokens (b, n) for the `prepend` port, (b, n, depth, 2, width), after those of `before`.

        n is a multiple of the block; a network that is told time or ports caches nothing.

        Raises:
            ValueError: a network without blocks, or tokens that end inside one."""
        block, n = self.config.block, tokens.shape[1]
        if self.config.attention != "block" or self.encoder is not None:
            raise ValueError("a cache is of a network with network.attention block that is told nothing but text")
        if n % block:
            raise ValueError(f"blocks of {block} do not cut {n} tokens: the rest belongs into the block being written")
        self._require(tokens)
        mask = self._real(blockwise(n, block, tokens.device), tokens)
        past, start, shown = None, torch.zeros(len(tokens), dtype=torch.int64, device=tokens.device), None
        if before is not None:
            shown, past = before.shown(), self._past(before)
            start = shown.sum(1)
            mask = torch.cat([shown[:, None].expand(-1, n, -1), mask.expand(len(tokens), -1, -1)], 2)
        places = start[:, None] + torch.arange(n, device=tokens.device)
        _, own = self._run(tokens, None, mask, past, places)
        kept = torch.stack([torch.stack([_flat(k), _flat(v)], 2) for k, v in own], 2)
        real = tokens != self.padding
        if before is None or shown is None:
            return Port(tensor=kept, mask=real)
        return Port(
            tensor=torch.cat([before.tensor, kept.to(before.tensor.dtype)], 1), mask=torch.cat([shown, real], 1)
        )

    def _told(self, x: Tensor, condition: Condition | None) -> Tensor | None:
        """The symbols beside, (b, rows, n). Raises `ValueError` where a network that reads them is not given them."""
        if not self.config.beside:
            return None
        port, wanted = None if condition is None else condition.concat, (len(x), self.config.beside, x.shape[1])
        if port is None or port.tensor.shape != wanted:
            raise ValueError(
                f"this network is told symbols beside its own, of shape {wanted} (the concat port), got "
                f"{'none' if port is None else tuple(port.tensor.shape)}"
            )
        self._require(port.tensor.flatten(0, 1))
        return port.tensor

    def _past(self, before: Port) -> Past:
        heads = self.config.width // self.config.head_width
        split = before.tensor.unflatten(-1, (heads, -1)).permute(
            2, 3, 0, 4, 1, 5
        )  # (depth, 2, b, heads, n, head_width)
        return [(layer[0], layer[1]) for layer in split]

    def _run(
        self, x: Tensor, vector: Tensor | None, mask: Tensor | None, past: Past | None, places: Tensor | int,
        beside: Tensor | None = None, at: Tensor | None = None,
    ) -> tuple[Tensor, Past]:  # fmt: skip
        """The tokens after all blocks, normalised, and their keys and values. The last block mixes those `at` alone."""
        h = self.tokens(x)
        if beside is not None:
            for i, row in enumerate(beside.unbind(1)):
                h = h + self.beside[i](row)
                if self.neighbours_beside:
                    h = h + self.neighbours_beside[i](row)
        if self.neighbours is not None:
            stand = None if isinstance(places, int) else places
            h = h + self.neighbours(x, stand, self.config.block if self.config.attention == "block" else None)
        real: Tensor | None = x != self.padding
        if torch.compiler.is_compiling() or bool(real.all()):  # a compiled network wants one shape
            real = None
        h = rms_norm(h if real is None else h[real])
        angles = rotary(x.shape[1] if isinstance(places, int) else places, self.config.head_width, x.device)
        own: Past = []
        for i, block in enumerate(self.blocks):
            some = at if i + 1 == len(self.blocks) else None
            h, kept = block(h, vector, angles, mask, None if past is None else past[i], real, some)
            own.append(kept)
        h = rms_norm(h)
        return h if real is None or at is not None else spread(h, real), own

    def _logits(self, h: Tensor) -> Tensor:
        return F.linear(h, self.tokens.weight[: len(self.last)], self.last)

    def _vector(self, x: Tensor, c_time: Tensor, condition: Condition | None) -> Tensor | None:
        if self.encoder is None:
            return None
        told, _, _ = self.encoder(condition, len(x))
        return F.silu((self.time(c_time) if self.time is not None else 0.0) + told)  # type: ignore[arg-type]

    def _real(self, mask: Tensor, tokens: Tensor) -> Tensor:
        """`mask` (1, queries, keys) without padding as keys; a place always sees itself."""
        real = tokens != self.padding
        if bool(real.all()):
            return mask
        return (mask & real[:, None]) | torch.eye(tokens.shape[1], dtype=torch.bool, device=tokens.device)

    def _require(self, x: Tensor) -> None:
        if x.ndim != 2 or x.is_floating_point() or bool(((x < 0) | (x > self.padding)).any()):
            raise ValueError(
                f"this network reads tokens (b, places) in [0, {self.padding}], got {x.dtype} of shape {tuple(x.shape)}"
                + (f" with {int(x.max())}" if x.numel() and not x.is_floating_point() else "")
            )


def _flat(x: Tensor) -> Tensor:
    """(b, heads, n, d) -> (b, n, heads d)."""
    return x.transpose(1, 2).flatten(2)
