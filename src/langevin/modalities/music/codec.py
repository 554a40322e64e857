"""Codecs between a piece and tokens of (steps, streams): monophonic voices, or a piano roll.

    voices      a stream per voice; token 0 rest, 1 .. P a pitch of the range that is struck, P + 1 .. 2 P one that is held
    piano_roll  a stream per pitch of the range; token 0 off, 1 held, 2 struck

Decoding is total: a held pitch that nothing precedes is struck. Of a piece whose pitches are in the range nothing is lost;
pitches outside it are moved by octaves.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from langevin.modalities.music.data import Scores
from langevin.modalities.music.piece import Piece, in_one_voice, notes_of, states

Range = tuple[int, int]  # lowest and highest pitch


@dataclass(frozen=True, kw_only=True)
class Voices:
    """Voices of one note at a time.

    Args:
        ranges: lowest and highest pitch of each voice; fitted to the training data.
    """

    kind: Literal["voices"] = "voices"
    ranges: tuple[Range, ...] = ()

    def __post_init__(self) -> None:
        _require_ranges(self.ranges)

    @property
    def streams(self) -> int:
        """Tokens per step."""
        return len(self.ranges)

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        return 1 + 2 * self._pitches

    @property
    def low(self) -> int:
        """The lowest pitch of any voice."""
        return min(low for low, _ in self.ranges)

    @property
    def _pitches(self) -> int:
        return max(high for _, high in self.ranges) - self.low + 1

    @property
    def pitches(self) -> Tensor:
        """The pitch of each token, (vocab_size,) int64; -1 for the rest."""
        pitches = self.low + torch.arange(self._pitches)
        return torch.cat([torch.tensor([-1]), pitches, pitches])

    def fitted(self, scores: Scores) -> "Voices":
        """With the ranges of the voices.

        Raises:
            ValueError: the pieces do not have the same voices."""
        if not scores.voices:
            raise ValueError(
                f"data.codec.kind=voices needs pieces of the same voices, and {scores.odd}: use data.codec.kind=piano_roll"
            )
        notes = np.concatenate([piece.notes for piece in scores.pieces])
        ranges = [range_of(notes[notes[:, 3] == voice, 2]) for voice in range(scores.voices)]
        return replace(self, ranges=tuple(ranges))

    def encode(self, piece: Piece) -> Tensor:
        """(steps, voices) tokens, int16.

        Raises:
            ValueError: the piece has other voices."""
        if piece.voices != self.streams or not piece.monophonic:
            raise ValueError(f"{piece.name or 'the piece'} does not have {self.streams} voices of one note at a time")
        pitch, struck = states(within(piece.notes, self.low, self.low + self._pitches - 1), piece.notes[:, 3], piece.steps,
                               piece.voices)  # fmt: skip
        tokens = np.where(pitch < 0, 0, 1 + pitch - self.low + np.where(struck, 0, self._pitches))
        return torch.from_numpy(tokens.astype(np.int16))

    def transposed(self, tokens: Tensor, semitones: int) -> Tensor:
        """The tokens of the piece moved by semitones that `room` allows."""
        return torch.where(tokens > 0, tokens + semitones, 0)

    def room(self, piece: Piece) -> Range:
        """The fewest and the most semitones by which every voice of the piece can be moved within its range, around 0."""
        voices, notes = range(self.streams), piece.notes
        used = [(range_of(notes[notes[:, 3] == v, 2]), self.ranges[v]) for v in voices if (notes[:, 3] == v).any()]
        return _room(used)

    def decode(self, tokens: Tensor) -> Piece:
        """The piece of (steps, voices) tokens.

        Raises:
            ValueError: there is a token outside the vocabulary."""
        values = _checked(tokens, self.vocab_size)
        pitch = np.where(values > 0, self.low + (values - 1) % self._pitches, -1)
        struck = (values > 0) & (values <= self._pitches)
        notes = notes_of(pitch, struck, np.arange(self.streams))
        return Piece(notes=notes, steps=len(values), voices=self.streams)

    def plain(self, piece: Piece) -> Piece:
        """The piece as this codec holds it."""
        return piece

    def given(self, piece: Piece, voices: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """(tokens, which of them are known), (steps, streams) each, where only `voices` of the piece are given."""
        known = torch.zeros(piece.steps, self.streams, dtype=torch.bool)
        known[:, list(voices)] = True
        return self.encode(piece), known


@dataclass(frozen=True, kw_only=True)
class PianoRoll:
    """A stream per pitch; the voices of a piece are not kept.

    Args:
        range: lowest and highest pitch; fitted to the training data.
    """

    kind: Literal["piano_roll"] = "piano_roll"
    range: Range | None = None

    def __post_init__(self) -> None:
        _require_ranges((self.range,) if self.range else ())

    @property
    def streams(self) -> int:
        """Tokens per step."""
        return self._high - self.low + 1

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        return 3

    @property
    def low(self) -> int:
        """The lowest pitch."""
        assert self.range is not None, "the codec of a run is fitted"
        return self.range[0]

    @property
    def _high(self) -> int:
        assert self.range is not None, "the codec of a run is fitted"
        return self.range[1]

    @property
    def ranges(self) -> tuple[Range, ...]:
        """The range, as of one voice."""
        return () if self.range is None else (self.range,)

    def fitted(self, scores: Scores) -> "PianoRoll":
        """With the range of the pitches."""
        return replace(self, range=range_of(np.concatenate([piece.notes[:, 2] for piece in scores.pieces])))

    def encode(self, piece: Piece) -> Tensor:
        """(steps, pitches) tokens, uint8."""
        notes = in_one_voice(replace(piece, notes=within(piece.notes, self.low, self._high))).notes
        pitch, struck = states(notes, notes[:, 2] - self.low, piece.steps, self.streams)
        return torch.from_numpy(((pitch >= 0).astype(np.uint8) + struck).astype(np.uint8))

    def transposed(self, tokens: Tensor, semitones: int) -> Tensor:
        """The tokens of the piece moved by semitones that `room` allows."""
        return tokens.roll(semitones, -1)

    def room(self, piece: Piece) -> Range:
        """The fewest and the most semitones by which the piece can be moved within the range, around 0."""
        return _room([(range_of(piece.notes[:, 2]), self.ranges[0])])

    def decode(self, tokens: Tensor) -> Piece:
        """The piece of (steps, pitches) tokens.

        Raises:
            ValueError: there is a token outside the vocabulary."""
        values = _checked(tokens, self.vocab_size)
        pitch = np.where(values > 0, self.low + np.arange(self.streams), -1)
        notes = notes_of(pitch, values == 2, np.zeros(self.streams, int))
        return Piece(notes=notes, steps=len(values))

    def plain(self, piece: Piece) -> Piece:
        """The piece as this codec holds it: without its voices."""
        return in_one_voice(piece)

    def given(self, piece: Piece, voices: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """(tokens, which of them are known), (steps, streams) each: the highest pitch of a step, and silence above."""
        tokens = self.encode(piece)
        sounding = tokens > 0
        above = sounding.flip(1).cumsum(1).flip(1)  # pitches that sound at this one or above it
        highest = sounding & (above == 1)
        known = (above == 0) & sounding.any(1, keepdim=True) | highest
        return torch.where(known, tokens, 0), known


AnyCodec = Voices | PianoRoll


def range_of(pitches: np.ndarray) -> Range:
    """The lowest and the highest of the pitches; those of a silent voice are the middle C."""
    return (int(pitches.min()), int(pitches.max())) if len(pitches) else (60, 60)


def within(notes: np.ndarray, low: int, high: int) -> np.ndarray:
    """The notes with pitches outside low .. high moved by octaves into it, or to its end where it is narrower."""
    pitch = notes[:, 2].astype(int)
    pitch = np.where(pitch < low, low + (pitch - low) % 12, np.where(pitch > high, high - (high - pitch) % 12, pitch))
    moved = notes.copy()
    moved[:, 2] = pitch.clip(low, high)
    return moved


def outside(piece: Piece, codec: AnyCodec) -> int:
    """Notes of the piece whose pitch the codec cannot hold."""
    low, high = codec.low, max(high for _, high in codec.ranges)
    return int(((piece.notes[:, 2] < low) | (piece.notes[:, 2] > high)).sum())


def _room(used: list[tuple[Range, Range]]) -> Range:
    """Semitones that keep each (lowest, highest) used within its range; (0, 0) if it is not within it now."""
    down = max((allowed[0] - low for (low, _), allowed in used), default=0)
    up = min((allowed[1] - high for (_, high), allowed in used), default=0)
    return (down, up) if down <= 0 <= up else (0, 0)


def _require_ranges(ranges: tuple[Range, ...]) -> None:
    if len(ranges) > 128 or any(not 0 <= low <= high <= 127 for low, high in ranges):
        raise ValueError(f"data.codec has ranges of MIDI pitches, 0 to 127, lowest first; got {str(ranges)[:80]}")


def _checked(tokens: Tensor, vocab_size: int) -> np.ndarray:
    if tokens.is_floating_point() or bool(((tokens < 0) | (tokens >= vocab_size)).any()):
        raise ValueError(f"tokens of a piece are 0 to {vocab_size - 1}, got {tokens.min()} to {tokens.max()}")
    return tokens.cpu().numpy().astype(np.int64)
