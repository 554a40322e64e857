"""Encoding a condition for a network: `ConditionEncoder`, shared by all networks.

A port that is withheld from a sample, or whose sequence is empty, is replaced by a learned null embedding. Training with
ports withheld at random is what classifier-free guidance needs ("Classifier-Free Diffusion Guidance", 2022, arXiv
2207.12598).
"""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from langevin.diffusion.condition import FACTS, Condition, Port
from langevin.diffusion.float64 import to_float64
from langevin.networks.attention import Attention, sine_positions
from langevin.networks.embedding import PORT_KEYS, BagOfWords, ClassEmbedding, ConditioningConfig, TimeEmbedding


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """The output of a `ConditionEncoder`.

    Args:
        vector: (b, width), the sum of the embeddings of all global ports and words, and of the means of the cross ports;
            0.0 without.
        tokens: (b, n, width), tokens to attend to, those of `prepend` last; None without.
        token_mask: (b, n) bool, False at padding.
        channels: (b, concat_channels + aligned_width, *space), to be concatenated to the data, 0 at padding; None without.
        data_mask: (b, *space) bool, False at padding; None where nothing is padded.
    """

    vector: Tensor | float = 0.0
    tokens: Tensor | None = None
    token_mask: Tensor | None = None
    channels: Tensor | None = None
    data_mask: Tensor | None = None


class TextLayer(nn.Module):
    """Pre-norm transformer layer over text, (b, n, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads=next(h for h in range(max(1, width // 64), 0, -1) if width % h == 0))
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attention(self.norm_1(x), mask=mask)
        return x + self.mlp(self.norm_2(x))


class SequenceEmbedding(nn.Module):
    """Vectors (b, n, in_width) -> tokens (b, n, width): a linear projection plus sinusoidal positions.

    A sequence that is withheld or empty becomes one learned null token."""

    def __init__(self, in_width: int, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(in_width, width)
        self.null = nn.Parameter(torch.zeros(width))
        nn.init.normal_(self.null, std=0.1)

    def forward(self, port: Port) -> tuple[Tensor, Tensor]:
        """The tokens, and their mask (b, n)."""
        mask = port.shown()
        x = self.project(torch.where(mask[..., None], port.tensor, 0))
        x = x + sine_positions((x.shape[1],), x.shape[2], device=x.device).to(x.dtype)
        return _with_null_token(x, mask, port, self.null)


class ConditionEncoder(nn.Module):
    """Condition -> `Conditioning`.

    Text is encoded by a small transformer trained with the network. The mean over a cross port's positions is added to the
    vector, and so is a bag of the words of the text.

    Args:
        config: the enabled ports.
        width: of vector and tokens.
        network: its name, for errors.
        facts: the fields of a condition besides the ports that the network reads, of `condition.FACTS`.
    """

    def __init__(
        self, config: ConditioningConfig, width: int, *, network: str, facts: Collection[str] = ("data_mask",)
    ) -> None:
        super().__init__()
        self.config, self.network, self.facts = config, network, (*facts, *(["span"] if config.span else []))
        if config.classes:
            self.class_embedding = ClassEmbedding(config.classes, width)
        if config.vocabulary:
            self.token_embedding = nn.Embedding(config.vocabulary, width)
            self.position_embedding = nn.Parameter(torch.zeros(config.length, width))
            self.null_text = nn.Parameter(torch.zeros(width))
            self.text_layers = nn.ModuleList(TextLayer(width) for _ in range(config.text_layers))
            self.text_norm = nn.LayerNorm(width)
            self.pool = nn.Linear(width, width)
            self.bag_of_words = BagOfWords(config.vocabulary, config.length, width)
            nn.init.normal_(self.token_embedding.weight, std=0.5)
            nn.init.normal_(self.position_embedding, std=0.1)
        if config.vector_width:
            self.vector = nn.Linear(config.vector_width, width)
            self.null_vector = nn.Parameter(torch.zeros(width))
        if config.cross_width:
            self.cross = SequenceEmbedding(config.cross_width, width)
            self.pool_cross = nn.Linear(width, width)
        if config.prepend_width:
            self.prepend = SequenceEmbedding(config.prepend_width, width)
        if config.concat_channels:
            self.null_concat = nn.Parameter(torch.zeros(config.concat_channels))
        if config.aligned_width:
            self.null_aligned = nn.Parameter(torch.zeros(config.aligned_width))
        if config.span:  # it starts at 0, so that a network with the weights of one without it predicts the same
            self.span = TimeEmbedding(width, features=16, highest=1.0)
            nn.init.zeros_(self.span.layers[-1].weight)  # type: ignore[arg-type]
            nn.init.zeros_(self.span.layers[-1].bias)  # type: ignore[arg-type]

    def forward(
        self, condition: Condition | None, x: Tensor, space: tuple[int, ...] = (), mask: Tensor | None = None
    ) -> Conditioning:
        """The conditioning of x (b, ...).

        Args:
            space: sizes of the data's space, () for vectors.
            mask: (b, *space) bool, False at padding; used in place of the condition's own data mask.

        Raises:
            ValueError: a port that the network was built with is missing or misshapen; a port or field is given that it
                does not read; a text is too long, or an index out of range."""
        condition, b = condition or Condition(), x.shape[0]
        self._refuse_unread(condition)
        mask = mask if mask is not None else _data_mask(condition, b, space)
        vector: Tensor | float = 0.0
        sequences: list[tuple[Tensor, Tensor]] = []  # tokens and mask of each port to attend to
        if self.config.classes:
            vector = self._classes(condition, b)
        if self.config.vocabulary:
            sequences.append(self._text(condition, b))
            vector = vector + self.pool(_masked_mean(*sequences[-1])) + self._words(condition)
        if width := self.config.vector_width:
            port = _require(condition.global_vector, (b, width), "a vector (the port global_vector)")
            vector = vector + torch.where(port.kept()[:, None], self.vector(port.tensor), self.null_vector)
        if width := self.config.cross_width:
            port = _require(condition.cross_vectors, (b, None, width), "vectors (the port cross_vectors)")
            sequences.append(self.cross(port))
            vector = vector + self.pool_cross(_masked_mean(*sequences[-1]))
        if self.config.span:
            length = torch.zeros(b, device=x.device) if condition.span is None else condition.span.to(x.device)
            vector = vector + self.span(length)
        if not self.config.cross_attends:
            sequences = []
        if width := self.config.prepend_width:
            port = _require(condition.prepend, (b, None, width), "a sequence (the port prepend)")
            sequences.append(self.prepend(port))
        tokens, token_mask = (torch.cat(parts, 1) for parts in zip(*sequences)) if sequences else (None, None)
        channels = self._channels(condition, b, space, mask) if self.config.channels else None
        return Conditioning(vector=vector, tokens=tokens, token_mask=token_mask, channels=channels, data_mask=mask)

    def _refuse_unread(self, condition: Condition) -> None:
        """Raises `ValueError` for a port or field that is given and would be ignored."""
        for name in condition.ports:
            if name not in self.config.ports:
                raise ValueError(
                    f"{self.network} is given the port {name}, which it was not built with: leave it out, or train with "
                    f"network.conditioning.{PORT_KEYS[name]} above 0"
                )
        for name in FACTS:
            if name not in self.facts and getattr(condition, name) is not None:
                raise ValueError(
                    f"{self.network} is given condition.{name}, which it does not read: leave it out, or take a network "
                    f"that does (this one reads {', '.join(self.facts) or 'no such field'})"
                )

    def _classes(self, condition: Condition, b: int) -> Tensor:
        port = _require(condition.global_, (b,), "class labels (the port global_)")
        if _some((port.tensor < 0) | (port.tensor >= self.config.classes)):
            raise ValueError(f"class labels must lie in [0, {self.config.classes}), got {port.tensor.tolist()[:8]}")
        return self.class_embedding(torch.where(port.kept(), port.tensor, self.config.classes))

    def _text(self, condition: Condition, b: int) -> tuple[Tensor, Tensor]:
        """Encoded tokens of the port `cross`, (b, n, width), and their mask."""
        port = _require(condition.cross, (b, None), "text (the port cross)")
        n = port.tensor.shape[1]
        if n > self.config.length:
            raise ValueError(f"this network reads at most {self.config.length} tokens, got {n}")
        if _some((port.tensor < 0) | (port.tensor >= self.config.vocabulary)):
            raise ValueError(
                f"tokens must lie in [0, {self.config.vocabulary}), got {port.tensor.flatten().tolist()[:8]}"
            )
        x = self.token_embedding(port.tensor) + self.position_embedding[:n]
        x, mask = _with_null_token(x, port.shown(), port, self.null_text)
        for layer in self.text_layers:
            x = layer(x, mask)
        return self.text_norm(x), mask

    def _words(self, condition: Condition) -> Tensor:
        """The bag of words of the port `cross`, (b, width); 0 where it is withheld."""
        port = condition.cross
        assert port is not None, "checked by _text"
        return self.bag_of_words(port.tensor, port.shown() & port.kept()[:, None])

    def _channels(self, condition: Condition, b: int, space: tuple[int, ...], mask: Tensor | None) -> Tensor:
        """`concat` and the resampled `aligned`, (b, channels, *space), 0 at padding."""
        parts: list[Tensor] = []
        if c := self.config.concat_channels:
            port = _require(condition.concat, (b, c, *space), "channels (the port concat)")
            parts.append(_or_null(port.tensor, port.kept(), self.null_concat))
        if c := self.config.aligned_width:
            port = _require(condition.aligned, (b, None, c), "a sequence in time (the port aligned)")
            item_mask = port.shown()
            x = resample(port.tensor, item_mask, space[0], None if mask is None else _lengths(mask))  # (b, space[0], c)
            x = _or_null(x.transpose(1, 2), port.kept() & item_mask.any(1), self.null_aligned)
            x = x.reshape(*x.shape, *(1,) * (len(space) - 1))  # (b, c, space[0], 1, ...)
            parts.append(x.expand(-1, -1, *space))
        channels = torch.cat(parts, 1)
        return channels if mask is None else torch.where(mask[:, None], channels, 0)


def _some(wrong: Tensor) -> bool:
    """Whether any of `wrong` holds; not asked in an exported graph, which has no branches."""
    return not torch.compiler.is_exporting() and bool(wrong.any())


def resample(x: Tensor, mask: Tensor, positions: int, lengths: Tensor | None = None) -> Tensor:
    """A sequence (b, n, d) resampled to the data's positions, (b, positions, d), by linear interpolation.

    The first m items of a sample, where `mask` (b, n) holds, span the same stretch as its first `lengths` (b,) positions
    (default all): item k covers [k, k + 1) / m of it. A sequence of as many items as positions is unchanged."""
    items = to_float64(mask.sum(1).clamp_min(1))[:, None]
    length = torch.full_like(items, positions) if lengths is None else to_float64(lengths.clamp_min(1))[:, None]
    centre = torch.arange(positions, dtype=torch.float64, device=items.device) + 0.5
    u = (centre * items / length - 0.5).clamp_min(0).minimum(items - 1)  # fractional item index of each position
    low = u.floor()
    high = (low + 1).minimum(items - 1)
    x = torch.where(mask[..., None], x, 0)
    x_low, x_high = (
        x.gather(1, index.long().to(x.device)[..., None].expand(-1, -1, x.shape[2])) for index in (low, high)
    )
    return torch.lerp(x_low, x_high, (u - low)[..., None].to(x))


def _lengths(mask: Tensor) -> Tensor:
    """(b,): positions along the first axis of a data mask (b, *space) up to the last one that holds data."""
    holds_data = mask.reshape(*mask.shape[:2], -1).any(2)
    return (holds_data * torch.arange(1, holds_data.shape[1] + 1, device=mask.device)).amax(1)


def _data_mask(condition: Condition, b: int, space: tuple[int, ...]) -> Tensor | None:
    mask = condition.data_mask
    if mask is not None and (mask.shape != (b, *space) or mask.dtype != torch.bool):
        raise ValueError(
            f"a data mask is bool and of the positions of its data, {(b, *space)}; got {mask.dtype} of shape "
            f"{tuple(mask.shape)}"
        )
    return mask


def _with_null_token(x: Tensor, mask: Tensor, port: Port, null: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens (b, n, width) and mask (b, n); one null token for the samples whose port is withheld or empty."""
    present = port.kept() & mask.any(1)
    x = torch.where(present[:, None, None], x, null)
    first = torch.arange(mask.shape[1], device=mask.device) == 0
    return x, torch.where(present[:, None], mask, first)


def _masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """(b, n, width) -> (b, width), the mean over positions where `mask` (b, n) holds."""
    weight = mask.to(x.dtype)[..., None]
    return (x * weight).sum(1) / weight.sum(1)


def _or_null(x: Tensor, keep: Tensor, null: Tensor) -> Tensor:
    """x (b, c, *space), and `null` (c,) at every position of the samples where `keep` (b,) is False."""
    ones = (1,) * (x.ndim - 2)
    return torch.where(keep.view(-1, 1, *ones), x, null.view(1, -1, *ones))


def _require(port: Port | None, shape: tuple[int | None, ...], what: str) -> Port:
    """Check that a port is given, and the shapes of its tensors; None stands for any length of at least 1.

    Raises:
        ValueError: with the port's name, the expected and the given shape."""
    b = shape[0]
    if port is None or port.tensor.shape[0] != b:
        given = "nothing" if port is None else f"{port.tensor.shape[0]} samples"
        raise ValueError(f"this network is conditioned on {what}: expected {b} samples of it, got {given}")
    got = tuple(port.tensor.shape)
    if len(got) != len(shape) or any(m != n if n is not None else m < 1 for m, n in zip(got, shape, strict=True)):
        expected = ", ".join("n" if n is None else str(n) for n in shape)
        raise ValueError(f"this network is conditioned on {what} of shape ({expected}), got {got}")
    if port.mask is not None and shape[1:2] != (None,):
        raise ValueError(f"this network is conditioned on {what}, which is not a sequence: leave its mask at None")
    for name, mask, size in (("mask", port.mask, got[:2]), ("keep", port.keep, got[:1])):
        if mask is not None and (tuple(mask.shape) != size or mask.dtype != torch.bool):
            raise ValueError(
                f"this network is conditioned on {what}: its {name} is bool of shape {size}, got {mask.dtype} of shape "
                f"{tuple(mask.shape)}"
            )
    return port
