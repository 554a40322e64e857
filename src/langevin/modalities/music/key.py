"""The key of a piece: the profile that correlates best with how long each pitch class sounds.

The 24 profiles are the 12 rotations of two ratings of how well each pitch class fits, after a major and after a minor
context (Krumhansl and Kessler, "Tracing the dynamic changes in perceived tonal organization in a spatial representation of
musical keys", 1982). Keys are numbered tonic + 12 for minor, tonics from C = 0.
"""

import re

import numpy as np

from langevin.modalities.music.piece import Piece

MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)
PROFILES = np.array([np.roll(profile, tonic) for profile in (MAJOR, MINOR) for tonic in range(12)])
TONICS = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
KEYS = tuple(f"{tonic} {mode}" for mode in ("major", "minor") for tonic in TONICS)
_LETTERS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


def correlations(piece: Piece) -> np.ndarray:
    """(24,) correlations of the profiles with the durations of the pitch classes; 0 where these are all equal."""
    notes = piece.notes
    durations = np.bincount(notes[:, 2] % 12, weights=notes[:, 1] - notes[:, 0], minlength=12)
    centred = durations - durations.mean()
    profiles = PROFILES - PROFILES.mean(1, keepdims=True)
    scale = np.linalg.norm(profiles, axis=1) * np.linalg.norm(centred)
    return profiles @ centred / np.where(scale > 0, scale, 1.0)


def key_of(piece: Piece) -> int:
    """The key whose profile correlates best."""
    return int(correlations(piece).argmax())


def transposed(key: int, semitones: int) -> int:
    """The key after a transposition."""
    return key // 12 * 12 + (key + semitones) % 12


def parse(text: str) -> int:
    """The number of a key by its name: "G major", "f# minor", "Bb", "am".

    Raises:
        ValueError: it is none."""
    found = re.fullmatch(r"\s*([A-Ga-g])(#|b|sharp|flat)?[\s-]*(major|maj|minor|min|m)?\s*", text)
    if found is None:
        raise ValueError(f"--key {text!r} is no key: name one such as 'G major', 'Bb major' or 'F# minor'")
    letter, sign, mode = found.groups()
    tonic = (_LETTERS[letter.upper()] + {"#": 1, "sharp": 1, "b": -1, "flat": -1}.get(sign, 0)) % 12
    return tonic + 12 * (mode in ("minor", "min", "m"))
