"""How near generated samples of a table are to real ones. All take `TableSet`s of the same columns.

- Marginals: for each column the Kolmogorov-Smirnov distance of numbers, the total variation of categories, with missing
  cells as one more value; the mean over columns.
- Associations of pairs: rank correlation of two numbers, Cramer's V of two categories, the correlation ratio of one and the
  other; the mean absolute difference.
- Two-sample test: the area under the ROC curve of boosted trees that tell generated from real samples, cross-fitted; 0.5
  if they cannot ("Revisiting Classifier Two-Sample Tests", 2016, arXiv:1610.06545).
- Train on generated, test on real samples, beside train on real.
- Distance to the closest record: the share of samples that are nearer to a part of the training data than to as many
  held-out samples; 0.5 if nothing was learned by heart.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from langevin.extras import require
from langevin.modalities.table.columns import Column
from langevin.modalities.table.data import TableSet

BINS = 20  # of a number, for its association with a category
ROWS = 6000  # samples of each kind that a classifier is given, at most
NEAR = 2000  # samples whose neighbours are looked for, at most
FOLDS = 4


def numbers_of(table: TableSet, column: int) -> np.ndarray:
    """The values of a column that are there."""
    return table.values[column][table.there(column)]


def modelled(table: TableSet) -> list[int]:
    """The indices of the columns that are generated."""
    return [i for i, column in enumerate(table.columns) if column.modelled]


def shares(column: Column, values: np.ndarray) -> np.ndarray:
    """The shares of the categories of codes, the last one of missing cells."""
    size = len(column.categories)
    return np.bincount(np.where(values < 0, size, values), minlength=size + 1) / max(1, len(values))


def marginal_distance(real: TableSet, fake: TableSet, column: int) -> float:
    """The distance of one column, in [0, 1]."""
    about = real.columns[column]
    if about.kind == "category":
        return float(0.5 * np.abs(shares(about, real.values[column]) - shares(about, fake.values[column])).sum())
    a, b = np.sort(numbers_of(real, column)), np.sort(numbers_of(fake, column))
    gone = abs(real.there(column).mean() - fake.there(column).mean())
    if not len(a) or not len(b):
        return float(max(gone, 1.0 if len(a) != len(b) else 0.0))
    at = np.concatenate([a, b])
    ks = np.abs(np.searchsorted(a, at, "right") / len(a) - np.searchsorted(b, at, "right") / len(b)).max()
    return float(max(ks, gone))


def marginals(real: TableSet, fake: TableSet) -> float:
    """The mean distance of all columns."""
    return float(np.mean([marginal_distance(real, fake, i) for i in modelled(real)]))


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks in [0, 1], equal ones averaged."""
    order, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    del order
    ends = counts.cumsum()
    return ((ends - 0.5 * counts) / max(1, len(values)))[inverse]


def association(table: TableSet, i: int, j: int) -> float:
    """The association of two columns where both have values: in [-1, 1] of two numbers, else in [0, 1]."""
    both = table.there(i) & table.there(j)
    if both.sum() < 3:
        return 0.0
    kinds = [table.columns[k].continuous for k in (i, j)]
    a, b = table.values[i][both], table.values[j][both]
    if all(kinds):
        x, y = ranks(a) - 0.5, ranks(b) - 0.5
        scale = float(np.sqrt((x * x).sum() * (y * y).sum()))
        return float((x * y).sum() / scale) if scale > 0 else 0.0
    if not any(kinds):
        return cramers_v(a, b)
    numbers, codes = (ranks(a), b) if kinds[0] else (ranks(b), a)
    means, total = numbers.mean(), numbers.var()
    counts = np.bincount(codes)
    sums = np.bincount(codes, weights=numbers)
    between = (counts * (np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0) - means) ** 2)[
        counts > 0
    ].sum()
    return float(np.sqrt(between / len(numbers) / total)) if total > 0 else 0.0


def cramers_v(a: np.ndarray, b: np.ndarray) -> float:
    """Cramer's V of two columns of codes."""
    _, a = np.unique(a, return_inverse=True)
    _, b = np.unique(b, return_inverse=True)
    rows, columns = a.max() + 1, b.max() + 1
    if min(rows, columns) < 2:
        return 0.0
    table = np.bincount(a * columns + b, minlength=rows * columns).reshape(rows, columns).astype(float)
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / table.sum()
    chi_square = ((table - expected) ** 2 / expected).sum()
    return float(np.sqrt(chi_square / table.sum() / (min(rows, columns) - 1)))


def pairs(real: TableSet, fake: TableSet) -> float | None:
    """The mean absolute difference of the associations of all pairs; None for a single column."""
    columns = modelled(real)
    differences = [
        abs(association(real, i, j) - association(fake, i, j)) for k, i in enumerate(columns) for j in columns[:k]
    ]
    return float(np.mean(differences)) if differences else None


# ----------------------------------------------------------------------------------------------------------- classifiers


def features(table: TableSet, without: int | None = None) -> tuple[np.ndarray, list[bool]]:
    """(n, columns) float64 with NaN for missing cells, and which columns are categories (up to 255 values)."""
    chosen = [i for i in modelled(table) if i != without]
    parts = [np.where(table.there(i), table.values[i].astype(float), np.nan) for i in chosen]
    return np.stack(parts, 1), [
        table.columns[i].kind == "category" and len(table.columns[i].categories) < 250 for i in chosen
    ]


def boosted(kind: str, categorical: Sequence[bool], seed: int) -> Any:
    """Boosted trees, a classifier or a regressor."""
    ensemble = require("sklearn.ensemble", "Evaluation of tables")
    maker = ensemble.HistGradientBoostingClassifier if kind == "classifier" else ensemble.HistGradientBoostingRegressor
    return maker(
        max_iter=100, learning_rate=0.1, max_leaf_nodes=15, categorical_features=list(categorical), random_state=seed,
        early_stopping=False,
    )  # fmt: skip


def two_sample(real: TableSet, fake: TableSet, seed: int = 0) -> float:
    """The cross-fitted area under the ROC curve, of as many samples of each kind."""
    selection = require("sklearn.model_selection", "Evaluation of tables")
    scores = require("sklearn.metrics", "Evaluation of tables")
    count = min(len(real), len(fake), ROWS)
    (a, categorical), (b, _) = features(some_of(real, count, seed)), features(some_of(fake, count, seed + 1))
    x, y = np.concatenate([a, b]), np.repeat([0, 1], count)
    folds = selection.StratifiedKFold(min(FOLDS, count), shuffle=True, random_state=seed)
    predicted = selection.cross_val_predict(
        boosted("classifier", categorical, seed), x, y, cv=folds, method="predict_proba"
    )[:, 1]
    return float(scores.roc_auc_score(y, predicted))


def some_of(table: TableSet, count: int, seed: int) -> TableSet:
    """`count` samples, drawn without replacement."""
    if count >= len(table):
        return table
    return table.select(np.sort(np.random.default_rng(seed).permutation(len(table))[:count]))


def predictable(table: TableSet) -> list[int]:
    """The columns that can be a target: categories of up to 50 values, or numbers, that mostly have a value."""
    return [
        i for i in modelled(table)
        if table.there(i).mean() > 0.5 and (table.columns[i].continuous or 2 <= len(table.columns[i].categories) <= 50)
    ]  # fmt: skip


def utility(train: TableSet, test: TableSet, target: int, seed: int = 0) -> float:
    """How well trees trained on `train` predict a column of `test`: the accuracy for categories, R^2 for numbers."""
    train = train.select(np.flatnonzero(train.there(target)))
    test = test.select(np.flatnonzero(test.there(target)))
    train = some_of(train, 2 * ROWS, seed)
    (x, categorical), (x_test, _) = features(train, target), features(test, target)
    y, truth = train.values[target], test.values[target]
    if train.columns[target].kind == "category":
        if len(np.unique(y)) < 2:
            return float((truth == y[0]).mean()) if len(y) else 0.0
        return float((boosted("classifier", categorical, seed).fit(x, y).predict(x_test) == truth).mean())
    guess = boosted("regressor", categorical, seed).fit(x, y).predict(x_test)
    return float(1 - ((guess - truth) ** 2).mean() / max(truth.var(), 1e-30))


# ------------------------------------------------------------------------------------------------------------- neighbours


def coordinates(table: TableSet, reference: TableSet) -> np.ndarray:
    """(n, d) coordinates in which distances are meant: ranks of numbers, and categories in corners half a unit apart."""
    parts = list[np.ndarray]()
    for i in modelled(reference):
        there = table.there(i)
        if reference.columns[i].kind == "category":
            size = len(reference.columns[i].categories) + 1
            codes = np.where(table.values[i] < 0, size - 1, table.values[i])
            corners = np.zeros((len(codes), size))
            corners[np.arange(len(codes)), codes] = 0.5
            parts.append(corners)
            continue
        known = np.sort(numbers_of(reference, i))
        values = np.where(there, table.values[i], 0.0)
        low, high = np.searchsorted(known, values, "left"), np.searchsorted(known, values, "right")
        parts.append(np.where(there, 0.5 * (low + high) / max(1, len(known)), 0.5)[:, None])
        parts.append(np.where(there, 0.0, 0.5)[:, None])
    return np.concatenate(parts, 1)


def nearest(points: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index and distance of the nearest of `others` to each point."""
    neighbours = require("sklearn.neighbors", "Evaluation of tables")
    distance, index = neighbours.NearestNeighbors(n_neighbors=1).fit(others).kneighbors(points)
    return index[:, 0], distance[:, 0]


def nearer_to_training(train: TableSet, val: TableSet, fake: TableSet, seed: int = 0) -> float:
    """The share of samples nearer to training samples than to as many held-out ones; ties count half."""
    count = min(len(train), len(val), NEAR)
    points = coordinates(some_of(fake, NEAR, seed), train)
    mine, other = (nearest(points, coordinates(some_of(part, count, seed + 7), train))[1] for part in (train, val))
    return float((mine < other - 1e-12).mean() + 0.5 * (np.abs(mine - other) <= 1e-12).mean())
