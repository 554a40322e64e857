"""A piece: notes on a grid of equal steps.

A note is (first step, step after its last, MIDI pitch, voice). The same piece as states is what sounds in each step of each
stream: its pitch, -1 for silence, and whether it is struck there. Streams are voices, which hold one note at a time, or the
pitches themselves, as in a piano roll; where two notes of a stream overlap, the earlier one ends.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

NAMES = ("soprano", "alto", "tenor", "bass")


@dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """Notes on a grid.

    Args:
        notes: (n, 4) int32, sorted: first step, step after the last, pitch (0 to 127), voice.
        steps: length of the piece in steps.
        voices: number of voices; voice 0 is the highest.
        bar: steps in a bar.
        upbeat: steps before the first whole bar.
        tempo: quarter notes in a minute; None if it is not known.
        name: where it is from, for messages.
    """

    notes: np.ndarray
    steps: int
    voices: int = 1
    bar: int = 16
    upbeat: int = 0
    tempo: float | None = None
    name: str = ""

    def __eq__(self, other: object) -> bool:
        """Equal notes in equal voices, of equal length."""
        if not isinstance(other, Piece):
            return NotImplemented
        same = (self.steps, self.voices) == (other.steps, other.voices)
        return same and np.array_equal(self.notes, other.notes)

    __hash__: Any = None

    @property
    def content(self) -> bytes:
        """All that the piece is known by: its length, voices and notes."""
        return f"{self.steps} {self.voices} ".encode() + self.notes.astype("<i4").tobytes()

    @property
    def monophonic(self) -> bool:
        """Whether no voice holds two notes in one step."""
        order = self.notes[np.lexsort((self.notes[:, 0], self.notes[:, 3]))]
        same = order[1:, 3] == order[:-1, 3]
        return not bool((same & (order[1:, 0] < order[:-1, 1])).any())

    def states(self) -> tuple[np.ndarray, np.ndarray]:
        """(pitch, struck) of each step and voice, see `states`."""
        return states(self.notes, self.notes[:, 3], self.steps, self.voices)

    def transposed(self, semitones: int) -> "Piece":
        """All pitches moved by `semitones`."""
        notes = self.notes.copy()
        notes[:, 2] += semitones
        return replace(self, notes=notes)

    def between(self, first: int, last: int) -> "Piece":
        """The steps first, ..., last - 1; notes are cut at both ends."""
        notes = self.notes[(self.notes[:, 0] < last) & (self.notes[:, 1] > first)].copy()
        notes[:, :2] = notes[:, :2].clip(first, last) - first
        return replace(self, notes=in_order(notes), steps=last - first, upbeat=(self.upbeat - first) % self.bar)


def in_order(notes: np.ndarray) -> np.ndarray:
    """Notes sorted by first step, voice and pitch, (n, 4) int32."""
    return notes[np.lexsort((notes[:, 1], notes[:, 2], notes[:, 3], notes[:, 0]))].astype(np.int32)


def states(notes: np.ndarray, streams: np.ndarray, steps: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(pitch, struck), (steps, count) each, of notes (n, 4) in `streams` (n,): -1 where nothing sounds."""
    order = np.lexsort((notes[:, 1], notes[:, 0], streams))
    (first, last, key), stream = notes[order, :3].T, streams[order]
    following = np.where(stream[1:] == stream[:-1], first[1:], steps)
    length = np.minimum(last, np.append(following, steps)[: len(last)]) - first  # 0 where two begin together
    begin = first - (length.cumsum() - length)
    at = np.repeat(begin, length) + np.arange(length.sum()), np.repeat(stream, length)
    pitch, struck = np.full((steps, count), -1, np.int16), np.zeros((steps, count), bool)
    pitch[at] = np.repeat(key, length)
    struck[first[length > 0], stream[length > 0]] = True
    return pitch, struck


def notes_of(pitch: np.ndarray, struck: np.ndarray, voices: np.ndarray) -> np.ndarray:
    """The notes of states (steps, streams) in `voices` (streams,). A held pitch that nothing precedes is struck."""
    sounding = pitch >= 0
    before = np.pad(pitch, ((1, 0), (0, 0)), constant_values=-1)[:-1]
    begins = sounding & (struck | (before != pitch))
    changes = begins | ~sounding
    found = []
    for stream in np.flatnonzero(sounding.any(0)):
        first = np.flatnonzero(begins[:, stream])
        ends = np.append(np.flatnonzero(changes[:, stream]), len(pitch))
        last = ends[np.searchsorted(ends, first, side="right")]
        key = pitch[first, stream]
        found.append(np.stack([first, last, key, np.full_like(first, voices[stream])], 1))
    return in_order(np.concatenate(found)) if found else np.zeros((0, 4), np.int32)


def of_pitches(pitch: np.ndarray, **facts: Any) -> Piece:
    """The piece of states (steps, voices) of pitches alone, -1 for silence: a pitch is struck where it changes."""
    notes = notes_of(pitch, np.zeros(pitch.shape, bool), np.arange(pitch.shape[1]))
    return Piece(notes=notes, steps=len(pitch), voices=pitch.shape[1], **facts)


def in_one_voice(piece: Piece) -> Piece:
    """The piece as a piano roll holds it: all notes in one voice, and of a pitch one at a time."""
    notes = in_order(piece.notes)
    pitch, struck = states(notes, notes[:, 2], piece.steps, 128)
    return replace(piece, notes=notes_of(pitch, struck, np.zeros(128, int)), voices=1)


def joined(pieces: list[Piece], *, rest: int) -> Piece:
    """The pieces one after another, each at the beginning of a step, with `rest` steps of silence between."""
    notes, start = [], 0
    for piece in pieces:
        notes.append(piece.notes + np.array([start, start, 0, 0], np.int32))
        start += piece.steps + rest
    voices = max(piece.voices for piece in pieces)
    return replace(pieces[0], notes=in_order(np.concatenate(notes)), steps=max(1, start - rest), voices=voices)


def voice_names(count: int) -> tuple[str, ...]:
    """Names of the voices: those of a choir if there are four, else numbers from 1."""
    return NAMES if count == len(NAMES) else tuple(str(i + 1) for i in range(count))
