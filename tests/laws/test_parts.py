"""Every member of a union is listed, so that no part escapes the laws."""

from typing import get_args

import pytest

from langevin.diffusion.denoiser import Prediction
from langevin.diffusion.objective import TimeDensity, Weighted
from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampler import Adaptive, AnySampler, Learned
from langevin.diffusion.sampler.grid import AnyGrid, Shares
from langevin.diffusion.schedule import AnySchedule, Rectified
from tests.laws.parts import DENSITIES, GRIDS, PREDICTIONS, SAMPLERS, SCHEDULES, WEIGHTINGS


@pytest.mark.parametrize(
    ("union", "parts"),
    [
        (AnySchedule, SCHEDULES.values()),
        (AnyGrid, [*GRIDS.values(), Shares()]),  # of symbols: its law is in test_grid
        (TimeDensity, DENSITIES.values()),
        (
            AnySampler,
            # not of any number of steps: they have laws of their own, in test_sampler_ways and test_sampler_learned
            [
                *[make(Gaussian(schedule=Rectified())) for make, _ in SAMPLERS.values()],
                Adaptive(process=Gaussian()),
                Learned(process=Gaussian(), times=(0.9, 0.0), rows=((0.0, 1.0),)),
            ],
        ),
    ],
)
def test_every_member_of_a_union_is_listed(union, parts):
    assert {type(part) for part in parts} == set(get_args(union))


def test_every_literal_is_listed():
    assert set(PREDICTIONS) == set(get_args(Prediction))
    assert set(WEIGHTINGS) == set(get_args(Weighted.__annotations__["weighting"]))


def test_every_part_carries_its_kind():
    parts = [*SCHEDULES.values(), *GRIDS.values(), *DENSITIES.values(), Gaussian()]
    parts += [make(Gaussian()) for make, _ in SAMPLERS.values()]
    assert all(isinstance(part.kind, str) and part.kind for part in parts)
