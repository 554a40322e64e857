"""Law of samplers: every option of every sampler ends at t = 0 with finite numbers, on every schedule and grid, for 1 to
200 steps, whatever the denoiser says.

One state holds all grids and numbers of steps as rows, in float32. A row's condition names its denoiser: the exact one of
Gaussian data, one that always says the same, or one that says something else each time, bounded by 3. Up to twelve steps
every grid meets every number of steps and every denoiser; beyond, grids take turns at the numbers of steps.
"""

import pytest
import torch

from langevin.diffusion.condition import Condition, Port
from langevin.diffusion.posterior import Point
from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampler import sample, start
from tests import exact
from tests.laws.parts import GRIDS, SAMPLERS, SCHEDULES

EXACT, CONSTANT = 0, 1
MOST, FEW = 200, 12


def rows_of(grid: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(steps, denoiser) of the rows of a grid, by its number."""
    few = [(n, kind) for n in range(1, FEW + 1) for kind in range(3)]
    more = [(n, n % 3) for n in range(FEW + 1, MOST + 1) if n % len(GRIDS) == grid or n == MOST]
    steps, kind = torch.tensor(few + more).unbind(1)
    return steps, kind


def hostile(schedule):
    """Each row's denoiser, by the class in its condition."""
    data = exact.Scalar(schedule=schedule, mean=0.3, variance=0.49)

    def answer(x_t, t, condition):
        kind = condition.global_.tensor[:, None]
        random = 3 * torch.sin(1e5 * x_t + 1e7 * t[:, None]).to(x_t.dtype)
        told = torch.where(kind == CONSTANT, 2.0, random)
        return Point(torch.where(kind == EXACT, data(x_t, t).mean, told))

    return answer


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_samples_end_at_time_zero_and_are_finite(name, schedule):
    process = Gaussian(schedule=schedule, sigma_data=0.7)
    tool, rows = SAMPLERS[name], [rows_of(i) for i in range(len(GRIDS))]
    times = torch.cat([grid(steps, schedule) for grid, (steps, _) in zip(GRIDS.values(), rows, strict=True)])
    kind = torch.cat([kind for _, kind in rows])
    state = start(tool, process, torch.zeros(len(times), 1), times, torch.arange(len(times)))
    kinds = Condition(global_=Port(tensor=kind))
    calls = 0
    for told in sample(tool, process, hostile(schedule), state, kinds):
        state, calls = told, calls + 1
    assert bool(state.done.all())
    assert bool((state.t == 0).all())
    assert bool(state.x.isfinite().all())
    assert MOST <= calls <= 4 * MOST
    assert bool((state.x[kind == CONSTANT] == 2).all())
