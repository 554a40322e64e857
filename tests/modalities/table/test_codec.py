"""Cells as numbers and tokens: back exactly, normal, and exact under conditions."""

import math

import numpy as np
import pytest
import torch

from langevin.diffusion.noise import SampleNoise
from langevin.modalities.table.batches import TableBatches
from langevin.modalities.table.codec import NUMBERS, TOKENS, TableCodec, fit_column, knots, normal, value
from langevin.modalities.table.columns import Column
from langevin.modalities.table.data import TableSet
from langevin.modalities.table.modality import Table
from langevin.modalities.table.sources import Mixed, Numbers
from tests.laws.bounds import kolmogorov, kolmogorov_bound, normal_bound

G = np.random.default_rng(0)
VALUES = {
    "continuous": (G.normal(size=3000) ** 3, None),
    "whole": (G.poisson(4.0, 3000).astype(float), 0),
    "many whole": (np.round(G.normal(size=3000) * 1000), 0),
    "half zeros": (np.where(G.random(3000) < 0.5, 0.0, np.exp(G.normal(size=3000))), None),
    "zeros between": (np.where(G.random(3000) < 0.3, 0.0, G.normal(size=3000)), None),
    "cents": (np.round(np.exp(G.normal(size=3000)), 2), 2),
    "two values": (np.repeat([3.0, 5.0], 10), 0),
    "one outlier": (np.append(G.normal(size=500), 1e9), None),
}


def fitted(name) -> tuple[Column, np.ndarray]:
    values, decimals = VALUES[name]
    return fit_column(Column(name="x", kind="number", form="float", decimals=decimals), values), values


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("u", [1e-9, 0.5, 1 - 1e-9])
def test_values_come_back(name, u):
    """Exactly where values have a step or are frequent, through float32; else to its precision."""
    column, values = fitted(name)
    z = normal(column, values, np.full(len(values), u)).astype(np.float32)
    assert np.isfinite(z).all()
    back = value(column, z)
    distinct, counts = np.unique(values, return_counts=True)
    exact = np.isin(values, distinct[counts > 10]) if column.decimals is None else np.ones(len(values), dtype=bool)
    assert np.array_equal(back[exact], values[exact])
    scale = np.abs(values) + np.quantile(np.abs(values), 0.5) + 1e-3
    assert float((np.abs(back - values) / scale).max()) < 5e-3  # next to an outlier; else 1e-6


@pytest.mark.parametrize("name", VALUES)
def test_codes_are_normal_whatever_the_values_are(name):
    column, values = fitted(name)
    if len(values) < 1000:
        return
    z = normal(column, values, G.random(len(values)))
    shrunk = 0.02  # of intervals, at either end
    gap = kolmogorov(torch.from_numpy(z), lambda x: 0.5 * torch.erfc(-x / math.sqrt(2)))
    assert gap < kolmogorov_bound(len(z)) + shrunk


@pytest.mark.parametrize("name", VALUES)
def test_normal_noise_decodes_to_the_distribution_of_the_values(name):
    column, values = fitted(name)
    drawn = value(column, G.normal(size=20_000))
    assert values.min() <= drawn.min()
    assert drawn.max() <= values.max()
    at = np.unique(values)
    real, mine = (np.searchsorted(np.sort(v), at, "right") / len(v) for v in (values, drawn))
    assert float(np.abs(real - mine).max()) < kolmogorov_bound(20_000) + 0.02
    if column.decimals is not None:
        assert set(np.round(drawn, column.decimals).tolist()) == set(drawn.tolist())


def test_knots_rise():
    for values, decimals in VALUES.values():
        x, p = knots(values, None if decimals is None else 10.0**-decimals)
        assert np.all(np.diff(x) >= 0)
        assert np.all(np.diff(p) >= 0)
        assert 0 < p[0] < p[-1] < 1


def test_dates_are_numbers_of_days_and_of_seconds():
    days = np.arange(0, 400 * 86400.0, 86400.0)
    column = fit_column(Column(name="d", kind="date", form="date", format="iso"), days)
    assert np.array_equal(value(column, normal(column, days, np.full(400, 0.3)).astype(np.float32)), days)
    seconds = np.sort(G.integers(0, 10**6, 3000)).astype(float)
    column = fit_column(Column(name="d", kind="date", form="datetime", format="%Y-%m-%d %H:%M:%S"), seconds)
    back = value(column, normal(column, seconds, np.full(3000, 0.5)).astype(np.float32))
    assert float(np.abs(back - seconds).max()) <= 1


def opened(**options):
    table = Table(source=Mixed(count=500, **options))
    train, _ = table.open()
    return table.fitted(train), train


def noise(items):
    return SampleNoise(seeds=items, steps=torch.zeros_like(items))


def test_a_table_with_holes_comes_back_with_them():
    table, train = opened(holes=True)
    items = torch.arange(len(train))
    x = table.codec.encode(train, items, noise(items))
    assert x[NUMBERS].shape == (len(train), 4)
    assert x[TOKENS].shape == (len(train), 6)  # three categories, and whether three columns have a value
    assert table.codec.choices == (3, 2, 4, 2, 2, 2)
    back = table.codec.decode(x)
    for i in range(len(train.columns)):
        assert np.array_equal(train.there(i), TableSet(columns=train.columns, values=back).there(i))
        there = train.there(i)
        assert np.array_equal(train.values[i][there], back[i][there])


def test_what_stands_where_a_cell_is_missing_says_nothing():
    """It has the distribution of the others, and does not depend on the plan, on which the values do."""
    table = Table(source=Mixed(count=8000, holes=True))
    train, _ = table.open()
    table = table.fitted(train)
    items = torch.arange(len(train))
    x = table.codec.encode(train, items, noise(items))
    spend = [column.name for column in table.columns].index("spend")
    z = x[NUMBERS][:, table.codec.numbers.index(spend)]
    gone = torch.from_numpy(~train.there(spend))
    plan = torch.from_numpy(train.values[0])
    for code in range(3):
        part = z[gone & (plan == code)]
        assert abs(float(part.mean())) < normal_bound(len(part))
    there = z[~gone & (plan == 2)]
    assert float(there.mean()) > 0.3


def test_codes_depend_on_the_sample_alone():
    table, train = opened(holes=True)
    items = torch.tensor([7, 3, 3, 100])
    whole = table.codec.encode(train, items, noise(items))
    for i in range(4):
        alone = table.codec.encode(train, items[i : i + 1], noise(items[i : i + 1]))
        assert all(torch.equal(alone[name][0], whole[name][i]) for name in whole)


def test_a_part_without_columns_is_left_out():
    table = Table(source=Numbers(count=200))
    train, _ = table.open()
    table = table.fitted(train)
    assert table.codec.shape == {NUMBERS: (8,)}
    assert set(table.needs(train).parts) == {NUMBERS}


def test_examples_have_known_cells_as_often_as_is_said_and_never_the_value_of_a_hole():
    table, train = opened(holes=True)
    batches = TableBatches(dataset=train, codec=table.codec, context=0.6)
    assert batches(torch.arange(10)).known is None
    items = torch.arange(400)
    batch = batches(items, noise(items))
    known = batch.known
    some = torch.cat([known[NUMBERS], known[TOKENS]], 1).any(1)
    assert abs(float(some.double().mean()) - 0.6) < 0.15
    for i in table.codec.holes:
        (part, at), hole = table.codec.positions(i)
        assert hole is not None
        missing = batch.x[TOKENS][:, hole[1]] == 0
        assert not bool(known[part][:, at][missing].any())
        assert bool((known[TOKENS][:, hole[1]] | ~known[part][:, at]).all())  # a known value is known to be one
    assert bool((known[TOKENS][:, -1] & ~known[NUMBERS][:, 1]).any())  # that there is a value, and not which


def test_tokens_that_a_column_has_not_are_refused():
    table, train = opened()
    x = table.codec.encode(train, torch.arange(2))
    x[TOKENS][1, 0] = 3  # the mask
    with pytest.raises(ValueError, match="sample 1 has the token 3 at position 0, which has 3: it is not finished"):
        table.codec.decode(x)


def test_an_empty_training_part_of_a_column_is_refused():
    with pytest.raises(ValueError, match="'x' has no value in the training part"):
        fit_column(Column(name="x", kind="number"), np.array([math.nan, math.nan]))


def test_a_codec_without_holes_has_no_tokens_for_them():
    codec = TableCodec(columns=(Column(name="a", kind="category", categories=("x", "y"), frequencies=(0.5, 0.5)),))
    assert codec.shape == {TOKENS: (1,)}
    assert codec.positions(0) == ((TOKENS, 0), None)
