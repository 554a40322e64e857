"""Metrics of tables against closed forms, known distributions and controls."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from langevin.modalities.modality import Budget
from langevin.modalities.table import baselines, imputation, metrics
from langevin.modalities.table.columns import Column
from langevin.modalities.table.data import TableSet
from langevin.modalities.table.modality import Table
from langevin.modalities.table.sources import (
    CITY_OF_PLAN,
    FIRST_DAY,
    PLAN_SHARES,
    Bundled,
    Mixed,
    Numbers,
    active_probability,
    visit_rate,
)
from langevin.modalities.table.suggest import suggest


def a_set(**values) -> TableSet:
    """Columns of numbers, or of codes where the values are integers."""
    columns, arrays = [], []
    for name, column in values.items():
        array = np.asarray(column)
        if array.dtype == np.int64:
            size = int(array.max()) + 1
            counts = np.bincount(array[array >= 0], minlength=size)
            columns.append(
                Column(name=name, kind="category", holes=bool((array < 0).any()), categories=tuple(map(str, range(size))),
                       frequencies=tuple(counts / counts.sum()))
            )  # fmt: skip
        else:
            columns.append(Column(name=name, kind="number", form="float", holes=bool(np.isnan(array).any())))
        arrays.append(array)
    return TableSet(columns=tuple(columns), values=tuple(arrays))


def test_marginal_distances_are_those_of_the_definitions():
    real = a_set(x=[1.0, 2.0, 3.0, 4.0], k=np.array([0, 0, 1, 1]))
    fake = a_set(x=[1.0, 2.0, 2.5, 10.0], k=np.array([0, 0, 0, 1]))
    assert metrics.marginal_distance(real, fake, 0) == pytest.approx(0.25)
    assert metrics.marginal_distance(real, fake, 1) == pytest.approx(0.25)
    assert metrics.marginals(real, real) == 0
    gone = a_set(x=[1.0, np.nan, np.nan, 4.0], k=np.array([0, -1, 1, 1]))
    assert metrics.marginal_distance(real, gone, 0) == pytest.approx(0.5)
    assert metrics.marginal_distance(real, gone, 1) == pytest.approx(0.25)


def test_associations_are_those_of_the_definitions():
    g = np.random.default_rng(0)
    x, noise, codes = g.normal(size=5000), g.normal(size=5000), g.integers(0, 2, 5000)
    table = a_set(
        x=x, up=np.exp(x), down=-x, noise=noise, k=codes, same=1 - codes, other=g.integers(0, 3, 5000), s=2.0 * codes
    )
    expected = {(0, 1): 1, (0, 2): -1, (0, 3): 0, (4, 5): 1, (4, 6): 0, (0, 4): 0, (7, 4): 1}
    for (i, j), value in expected.items():
        assert metrics.association(table, i, j) == pytest.approx(value, abs=0.05)
        assert metrics.association(table, i, j) == pytest.approx(metrics.association(table, j, i))
    assert metrics.association(table, 0, 1) == pytest.approx(1)
    assert metrics.pairs(table, table) == 0
    assert metrics.pairs(a_set(x=x), a_set(x=x)) is None
    # Cramér's V of a 2 x 2 table is the absolute correlation of indicators
    a, b = g.integers(0, 2, 500), g.integers(0, 2, 500)
    assert metrics.cramers_v(a, b) == pytest.approx(abs(np.corrcoef(a, b)[0, 1]))


def test_a_two_sample_test_is_at_chance_for_one_distribution_and_sees_another():
    g = np.random.default_rng(1)
    same = [a_set(x=g.normal(size=1500), y=g.normal(size=1500)) for _ in range(2)]
    assert metrics.two_sample(*same) == pytest.approx(0.5, abs=0.05)
    x = g.normal(size=1500)
    assert metrics.two_sample(same[0], a_set(x=x, y=x + 0.1 * g.normal(size=1500))) > 0.8


def test_utility_is_that_of_the_relation_which_the_samples_have():
    g = np.random.default_rng(2)

    def rows(n, noise):
        x = g.normal(size=(n, 2))
        return a_set(x=x[:, 0], z=x[:, 1], y=x[:, 0] + noise * g.normal(size=n), k=(x[:, 1] > 0).astype(np.int64))

    real, test = rows(1500, 0.3), rows(800, 0.3)
    assert metrics.utility(real, test, 2) == pytest.approx(1 / 1.09, abs=0.06)
    assert metrics.utility(real, test, 3) > 0.97
    broken = a_set(x=g.normal(size=1500), z=g.normal(size=1500), y=g.normal(size=1500), k=g.integers(0, 2, 1500))
    assert metrics.utility(broken, test, 2) < 0.1
    assert metrics.utility(broken, test, 3) < 0.7


def test_copies_are_nearer_to_training_and_new_samples_are_not():
    g = np.random.default_rng(3)
    train, val, new = (a_set(x=g.normal(size=n), y=g.normal(size=n), k=g.integers(0, 3, n)) for n in (400, 400, 1000))
    assert metrics.nearer_to_training(train, val, train) > 0.95
    assert metrics.nearer_to_training(train, val, val) < 0.05
    assert metrics.nearer_to_training(train, val, new) == pytest.approx(0.5, abs=0.07)


# --------------------------------------------------------------------------------------------------------------- baselines


def opened(source):
    table = Table(source=source)
    train, val = table.open()
    return table.fitted(train), train, val


def test_a_copula_keeps_columns_and_correlations_and_independent_columns_lose_them():
    g = np.random.default_rng(4)
    z = g.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], size=4000)
    table = a_set(x=np.exp(z[:, 0]), y=z[:, 1], k=(z.sum(1) > 0).astype(np.int64))
    from langevin.modalities.table.codec import fit_column

    columns = tuple(fit_column(c, v) for c, v in zip(table.columns, table.values, strict=True))
    copula = baselines.gaussian_copula(columns, table, 4000)
    alone = baselines.independent(table, 4000)
    for fake in (copula, alone):
        assert metrics.marginals(table, fake) < 0.04
    assert metrics.association(copula, 0, 1) == pytest.approx(metrics.association(table, 0, 1), abs=0.04)
    assert metrics.pairs(table, copula) < 0.25  # a category has no place between others
    assert abs(metrics.association(alone, 0, 1)) < 0.06
    assert metrics.pairs(table, alone) > 0.5


def test_rules_have_holes_where_the_data_have():
    table, train, _ = opened(Mixed(count=1500, holes=True))
    for fake in (baselines.gaussian_copula(table.columns, train, 3000), baselines.independent(train, 3000)):
        for i in table.codec.holes:
            assert fake.there(i).mean() == pytest.approx(train.there(i).mean(), abs=0.04)


def test_a_hot_deck_knows_what_a_mean_does_not():
    g = np.random.default_rng(5)
    x = g.normal(size=2000)
    train = a_set(x=x, y=2 * x, k=(x > 0).astype(np.int64))
    test = train.select(np.arange(200))
    hidden = np.zeros((200, 3), dtype=bool)
    hidden[:, 1:] = True
    seen = imputation.without(test, hidden)
    middle = imputation.score(test, hidden, [baselines.mean_or_mode(train, seen)])
    near = imputation.score(test, hidden, [baselines.hot_deck(train, seen)])
    assert middle.rmse == pytest.approx(1, abs=0.1)
    assert near.rmse < 0.1
    assert near.accuracy > 0.98 > middle.accuracy
    assert near.coverage is None


# --------------------------------------------------------------------------------------------------------------- imputation


def test_intervals_of_the_true_conditional_distribution_cover_as_they_claim():
    g = np.random.default_rng(6)
    x = g.normal(size=3000)
    truth = a_set(x=x, y=x + g.normal(size=3000), k=g.integers(0, 4, 3000))
    hidden = np.zeros((3000, 3), dtype=bool)
    hidden[:, 1:] = True

    def answer(spread):
        return (x, x + spread * g.normal(size=3000), g.integers(0, 4, 3000))

    right = imputation.score(truth, hidden, [answer(1.0) for _ in range(60)])
    assert right.coverage == pytest.approx(0.9, abs=0.03)
    assert right.rmse == pytest.approx(2**-0.5, abs=0.04)
    assert right.one_rmse == pytest.approx(1.0, abs=0.05)
    assert right.accuracy == pytest.approx(0.25, abs=0.05)
    assert right.log_score == pytest.approx(-np.log(4), abs=0.05)
    assert imputation.score(truth, hidden, [answer(0.3) for _ in range(60)]).coverage < 0.5


def test_only_cells_with_a_value_are_hidden():
    _, train, _ = opened(Mixed(count=500, holes=True))
    hidden = imputation.hide(train, 0.3, seed=0)
    seen = imputation.without(train, hidden)
    for i in range(len(train.columns)):
        assert not (hidden[:, i] & ~train.there(i)).any()
        assert np.array_equal(seen.there(i), train.there(i) & ~hidden[:, i])


# ----------------------------------------------------------------------------------------------------------------- sources


def test_made_customers_have_the_distributions_of_their_rules():
    _, train, val = opened(Mixed(count=20_000))
    plan, age, joined, active, spend, visits, city = (
        np.concatenate([a, b]) for a, b in zip(train.values, val.values, strict=True)
    )
    names = [{text: i for i, text in enumerate(c.categories)} for c in train.columns]
    plan = np.array([("basic", "plus", "premium").index(train.columns[0].categories[k]) for k in plan])
    active, city = active == names[3]["true"], np.array([sorted(train.columns[6].categories)[0:4].index(
        train.columns[6].categories[k]) for k in city])  # fmt: skip
    assert np.bincount(plan) / len(plan) == pytest.approx(PLAN_SHARES, abs=0.015)
    days = joined / 86400
    assert active.mean() == pytest.approx(active_probability(plan, days).mean(), abs=0.015)
    for k in range(3):
        assert np.bincount(city[plan == k], minlength=4) / (plan == k).sum() == pytest.approx(CITY_OF_PLAN[k], abs=0.04)
        assert visits[(plan == k) & active].mean() == pytest.approx(
            visit_rate(np.array([k]), np.array([True]))[0], rel=0.06
        )
    assert (spend[active] == 0).mean() == pytest.approx(0.05, abs=0.01)
    assert days.min() == FIRST_DAY
    assert age.min() >= 18


@pytest.mark.parametrize(
    "source", [Bundled(name=n) for n in ("wine", "diabetes", "breast_cancer", "iris")] + [Numbers(count=300)]
)
def test_tables_that_ship_are_opened_and_get_a_recipe(source):
    table, train, val = opened(source)
    assert len(train) + len(val) >= 150
    assert all(column.modelled for column in table.columns)
    suggestion = suggest(table.codec, len(train), Budget(minutes=1, flops=1e11), name="x")
    assert suggestion.recipe["network"]["kind"] == "column_mlp"
    assert len(suggestion.reasons) == 3


def test_sources_out_of_range_are_refused():
    with pytest.raises(ValueError, match="20 to a million samples, got 3"):
        Mixed(count=3)
    with pytest.raises(ValueError, match="of 4 to 64 columns, got 5000 of 2"):
        Numbers(columns=2)
    with pytest.raises(ValueError, match=r"needs a file \(data.path\) or a source"):
        Table()


def test_the_benchmark_never_tests_held_out_data_on_itself(monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks"))
    scores = importlib.import_module("table").scores
    train, val = Table(source=Mixed(count=400)).open()
    alone = {"two-sample AUC", "marginals", "pairs"}
    assert set(scores(train, val, val, 0)) == alone
    assert set(scores(train, val, train, 0)) == {*alone, "nearer to training", "train on it"}
