"""Cells as numbers and tokens for the network, and back.

A number v is mapped to z = Phi^-1(F(v)), with F the distribution function of the training data, so that z is standard
normal. F is piecewise linear between knots, with a jump at every value that is frequent: such a value has an interval of
probabilities, of which one is drawn, and any of them is decoded to the value exactly. A value with a smallest step, such as
a whole number, is spread over its step before, and rounded after. Missing cells have a column of tokens that says so, and a
value that says nothing, drawn from the distribution of the others.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from langevin.diffusion.noise import SampleNoise
from langevin.modalities.table.columns import Column
from langevin.modalities.table.data import TableSet

ATOMS = 400  # different values up to which each has its own interval
FREQUENT = 0.004  # share of the training data above which a value has
KNOTS = 256  # of the distribution function between frequent values
INSIDE = 0.02  # share at the ends of an interval, and of a step, that is left free, as float32 rounds

NUMBERS, TOKENS = "numbers", "tokens"  # the parts of x


def fit_column(column: Column, values: np.ndarray) -> Column:
    """The column with the distribution of its training values, (n,) float64 with NaN, or int64 codes with -1."""
    there = values >= 0 if column.kind == "category" else ~np.isnan(values)
    column = replace(column, present=round(float(there.mean()), 7) if column.modelled else 1.0)
    if column.kind == "category":
        counts = np.bincount(values[values >= 0], minlength=len(column.categories)).astype(float)
        counts = counts if counts.sum() else counts + 1
        return replace(column, frequencies=tuple(round(float(f), 7) for f in counts / counts.sum()))
    if not column.continuous:
        return column
    known = values[~np.isnan(values)]
    if not len(known):
        raise ValueError(f"'{column.name}' has no value in the training part: leave it out, by data.kinds")
    x, p = knots(known, column.step)
    return replace(column, values=tuple(x), probabilities=tuple(p))


def knots(values: np.ndarray, step: float | None) -> tuple[list[float], list[float]]:
    """The knots (x, p) of a distribution function, both rising, where x repeats at a jump."""
    distinct, counts = np.unique(values, return_counts=True)
    n = len(values)
    atom = np.ones(len(distinct), dtype=bool) if len(distinct) <= ATOMS else counts >= max(2, FREQUENT * n)
    x, p, before, i = list[float](), list[float](), 0, 0
    while i < len(distinct):
        if atom[i]:
            x += [float(distinct[i])] * 2
            p += [before / n, (before + counts[i]) / n]
            before += int(counts[i])
            i += 1
            continue
        end = i
        while end < len(distinct) and not atom[end]:
            end += 1
        run, weight = distinct[i:end], counts[i:end]
        inner_x, inner_p = _run(run, weight, step, max(2, math.ceil(KNOTS * weight.sum() / n)))
        x += inner_x
        end_mass = 0.25 / weight.sum()  # so that the ends of the run are no values of the next
        p += [(before + (end_mass + (1 - 2 * end_mass) * q) * weight.sum()) / n for q in inner_p]
        before += int(weight.sum())
        i = end
    least = 0.25 / n
    return [float(v) for v in x], [round(float(least + (1 - 2 * least) * q), 12) for q in p]


def _run(values: np.ndarray, counts: np.ndarray, step: float | None, most: int) -> tuple[list[float], list[float]]:
    """Knots of the values between two frequent ones, with probabilities from 0 to 1."""
    half = 0.5 * step if step else 0.0
    if len(values) == 1:
        return [float(values[0] - half), float(values[0] + half)], [0.0, 1.0]
    if half:  # the mass of a value lies around it
        edges, mass = np.concatenate([[values[0] - half], values + half]), np.concatenate([[0], counts.cumsum()])
    else:
        edges, mass = values, np.concatenate([[0], (counts[1:] + counts[:-1]).cumsum()])
    mass = mass / mass[-1]
    chosen = np.unique(np.round(np.linspace(0, len(edges) - 1, min(most, len(edges)))).astype(int))
    return [float(v) for v in edges[chosen]], [float(q) for q in mass[chosen]]


def normal(column: Column, values: np.ndarray, u: np.ndarray) -> np.ndarray:
    """z (n,) of values (n,) without NaN; `u` (n,) in (0, 1) chooses within an interval or a step."""
    x, p = np.array(column.values), np.array(column.probabilities)
    u = INSIDE + (1 - 2 * INSIDE) * u
    low, high = np.searchsorted(x, values, "left"), np.searchsorted(x, values, "right")
    jump = high - low >= 2  # a value with an interval
    first, last = np.clip(low, 0, len(x) - 1), np.clip(high - 1, 0, len(x) - 1)
    inside = p[first] + u * (p[last] - p[first])
    spread = values + (u - 0.5) * (column.step or 0.0)
    at = np.clip(np.searchsorted(x, spread, "right") - 1, 0, len(x) - 2)
    width = x[at + 1] - x[at]
    part = np.divide(spread - x[at], width, out=np.full_like(spread, 0.5), where=width > 0)
    between = p[at] + np.clip(part, 0, 1) * (p[at + 1] - p[at])
    q = np.clip(np.where(jump, inside, between), p[0], p[-1])
    return torch.special.ndtri(torch.from_numpy(q)).numpy()


def value(column: Column, z: np.ndarray) -> np.ndarray:
    """The values (n,) of z (n,), within the range of the training data, and of its steps."""
    x, p = np.array(column.values), np.array(column.probabilities)
    q = torch.special.ndtr(torch.from_numpy(np.asarray(z, dtype=np.float64))).numpy()
    at = np.clip(np.searchsorted(p, q, "right") - 1, 0, len(p) - 2)
    width = p[at + 1] - p[at]
    part = np.divide(q - p[at], width, out=np.zeros_like(q), where=width > 0)
    found = x[at] + np.clip(part, 0, 1) * (x[at + 1] - x[at])
    step = column.step
    if step:
        found = np.clip(np.round(found / step) * step, *column.ends)  # rounding may not leave the range
    return found if column.decimals is None else np.round(found, column.decimals)


@dataclass(frozen=True, kw_only=True)
class TableCodec:
    """The map between the cells of modelled columns and x = {"numbers": (b, n) float32, "tokens": (b, m) int64}.

    The tokens are the codes of the categories, then for each column with holes whether there is a value: 0 no, 1 yes. A
    part without columns is left out.

    Args:
        columns: fitted; those that are not modelled are passed over.
    """

    columns: tuple[Column, ...]

    @property
    def numbers(self) -> tuple[int, ...]:
        """The indices of the columns that are numbers."""
        return tuple(i for i, column in enumerate(self.columns) if column.continuous)

    @property
    def categories(self) -> tuple[int, ...]:
        """The indices of the columns of categories."""
        return tuple(i for i, column in enumerate(self.columns) if column.kind == "category")

    @property
    def holes(self) -> tuple[int, ...]:
        """The indices of the modelled columns with missing cells."""
        return tuple(i for i, column in enumerate(self.columns) if column.modelled and column.holes)

    @property
    def choices(self) -> tuple[int, ...]:
        """The number of tokens at each position."""
        return tuple(len(self.columns[i].categories) for i in self.categories) + (2,) * len(self.holes)

    @property
    def shape(self) -> dict[str, tuple[int, ...]]:
        """Shape of one example, by part."""
        sizes = {NUMBERS: (len(self.numbers),), TOKENS: (len(self.choices),)}
        return {name: size for name, size in sizes.items() if size[0]}

    def encode(self, table: TableSet, items: Tensor, noise: SampleNoise | None = None) -> dict[str, Tensor]:
        """x of the samples `items` (b,) int64; without noise the middles of intervals, and modes of what is missing."""
        rows, count = items.numpy(), len(items)
        like = torch.empty(count, max(1, len(self.columns)), dtype=torch.float64)
        u = np.full(like.shape, 0.5) if noise is None else noise.fork(1).uniform(like).numpy()
        z = np.zeros(like.shape) if noise is None or not self.holes else noise.fork(2).normal(like).numpy()
        numbers, tokens = list[np.ndarray](), list[np.ndarray]()
        for i in self.numbers:
            values = table.values[i][rows]
            there = ~np.isnan(values)
            found = z[:, i].copy()
            found[there] = normal(self.columns[i], values[there], u[there, i])
            numbers.append(found)
        for i in self.categories:
            codes = table.values[i][rows]
            edges = np.cumsum(self.columns[i].frequencies)
            drawn = np.searchsorted(edges, u[:, i] * edges[-1], "right").clip(0, len(edges) - 1)
            likeliest = int(np.argmax(self.columns[i].frequencies))
            tokens.append(np.where(codes >= 0, codes, likeliest if noise is None else drawn))
        tokens += [table.there(i)[rows].astype(np.int64) for i in self.holes]
        x = dict[str, Tensor]()
        if numbers:
            x[NUMBERS] = torch.from_numpy(np.stack(numbers, 1).astype(np.float32))
        if tokens:
            x[TOKENS] = torch.from_numpy(np.stack(tokens, 1).astype(np.int64))
        return x

    def decode(self, x: dict[str, Tensor]) -> tuple[np.ndarray, ...]:
        """The values of all columns, as `TableSet.values`; those that are not modelled are zeros.

        Raises:
            ValueError: x is not finite, or holds a token that the column has not."""
        count = len(next(iter(x.values())))
        found: list[Any] = [np.zeros(count) for _ in self.columns]
        if NUMBERS in x:
            if not bool(torch.isfinite(x[NUMBERS]).all()):
                raise ValueError("the generated numbers are not all finite: the model diverged, or took too few steps")
            for position, i in enumerate(self.numbers):
                found[i] = value(self.columns[i], x[NUMBERS][:, position].double().cpu().numpy())
        if TOKENS in x:
            tokens = x[TOKENS].cpu()
            wrong = (tokens < 0) | (tokens >= torch.tensor(self.choices))
            if bool(wrong.any()):
                row, position = wrong.nonzero()[0].tolist()
                raise ValueError(
                    f"sample {row} has the token {int(tokens[row, position])} at position {position}, which has "
                    f"{self.choices[position]}: it is not finished"
                )
            for position, i in enumerate(self.categories):
                found[i] = tokens[:, position].numpy().copy()
            for position, i in enumerate(self.holes, start=len(self.categories)):
                gone = tokens[:, position].numpy() == 0
                found[i][gone] = -1 if self.columns[i].kind == "category" else math.nan
        return tuple(found)

    def positions(self, column: int) -> tuple[tuple[str, int], tuple[str, int] | None]:
        """Where a column is in x: its value, and whether there is one (None for a column without holes)."""
        hole = (TOKENS, len(self.categories) + self.holes.index(column)) if column in self.holes else None
        if column in self.numbers:
            return (NUMBERS, self.numbers.index(column)), hole
        return (TOKENS, self.categories.index(column)), hole
