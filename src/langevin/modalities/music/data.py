"""A part of the scores, and the split into parts.

A source's own parts are kept. Otherwise a piece is held out if the hash of its content falls below `val_fraction`, so equal
pieces are always in the same part, and adding scores does not move others.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from langevin.modalities.modality import Progress
from langevin.modalities.music.piece import Piece
from langevin.modalities.music.sources import Read, read
from langevin.modalities.remarks import Remarks

MOST_VOICES = 8  # of scores that are read as voices


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """One part of the data: pieces in a fixed order.

    Args:
        voices: number of voices that every piece of all parts has, each of one note at a time; 0 if they differ.
        odd: what hinders that, in words.
        test: the source's own test part, held by the validation part.
    """

    pieces: tuple[Piece, ...] = field(repr=False)
    voices: int = 0
    odd: str = ""
    notes: Remarks = Remarks()
    test: "Scores | None" = None

    def __len__(self) -> int:
        return len(self.pieces)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the pieces, in hexadecimal."""
        digest = hashlib.sha256()
        for piece in self.pieces:
            digest.update(f"{piece.bar} {piece.upbeat} ".encode() + piece.content)
        return digest.hexdigest()


def load_parts(
    path: str, *, steps_per_quarter: int, val_fraction: float, progress: Progress | None = None
) -> tuple[Scores, Scores]:
    """The training and the validation part, neither empty.

    Raises:
        ValueError: nothing to read, too much broken, or too few pieces that differ."""
    found = read(path, steps_per_quarter=steps_per_quarter, progress=progress)
    train, held = found.pieces["train"], found.pieces["valid"]
    remarks = found.remarks
    if held:
        again = {piece.content for part in ("valid", "test") for piece in found.pieces[part]}
        kept = [piece for piece in train if piece.content not in again]
        if len(kept) < len(train):
            remarks.append(
                f"Pieces of the other parts in the training part, dropped from it: {len(train) - len(kept)}."
            )
        train = kept
    else:
        train, held = divided(train, val_fraction)
    if not train or not held:
        raise ValueError(
            f"{path} has too few pieces that differ for a training and a validation part: give two or more scores"
        )
    voices, odd = common_voices(found)
    notes = Remarks(remarks=tuple(remarks), broken=tuple(found.broken))
    scores = Scores(pieces=tuple(train), voices=voices, odd=odd, notes=notes)
    test = found.pieces["test"]
    own = replace(scores, pieces=tuple(test)) if test else None
    return scores, replace(scores, pieces=tuple(held), test=own)


def divided(pieces: Sequence[Piece], val_fraction: float) -> tuple[list[Piece], list[Piece]]:
    """(training, held-out) pieces by the hash of their content; of two that differ, one is held out at least."""
    place = {piece.content: int(hashlib.sha256(piece.content).hexdigest()[:13], 16) / 16**13 for piece in pieces}
    chosen = {content for content, u in place.items() if u < val_fraction}
    if not chosen and len(place) > 1:
        chosen = {min(place, key=lambda content: place[content])}
    if len(chosen) == len(place):
        chosen.discard(max(place, key=lambda content: place[content]))
    train = [piece for piece in pieces if piece.content not in chosen]
    return train, [piece for piece in pieces if piece.content in chosen]


def common_voices(found: Read) -> tuple[int, str]:
    """(number of voices that all pieces have, of one note at a time; what hinders that): 0 and words, or n and ""."""
    counts: dict[int, str] = {}
    for piece in (piece for part in found.pieces.values() for piece in part):
        counts.setdefault(piece.voices, piece.name)
        if not piece.monophonic:
            return 0, f"{piece.name} has a part of several notes at a time"
        if len(counts) > 1:
            (a, first), (b, second) = counts.items()
            return 0, f"{first} has {a} {'part' if a == 1 else 'parts'} and {second} has {b}"
    (count,) = counts
    return (count, "") if count <= MOST_VOICES else (0, f"there are {count} parts, more than {MOST_VOICES}")
