"""How much of a piece is copied from the training pieces: the longest run of equal steps, up to transposition.

A step is its pitches counted from its lowest one, and how far that one has moved since the step before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from langevin.modalities.music.piece import Piece, in_one_voice, states

MOST_STEPS = 200_000  # of the training pieces that are searched
_Step = tuple[bytes, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class Memory:
    """The steps of training pieces as numbers, one after another with -1 between pieces."""

    steps: np.ndarray
    numbers: dict[_Step, int]

    @classmethod
    def of(cls, pieces: Sequence[Piece]) -> Self:
        """Of the first `MOST_STEPS` steps of the pieces."""
        numbers: dict[_Step, int] = {}
        steps: list[int] = []
        for piece in pieces:
            if len(steps) >= MOST_STEPS:
                break
            steps += [numbers.setdefault(step, len(numbers)) for step in _steps(piece)]
            steps.append(-1)
        return cls(steps=np.array(steps), numbers=numbers)

    def longest_run(self, piece: Piece) -> int:
        """Steps of the longest run that is in a training piece, too."""
        run, longest = np.zeros(len(self.steps) + 1, np.int64), 0
        for step in _steps(piece):
            number = self.numbers.get(step, -2)
            # run[j + 1]: the length of the equal run that ends at step j of the training pieces
            run[1:] = np.where(self.steps == number, run[:-1] + 1, 0)
            longest = max(longest, int(run.max()))
        return longest


def _steps(piece: Piece) -> list[_Step]:
    notes = in_one_voice(piece).notes
    sounding = states(notes, notes[:, 2], piece.steps, 128)[0] >= 0
    bass = np.where(sounding.any(1), sounding.argmax(1), 0)
    moved = np.diff(bass, prepend=bass[:1])
    above = [np.flatnonzero(step[low:]).astype(np.uint8).tobytes() for step, low in zip(sounding, bass, strict=True)]
    return list(zip(above, moved.tolist(), strict=True))
