"""How well holes are filled: the error, and whether the spread of the answers is what it claims to be."""

from dataclasses import dataclass

import numpy as np

from langevin.modalities.table.data import TableSet
from langevin.modalities.table.metrics import modelled

LEVEL = 0.9  # of the intervals
FEWEST = 19  # draws that have such an interval


@dataclass(frozen=True, kw_only=True)
class Filling:
    """Holes that were filled.

    Args:
        rmse: of the mean of the answers, in standard deviations of each column; None without numbers.
        one_rmse: of a single answer.
        coverage: share of hidden numbers within the central interval of the answers: `LEVEL` if these are drawn from the
            true distribution, more where values repeat.
        width: of that interval, in standard deviations.
        accuracy: share of categories whose likeliest answer is right; None without categories.
        log_score: mean logarithm of the share of answers that are the hidden category, with one more of each; in nats.
    """

    rmse: float | None
    one_rmse: float | None
    coverage: float | None
    width: float | None
    accuracy: float | None
    log_score: float | None


def hide(table: TableSet, share: float, seed: int) -> np.ndarray:
    """(n, columns) bool: cells with a value that are hidden, at random."""
    generator = np.random.default_rng(seed)
    mask = generator.random((len(table), len(table.columns))) < share
    for i, column in enumerate(table.columns):
        mask[:, i] &= table.there(i) & column.modelled
    return mask


def without(table: TableSet, hidden: np.ndarray) -> TableSet:
    """The table with cells missing."""
    values = tuple(
        np.where(hidden[:, i], -1 if v.dtype == np.int64 else np.nan, v).astype(v.dtype)
        for i, v in enumerate(table.values)
    )
    return TableSet(columns=table.columns, values=values, dialect=table.dialect)


def score(truth: TableSet, hidden: np.ndarray, draws: list[tuple[np.ndarray, ...]]) -> Filling:
    """The scores of m answers, each with the values of all columns; intervals need `FEWEST` or more."""
    errors, single, inside, widths, right, logs = (list[np.ndarray]() for _ in range(6))
    for i in modelled(truth):
        at = hidden[:, i]
        if not at.any():
            continue
        real, given = truth.values[i][at], np.stack([answer[i][at] for answer in draws])
        if truth.columns[i].kind == "category":
            counts = np.stack([(given == code).sum(0) for code in range(len(truth.columns[i].categories))])
            right.append(counts.argmax(0) == real)
            logs.append(np.log((counts[real, np.arange(len(real))] + 1) / (len(given) + len(counts))))
            continue
        scale = max(float(truth.values[i][truth.there(i)].std()), 1e-12)
        errors.append((given.mean(0) - real) / scale)
        single.append((given[0] - real) / scale)
        if len(given) >= FEWEST:
            ends = [0.5 - LEVEL / 2, 0.5 + LEVEL / 2]
            low, high = np.quantile(
                given, ends, axis=0, method="weibull"
            )  # holds one more draw with LEVEL, for any number
            inside.append((real >= low) & (real <= high))
            widths.append((high - low) / scale)

    def mean(parts: list[np.ndarray]) -> float | None:
        return float(np.concatenate(parts).mean()) if parts else None

    def root(parts: list[np.ndarray]) -> float | None:
        return float(np.sqrt((np.concatenate(parts) ** 2).mean())) if parts else None

    return Filling(
        rmse=root(errors), one_rmse=root(single), coverage=mean(inside), width=mean(widths), accuracy=mean(right),
        log_score=mean(logs),
    )  # fmt: skip
