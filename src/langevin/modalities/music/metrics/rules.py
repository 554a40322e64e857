"""Rules of harmony, counted.

A chord is the set of pitch classes that sound in a step, counted from the lowest pitch; a transition is a step in which
some voice changes its pitch. The lowest pitch of a chord is its bass.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from langevin.modalities.music.codec import Range
from langevin.modalities.music.key import correlations, key_of
from langevin.modalities.music.piece import Piece, in_one_voice, states

LENGTHS = 32  # steps; longer notes count as this long
TONIC_TRIAD = sum(1 << interval for interval in (0, 3, 4, 7))


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """What pieces are compared with.

    Args:
        ranges: of each voice in training.
        chords: the usual chords of the training pieces, see `vocabulary`.
        lengths: distribution of the lengths of notes of the training pieces, (LENGTHS,).
    """

    ranges: tuple[Range, ...]
    chords: frozenset[int]
    lengths: np.ndarray


MEANING = {
    "parallels": "parallel fifths and octaves in 100 transitions: two voices a fifth or octave apart move in the same "
    "direction and are so again",
    "crossing": "share of the steps with two voices in which a voice is above the one over it",
    "out of range": "share of the notes outside the range of their voice in training",
    "leaps": "melodic intervals of more than an octave, in 100",
    "usual chords": "share of the chords, up to transposition, that are among those which make up 99 % of training",
    "key": "correlation with the best of 24 key profiles",
    "cadence": "share of the pieces that end on the tonic triad over its root, after a bass on the fifth or fourth degree",
    "repeated": "share of the notes that have the pitch of the note before them in their voice",
    "lengths": "total variation distance between the lengths of notes and those of training pieces",
}


def rules(pieces: Sequence[Piece], reference: Reference, *, voiced: bool, whole: bool = False) -> dict[str, float]:
    """The figures of `MEANING`; those of voices only if the pieces have these (`voiced`), cadences only of `whole` ones."""
    chords = [chords_of(piece) for piece in pieces]
    masks = np.concatenate([mask[changes(bass, mask)] for bass, mask in chords])
    figures = {
        "usual chords": float(np.isin(masks, list(reference.chords)).mean()) if len(masks) else 0.0,
        "key": float(np.mean([correlations(piece).max() for piece in pieces])),
        **({"cadence": float(np.mean([cadence(piece) for piece in pieces]))} if whole else {}),
        "lengths": float(np.abs(lengths(pieces) - reference.lengths).sum() / 2),
    }
    return {**(_voiced(pieces, reference) if voiced else {}), **figures}


def _voiced(pieces: Sequence[Piece], reference: Reference) -> dict[str, float]:
    pitches = [piece.states()[0].astype(int) for piece in pieces]
    found = np.sum([[*parallels(pitch), *crossing(pitch)] for pitch in pitches], 0)
    notes = np.concatenate([piece.notes for piece in pieces])
    low, high = (np.array([span[end] for span in reference.ranges])[notes[:, 3]] for end in (0, 1))
    intervals = np.concatenate([melodic(piece) for piece in pieces])
    return {
        "parallels": 100 * found[0] / max(1, found[1]),
        "crossing": found[2] / max(1, found[3]),
        "out of range": float(((notes[:, 2] < low) | (notes[:, 2] > high)).mean()) if len(notes) else 0.0,
        "leaps": 100 * float((np.abs(intervals) > 12).mean()) if len(intervals) else 0.0,
        "repeated": float((intervals == 0).mean()) if len(intervals) else 0.0,
    }


def parallels(pitch: np.ndarray) -> tuple[int, int]:
    """(parallel fifths and octaves, transitions) of pitches (steps, voices), -1 for silence."""
    before, after = pitch[:-1], pitch[1:]
    moved = (before != after).any(1)
    count = 0
    for upper in range(pitch.shape[1]):
        for lower in range(upper + 1, pitch.shape[1]):
            sounding = (before[:, [upper, lower]] >= 0).all(1) & (after[:, [upper, lower]] >= 0).all(1)
            steps = after[:, [upper, lower]] - before[:, [upper, lower]]
            together = sounding & (steps[:, 0] * steps[:, 1] > 0)
            intervals = [(part[:, upper] - part[:, lower]) % 12 for part in (before, after)]
            count += sum(int((together & (intervals[0] == k) & (intervals[1] == k)).sum()) for k in (0, 7))
    return count, int(moved.sum())


def crossing(pitch: np.ndarray) -> tuple[int, int]:
    """(steps in which neighbouring voices cross, steps with two voices or more)."""
    sounding = (pitch >= 0).sum(1) > 1
    both = (pitch[:, :-1] >= 0) & (pitch[:, 1:] >= 0)
    return int((both & (pitch[:, :-1] < pitch[:, 1:])).any(1).sum()), int(sounding.sum())


def melodic(piece: Piece) -> np.ndarray:
    """The intervals between a note and the next one of its voice."""
    order = piece.notes[np.lexsort((piece.notes[:, 0], piece.notes[:, 3]))]
    return np.diff(order[:, 2])[order[1:, 3] == order[:-1, 3]]


def chords_of(piece: Piece) -> tuple[np.ndarray, np.ndarray]:
    """(lowest pitch or -1, chord as a set of bits) of every step."""
    notes = in_one_voice(piece).notes
    sounding = states(notes, notes[:, 2], piece.steps, 128)[0] >= 0
    bass = np.where(sounding.any(1), sounding.argmax(1), -1)
    classes = np.stack([sounding[:, k::12].any(1) for k in range(12)], 1)
    turned = classes[np.arange(len(bass))[:, None], (bass[:, None] + np.arange(12)) % 12]
    return bass, np.where(bass >= 0, turned @ (1 << np.arange(12)), 0)


def changes(bass: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The steps in which a new chord sounds, first one included."""
    same = (bass[1:] == bass[:-1]) & (mask[1:] == mask[:-1])
    return np.flatnonzero(np.concatenate([[True], ~same]) & (bass >= 0))


def cadence(piece: Piece) -> bool:
    """Whether a piece ends on the tonic triad over its root, after a bass on the fifth or the fourth degree."""
    bass, mask = chords_of(piece)
    new = changes(bass, mask)
    if not len(new):
        return False
    tonic, last = key_of(piece) % 12, new[-1]
    if bass[last] % 12 != tonic or mask[last] & ~TONIC_TRIAD:
        return False
    others = [step for step in new if bass[step] % 12 != tonic]
    return bool(others) and (bass[others[-1]] - tonic) % 12 in (5, 7)


def vocabulary(pieces: Sequence[Piece], *, share: float = 0.99) -> frozenset[int]:
    """The fewest chords, the most frequent ones, that make up a share of the chords of the pieces."""
    chords = [chords_of(piece) for piece in pieces]
    kinds, counts = np.unique(np.concatenate([mask[changes(bass, mask)] for bass, mask in chords]), return_counts=True)
    order = np.argsort(-counts, kind="stable")
    enough = int(np.searchsorted(counts[order].cumsum(), share * counts.sum())) + 1
    return frozenset(kinds[order[:enough]].tolist())


def lengths(pieces: Sequence[Piece]) -> np.ndarray:
    """The distribution of the lengths of notes, (LENGTHS,) for 1, 2, ... steps."""
    steps = np.concatenate([piece.notes[:, 1] - piece.notes[:, 0] for piece in pieces]).clip(1, LENGTHS)
    return np.bincount(steps - 1, minlength=LENGTHS) / max(1, len(steps))
