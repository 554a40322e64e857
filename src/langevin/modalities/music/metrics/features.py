"""Features of a piece, to tell sets of pieces apart: a distance, and the accuracy of a classifier.

Neither sees the order of the music beyond two chords; the bound and the listener do.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from langevin.modalities.music.metrics.rules import changes, chords_of, melodic
from langevin.modalities.music.piece import Piece

FOLDS, RIDGE, NEWTON = 5, 1.0, 12
Histogram = Callable[[Piece], Counter[object]]


def chord_counts(piece: Piece) -> Counter[object]:
    """Chords, up to transposition."""
    bass, mask = chords_of(piece)
    return Counter(mask[changes(bass, mask)].tolist())


def progressions(piece: Piece) -> Counter[object]:
    """Pairs of a chord and the next, up to transposition."""
    bass, mask = chords_of(piece)
    new = changes(bass, mask)
    moves = (np.diff(bass[new]) % 12).tolist()
    return Counter(zip(mask[new][:-1].tolist(), moves, mask[new][1:].tolist(), strict=True))


def length_counts(piece: Piece) -> Counter[object]:
    """Lengths of notes in steps."""
    return Counter((piece.notes[:, 1] - piece.notes[:, 0]).clip(max=32).tolist())


def interval_counts(piece: Piece) -> Counter[object]:
    """Melodic intervals in semitones; of a piece without voices, from one note to the next."""
    return Counter(melodic(piece).clip(-13, 13).tolist())


HISTOGRAMS: tuple[Histogram, ...] = (chord_counts, progressions, length_counts, interval_counts)


def distance(pieces: Sequence[Piece], others: Sequence[Piece]) -> float:
    """The mean over `HISTOGRAMS` of the total variation distance between two sets of pieces, in [0, 1]."""
    return float(np.mean([_variation(_summed(count, pieces), _summed(count, others)) for count in HISTOGRAMS]))


def _summed(count: Histogram, pieces: Sequence[Piece]) -> Counter[object]:
    return sum((count(piece) for piece in pieces), Counter())


def _variation(one: Counter[object], two: Counter[object]) -> float:
    n, m = (max(1, counts.total()) for counts in (one, two))
    return sum(abs(one[name] / n - two[name] / m) for name in one.keys() | two.keys()) / 2


def vector(piece: Piece, known: frozenset[object]) -> np.ndarray:
    """Features of one piece; `known` are progressions of training pieces."""
    bass, mask = chords_of(piece)
    new, length = changes(bass, mask), np.diff(piece.notes[:, :2], axis=1)[:, 0].clip(1, 8)
    classes = np.array([((mask >> k) & 1).mean() for k in range(12)])
    intervals = np.abs(melodic(piece)).clip(max=13)
    moves = np.bincount(np.diff(bass[new]) % 12, minlength=12)[:12]
    pairs = progressions(piece)
    shares = [
        np.bincount(values, minlength=size)[:size] / max(1, len(values))
        for values, size in ((length, 9), (intervals, 14), (piece.notes[:, 0] % 4, 4), (new % 4, 4))
    ]
    rates = [len(piece.notes) / max(1, piece.steps), len(new) / max(1, piece.steps), len(set(mask.tolist())) / 32]
    seen = sum(count for name, count in pairs.items() if name in known) / max(1, pairs.total())
    return np.concatenate([classes, moves / max(1, len(new)), *shares, rates, [seen]])


def accuracy(one: np.ndarray, two: np.ndarray, *, seed: int = 0) -> float:
    """Cross-validated accuracy of a logistic regression that tells features (n, d) from (m, d): 1/2 if they are alike.

    Both sets count equally, whatever their sizes. The weights maximise the likelihood with a ridge penalty, by Newton's
    method, of features that are standardised on the training folds.

    Raises:
        ValueError: fewer than five samples in a set."""
    if min(len(one), len(two)) < FOLDS:
        raise ValueError(f"a two-sample classifier needs {FOLDS} pieces in each set, got {len(one)} and {len(two)}")
    generator = np.random.default_rng(seed)
    folds = [generator.permutation(np.arange(len(part)) % FOLDS) for part in (one, two)]
    right = np.zeros(2)
    for k in range(FOLDS):
        train = [part[fold != k] for part, fold in zip((one, two), folds, strict=True)]
        weights, shift, scale = _fit(*train)
        for i, (part, fold) in enumerate(zip((one, two), folds, strict=True)):
            logit = _padded((part[fold == k] - shift) / scale) @ weights
            right[i] += ((logit > 0) == bool(i)).sum()
    return float((right / [len(one), len(two)]).mean())


def _fit(one: np.ndarray, two: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(weights, mean, standard deviation) of a logistic regression: positive for the second set."""
    both = np.concatenate([one, two])
    shift, scale = both.mean(0), both.std(0) + 1e-6
    x, y = _padded((both - shift) / scale), np.repeat([0.0, 1.0], [len(one), len(two)])
    sample_weight = np.repeat([0.5 / len(one), 0.5 / len(two)], [len(one), len(two)]) * len(both)
    weights, penalty = np.zeros(x.shape[1]), RIDGE * np.eye(x.shape[1])
    penalty[-1, -1] = 1e-6  # of the bias
    for _ in range(NEWTON):
        p = 1 / (1 + np.exp(-(x @ weights).clip(-30, 30)))
        gradient = x.T @ (sample_weight * (p - y)) + penalty @ weights
        hessian = (x.T * (sample_weight * p * (1 - p))) @ x + penalty
        weights = weights - np.linalg.solve(hessian, gradient)
    return weights, shift, scale


def _padded(x: np.ndarray) -> np.ndarray:
    return np.pad(x, ((0, 0), (0, 1)), constant_values=1.0)
