"""A trained run against the rules that made its data: conditional distributions, and holes that are missing at random."""

import numpy as np
import pytest

from langevin.modalities.modality import RequestContext
from langevin.modalities.table.options import Impute, Sample
from langevin.modalities.table.sources import CITIES, CITY_OF_PLAN, PLANS, Mixed, active_probability, visit_rate
from langevin.run.directory import load_model
from langevin.run.plan import Wanted
from langevin.run.train import train_run
from tests import customers

CHANGES = ("training.steps=1500", "data.source.count=4000", "training.precision=float32")
COUNT = 1500


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run = train_run(Wanted(target="table/holes", overrides=CHANGES, out=tmp_path_factory.mktemp("truth") / "run"))
    return run, load_model(run)[0]


def rows(trained, options, **changes):
    run, model = trained
    context = RequestContext(model=model, data=run.open_data, count=COUNT, seed=7, **changes)
    names = [column.name for column in run.recipe.data.columns]
    return [dict(zip(names, row, strict=True)) for row in model.run(run.recipe.data.plan(options, context)).values]


@pytest.mark.slow
@pytest.mark.parametrize("plan", range(3))
def test_what_is_given_decides_the_rest_as_the_rules_do(trained, plan):
    drawn = rows(trained, Sample(given=(f"plan={PLANS[plan]}", "active=true", "city=Berlin")))
    visits = np.array([float(row["visits"]) for row in drawn])
    assert visits.mean() == pytest.approx(visit_rate(np.array([plan]), np.array([True]))[0], rel=0.1)
    drawn = rows(trained, Sample(given=(f"plan={PLANS[plan]}", "joined=2022-01-01")))
    share = np.mean([row["active"] == "true" for row in drawn])
    day = np.datetime64("2022-01-01").astype(int)
    assert share == pytest.approx(active_probability(np.array([plan]), np.array([day]))[0], abs=0.08)
    known = [row["city"] for row in drawn if row["city"] is not None]
    found = np.array([known.count(city) for city in CITIES]) / len(known)
    assert float(np.abs(found - CITY_OF_PLAN[plan]).sum() / 2) < 0.1
    gone = np.mean([row["spend"] is None for row in drawn])
    assert gone == pytest.approx((0.05, 0.2, 0.5)[plan], abs=0.06)


@pytest.mark.slow
def test_holes_at_random_are_filled_from_the_distribution_of_what_is_missing(trained, tmp_path):
    """Spend is missing more often for plans with a high one: what is seen is too low on average, and what is filled is not."""  # noqa: E501
    path = customers.written(tmp_path / "holes.csv", count=1500, seed=11)
    truth = Mixed(count=1500, seed=11).cells()
    spend = np.array([float(cell) for cell in truth.columns[truth.names.index("spend")]])
    filled = np.array([float(row["spend"]) for row in rows(trained, Impute(file=str(path)))])
    seen = np.array([cell is not None for cell in Mixed(count=1500, seed=11, holes=True).cells().columns[4]])
    assert np.array_equal(filled[seen], spend[seen])
    biased = spend[seen].mean() / spend.mean() - 1
    assert biased < -0.05
    assert abs(filled.mean() / spend.mean() - 1) < abs(biased) / 2
