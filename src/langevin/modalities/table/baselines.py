"""What rules of ten lines do: samples from a Gaussian copula and from independent columns; holes filled by the mean or the
mode, and by the cells of the most similar sample."""

import numpy as np
import torch

from langevin.modalities.table.codec import normal, value
from langevin.modalities.table.columns import Column
from langevin.modalities.table.data import TableSet
from langevin.modalities.table.metrics import coordinates, modelled


def independent(train: TableSet, count: int, seed: int = 0) -> TableSet:
    """Each column drawn from the training data alone."""
    generator = np.random.default_rng(seed)
    index = [generator.integers(0, len(train), count) for _ in train.columns]
    whole = train.select(np.arange(count) % len(train))
    values = tuple(values[at] for values, at in zip(train.values, index))
    return TableSet(columns=whole.columns, values=values, dialect=train.dialect)


def gaussian_copula(columns: tuple[Column, ...], train: TableSet, count: int, seed: int = 0) -> TableSet:
    """Samples from a normal distribution with the correlations of the data, each column mapped to its distribution.

    Categories are ordered by frequency, a missing cell last; the codes of a column share its interval of probabilities."""
    generator = np.random.default_rng(seed)
    used = modelled(train)
    scores = np.stack([_scores(columns[i], train, i, generator) for i in used], 1)
    correlation = np.corrcoef(scores.T) if len(used) > 1 else np.ones((1, 1))
    root = np.linalg.cholesky(correlation + 1e-6 * np.eye(len(used)))
    z = generator.normal(size=(count, len(used))) @ root.T
    values = [np.zeros(count) for _ in columns]
    for position, i in enumerate(used):
        values[i] = _values(columns[i], train, i, z[:, position])
    return TableSet(columns=train.columns, values=tuple(values), dialect=train.dialect)


def _scores(column: Column, train: TableSet, i: int, generator: np.random.Generator) -> np.ndarray:
    """Normal scores of a column."""
    there, u = train.there(i), generator.random(len(train))
    share = there.mean()
    if column.kind == "category":
        edges = np.concatenate([[0], np.cumsum(column.frequencies)]) * share
        codes = np.where(there, train.values[i], len(column.frequencies) - 1)
        q = edges[codes] + u * (edges[codes + 1] - edges[codes])
    else:
        z = np.zeros(len(train))
        z[there] = normal(column, train.values[i][there], u[there])
        q = share * torch.special.ndtr(torch.from_numpy(z)).numpy()
    q = np.where(there, q, share + u * (1 - share))
    return torch.special.ndtri(torch.from_numpy(q.clip(1e-6, 1 - 1e-6))).numpy()


def _values(column: Column, train: TableSet, i: int, z: np.ndarray) -> np.ndarray:
    """The values of a column with these normal scores."""
    share = train.there(i).mean()
    q = torch.special.ndtr(torch.from_numpy(z)).numpy()
    gone = q > share
    inner = (q / share).clip(1e-6, 1 - 1e-6)
    if column.kind == "category":
        codes = np.searchsorted(np.cumsum(column.frequencies), inner).clip(0, len(column.frequencies) - 1)
        return np.where(gone, -1, codes).astype(np.int64)
    return np.where(gone, np.nan, value(column, torch.special.ndtri(torch.from_numpy(inner)).numpy()))


def mean_or_mode(train: TableSet, hidden: TableSet) -> tuple[np.ndarray, ...]:
    """The mean of numbers and the mode of categories, for each sample."""
    found = list[np.ndarray]()
    for i, column in enumerate(train.columns):
        known = train.values[i][train.there(i)] if column.modelled else np.zeros(1)
        middle = np.bincount(known).argmax() if column.kind == "category" else known.mean()
        found.append(np.full(len(hidden), middle, dtype=train.values[i].dtype))
    return tuple(found)


def hot_deck(train: TableSet, hidden: TableSet) -> tuple[np.ndarray, ...]:
    """The cells of the training sample that is nearest in the cells that are seen; the mean or mode where that has none."""
    points, donors = coordinates(hidden, train), coordinates(train, train)
    sizes = [len(c.categories) + 1 if c.kind == "category" else 2 for c in train.columns if c.modelled]
    seen = np.repeat(np.stack([hidden.there(i) for i in modelled(train)], 1), sizes, axis=1).astype(float)
    distance = seen @ (donors**2).T - 2 * (seen * points) @ donors.T  # but for what is the same for all donors
    near = distance.argmin(1)
    middle = mean_or_mode(train, hidden)
    return tuple(
        np.where(train.there(i)[near], train.values[i][near], middle[i]) if c.modelled else middle[i]
        for i, c in enumerate(train.columns)
    )
