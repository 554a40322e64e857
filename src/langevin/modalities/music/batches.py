"""Windows of pieces as training examples.

In training an example is a window of its piece that begins at a random bar, transposed by a random number of semitones that
keeps every voice of the whole piece within its range. Without noise the windows follow one another and cover all once. The
last window of a piece may be short: it is padded, and the padding is masked.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch
from langevin.diffusion.condition import Condition, Port
from langevin.diffusion.noise import SampleNoise
from langevin.modalities.music.codec import AnyCodec, Voices, outside
from langevin.modalities.music.data import Scores
from langevin.modalities.music.key import key_of, transposed

QUARTERS = 8  # of a bar that are told apart; later ones are like the last


def metre(first: int, steps: int, *, bar: int, per_quarter: int) -> Tensor:
    """Where steps from `first` on, counted from a whole bar, are in the metre, (steps, per_quarter + QUARTERS): the step of
    the quarter and the quarter of the bar, one-hot each."""
    at = (first + torch.arange(steps)) % bar
    quarter = (at // per_quarter).clamp_max(QUARTERS - 1)
    one_hot = torch.nn.functional.one_hot
    return torch.cat([one_hot(at % per_quarter, per_quarter), one_hot(quarter, QUARTERS)], 1).float()


def condition_of(keys: Tensor | None, metres: list[Tensor]) -> Condition | None:
    """The condition of keys (b,) and the metre of each sample (steps, d); None without either."""
    if keys is None and not metres:
        return None
    port = None
    if metres:
        lengths = torch.tensor([len(row) for row in metres])
        inside = torch.arange(int(lengths.max())) < lengths[:, None]
        port = Port(tensor=torch.nn.utils.rnn.pad_sequence(metres, batch_first=True), mask=inside)
    return Condition(global_=None if keys is None else Port(tensor=keys), aligned=port)


@dataclass(frozen=True, kw_only=True, eq=False)
class Window:
    """A part of a piece: tokens step by step, (steps * streams,) int64; its key; and its metre, see `metre`."""

    tokens: Tensor
    key: int
    metre: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Windows:
    """Encoded windows by index.

    Args:
        length: steps of a window.
        transpose: most semitones of a transposition, up or down.
        keyed: whether the key of the whole piece is a condition.
        per_quarter: steps in a quarter note, if the metre is a condition; 0 if it is not.
        given: probability that a part of an example is given and not to be generated, see `_given`; only with noise.
    """

    dataset: Scores
    codec: AnyCodec
    length: int
    transpose: int = 0
    keyed: bool = False
    per_quarter: int = 0
    given: float = 0.0
    device: torch.device = torch.device("cpu")

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length * self.codec.streams,)

    @property
    def padding(self) -> int:
        """The token of a step after the end of the piece."""
        return self.codec.vocab_size + 1

    @property
    def remarks(self) -> tuple[str, ...]:
        moved = [count for piece in self.dataset.pieces if (count := outside(piece, self.codec))]
        if not moved:
            return ()
        return (f"Notes beyond the trained range, moved by octaves: {sum(moved):,} in {len(moved):,} pieces.",)

    @cached_property
    def tokens(self) -> list[Tensor]:
        """The tokens of every piece, (steps, streams)."""
        return [self.codec.encode(piece) for piece in self.dataset.pieces]

    @cached_property
    def keys(self) -> list[int]:
        """The key of every piece."""
        return [key_of(piece) for piece in self.dataset.pieces]

    @cached_property
    def starts(self) -> list[tuple[int, int]]:
        """(piece, first step) of every window."""
        pieces = enumerate(self.dataset.pieces)
        return [(i, first) for i, piece in pieces for first in range(0, piece.steps, self.length)]

    def __len__(self) -> int:
        return len(self.starts)

    def __call__(self, items: Tensor, noise: SampleNoise | None = None) -> Batch:
        u = None if noise is None else noise.fork(9).uniform(torch.empty(len(items), 6))
        chosen = [self.window(item, None if u is None else u[i].tolist()) for i, item in enumerate(items.tolist())]
        x = torch.nn.utils.rnn.pad_sequence(
            [one.tokens for one in chosen], batch_first=True, padding_value=self.padding
        )
        x = x.to(self.device)
        keys = torch.tensor([one.key for one in chosen]) if self.keyed else None
        condition = condition_of(keys, [one.metre for one in chosen] if self.per_quarter else [])
        free = x != self.padding
        if u is not None and self.given:
            free &= ~self._given(u[:, 2:], free.unflatten(1, (-1, self.codec.streams)).any(2).sum(1).cpu(), x.shape[1])
        return Batch(
            x=x, condition=None if condition is None else condition.to(self.device), mask=free, known=~free
        )  # fmt: skip

    def _given(self, u: Tensor, steps: Tensor, positions: int) -> Tensor:
        """Which positions are given, (b, positions) bool, from uniforms u (b, 4): as requests give them, of a share `given`
        of the examples. Half of these are voices, not all; half are all but a span of a quarter to three quarters."""
        streams = self.codec.streams
        at = torch.arange(positions // streams)
        span = ((0.25 + 0.5 * u[:, 2]) * steps).long().clamp_min(1)
        start = ((steps - span + 1) * (1.5 * u[:, 3] - 0.25).clamp(0, 0.999)).long()  # a quarter each at either end
        outside = (at < start[:, None]) | (at >= (start + span)[:, None])  # (b, steps)
        given = outside[:, :, None].expand(-1, -1, streams)
        if isinstance(self.codec, Voices) and streams > 1:
            some = 1 + (u[:, 2] * (2**streams - 2)).long()  # a subset, as bits
            voices = (some[:, None] >> torch.arange(streams)) & 1 > 0
            given = torch.where((u[:, 1] < 0.5)[:, None, None], voices[:, None].expand_as(given), given)
        return (given & (u[:, 0] < self.given)[:, None, None]).flatten(1).to(self.device)

    def window(self, item: int, u: list[float] | None = None) -> "Window":
        """A window, drawn by two uniform numbers `u`; without these, that of the item."""
        index, first = self.starts[item]
        piece, semitones = self.dataset.pieces[index], 0
        if u is not None:
            bar = min(piece.bar, self.length)
            before = -piece.upbeat % bar  # steps of a bar that would begin before the piece
            last = -(-(max(0, piece.steps - self.length) + before) // bar)
            first = max(0, int(u[0] * (1 + last)) * bar - before)
            down, up = (max(-self.transpose, min(self.transpose, side)) for side in self.codec.room(piece))
            semitones = down + int(u[1] * (up - down + 1))
        tokens = self.tokens[index][first : first + self.length]
        steps, tokens = len(tokens), self.codec.transposed(tokens, semitones) if semitones else tokens
        return Window(
            tokens=tokens.flatten().long(),
            key=transposed(self.keys[index], semitones) if self.keyed else 0,
            metre=metre(first - piece.upbeat, steps, bar=piece.bar, per_quarter=self.per_quarter or 1),
        )  # fmt: skip
