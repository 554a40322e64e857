"""What `inspect` reports of scores."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from langevin.modalities.music.codec import range_of
from langevin.modalities.music.data import Scores
from langevin.modalities.music.key import KEYS, key_of
from langevin.modalities.music.piece import voice_names

_PITCHES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """Counts, lengths and ranges.

    Args:
        voices: of every piece; 0 if they differ, for the reason `odd`.
        ranges: lowest and highest pitch of each voice, or of all notes.
        lengths: steps of the shortest, the median and the longest piece.
        bars: steps in a bar, with the number of pieces.
        keys: the most frequent keys, with the number of pieces.
        repeats: repeated notes among the notes that follow another in a voice.
    """

    path: str
    parts: dict[str, int]
    notes: int
    voices: int
    odd: str
    ranges: tuple[tuple[int, int], ...]
    lengths: tuple[int, int, int]
    steps_per_quarter: int
    bars: dict[int, int]
    keys: dict[str, int]
    repeats: int
    remarks: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        pieces = ", ".join(f"{count:,} {name}" for name, count in self.parts.items())
        names = voice_names(self.voices) if self.voices else ("all notes",)
        spans = ", ".join(
            f"{name} {pitch_name(low)} to {pitch_name(high)}"
            for name, (low, high) in zip(names, self.ranges, strict=True)
        )
        shortest, middle, longest = self.lengths
        lines = [
            f"{self.path}: {sum(self.parts.values()):,} pieces ({pieces}), {self.notes:,} notes",
            f"Lengths on a grid of {self.steps_per_quarter} steps a quarter note: {shortest:,} to {longest:,}, median "
            f"{middle:,}; bars of {', '.join(f'{steps} ({count:,})' for steps, count in self.bars.items())} steps",
            f"Voices: {self.voices}, of one note at a time" if self.voices else f"A piano roll, as {self.odd}",
            f"Ranges: {spans}",
            f"Keys, estimated: {', '.join(f'{key} ({count:,})' for key, count in self.keys.items())}",
        ]
        if not self.repeats and self.voices:
            lines.append("No note repeats the one before it: such data cannot tell a repeated note from a held one.")
        return [*lines, *self.remarks]


def inspect(parts: tuple[Scores, Scores], path: str, *, steps_per_quarter: int) -> Inspection:
    """The report on all parts together."""
    train, val = parts
    test = val.test.pieces if val.test else ()
    pieces = (*train.pieces, *val.pieces, *test)
    notes = np.concatenate([piece.notes for piece in pieces])
    groups = [notes[notes[:, 3] == voice, 2] for voice in range(train.voices)] or [notes[:, 2]]
    steps = sorted(piece.steps for piece in pieces)
    counts = {"training": len(train), "validation": len(val), **({"test": len(test)} if test else {})}
    repeats = sum(_repeats(piece.notes) for piece in pieces) if train.voices else 0
    return Inspection(
        path=path, parts=counts, notes=len(notes), voices=train.voices, odd=train.odd,
        ranges=tuple(range_of(group) for group in groups), lengths=(steps[0], steps[len(steps) // 2], steps[-1]),
        steps_per_quarter=steps_per_quarter, bars=dict(Counter(piece.bar for piece in pieces).most_common(4)),
        keys=dict(Counter(KEYS[key_of(piece)] for piece in pieces).most_common(6)), repeats=repeats,
        remarks=tuple(train.notes.lines()),
    )  # fmt: skip


def _repeats(notes: np.ndarray) -> int:
    """Notes that begin where one of the same pitch and voice ends."""
    order = notes[np.lexsort((notes[:, 0], notes[:, 3]))]
    same = (order[1:, 2:] == order[:-1, 2:]).all(1) & (order[1:, 0] == order[:-1, 1])
    return int(same.sum())


def pitch_name(pitch: int) -> str:
    """A MIDI pitch by name and octave: 60 is C4."""
    return f"{_PITCHES[pitch % 12]}{pitch // 12 - 1}"
