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
from langevin.modalities.music.codec import AnyCodec, outside
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
    """

    dataset: Scores
    codec: AnyCodec
    length: int
    transpose: int = 0
    keyed: bool = False
    per_quarter: int = 0
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
        u = None if noise is None else noise.fork(9).uniform(torch.empty(len(items), 2)).tolist()
        chosen = [self.window(item, None if u is None else u[i]) for i, item in enumerate(items.tolist())]
        x = torch.nn.utils.rnn.pad_sequence(
            [one.tokens for one in chosen], batch_first=True, padding_value=self.padding
        )
        x = x.to(self.device)
        keys = torch.tensor([one.key for one in chosen]) if self.keyed else None
        condition = condition_of(keys, [one.metre for one in chosen] if self.per_quarter else [])
        real = x != self.padding
        return Batch(
            x=x, condition=None if condition is None else condition.to(self.device), mask=real, known=~real
        )  # fmt: skip

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
