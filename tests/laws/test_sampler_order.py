"""Law of samplers: the order that is measured is the order that is declared.

Samples of a mixture on the line are compared with the flow itself, which keeps quantiles: F_s(x_s) = F_t(x_t), in closed
form. All knots lie between two noise levels and never at t = 0, where log-SNR is infinite and every order is lost. The
slope is taken over 256, 512 and 1024 steps, root mean square over starts from the 3% to the 97% quantile. Where knots are
equally spaced in the schedule's own time the last steps are the longest in log-SNR and the asymptote comes late, most of
all for variance-preserving schedules; so that grid runs from sigma / alpha = 10 to 0.3 only, the others from 20 to 0.02.
"""

import pytest
import torch

from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampler import DDIM, Ancestral, KarrasGrid, LogSNR, UniformTimeGrid, sample, start
from langevin.diffusion.sampler.state import stack
from tests import exact
from tests.laws.bounds import slope
from tests.laws.parts import FEW_SCHEDULES, FLOWS, SAMPLERS, SCHEDULES, WEAK_ORDERS

SCHEDULE = pytest.mark.parametrize("schedule", FEW_SCHEDULES.values(), ids=FEW_SCHEDULES)
COUNTS = torch.tensor([256, 512, 1024])
LADDERS = [
    KarrasGrid(low=0.02, high=20.0, to_zero=False),
    LogSNR(low=0.02, high=20.0, to_zero=False),
    UniformTimeGrid(low=0.3, high=10.0, to_zero=False),
]
QUANTILES = torch.linspace(0.03, 0.97, 16, dtype=torch.float64)


def ladder(tool, process, data, grid, counts):
    """A row for each number of steps, starting on the flow at the grid's first time."""
    like, times = torch.zeros(len(counts), len(QUANTILES), dtype=torch.float64), grid(counts, process.schedule)
    x = data.quantile(QUANTILES.expand_as(like), times[:, 0])
    return start(tool, process, like, times, torch.arange(len(counts)), x=x)


@pytest.mark.parametrize("name", FLOWS)
@SCHEDULE
def test_the_measured_order_is_the_declared_one(name, schedule):
    process, data = Gaussian(schedule=schedule), exact.Mixture(schedule=schedule)
    tool = SAMPLERS[name]
    state = stack([ladder(tool, process, data, grid, COUNTS) for grid in LADDERS])
    end = state.times[:, -1]
    for told in sample(tool, process, data, state):
        state = told
    want = data.quantile(QUANTILES.expand_as(state.x), end)
    errors = ((state.x - want) / schedule.alpha(end)[:, None]).square().mean(1).sqrt()
    for grid, error in zip(LADDERS, errors.reshape(len(LADDERS), -1), strict=True):
        assert error[-1] < (1e-2 if tool.convergence_order == 1 else 1e-4), grid.kind
        measured = slope(COUNTS, error)
        assert measured > tool.convergence_order - 0.15, grid.kind
        # a rising or a falling order is declared by its worst step, which may matter only at more steps than these
        assert measured < tool.convergence_order + (1.2 if "rising" in name or "lower" in name else 0.3), grid.kind


def test_what_does_not_follow_the_flow_declares_no_order():
    assert Ancestral().convergence_order is None
    assert DDIM(eta=0.5).convergence_order is None
    assert set(SAMPLERS) - set(FLOWS) == set(WEAK_ORDERS)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "ddpm"])
@pytest.mark.parametrize("to_zero", [True, False])
def test_all_schedules_give_the_same_result_on_the_same_noise_levels(name, to_zero):
    """Everything depends on y = x_t / alpha and rho = sigma / alpha alone, where all schedules are one; but for the forward
    step's variance, which DDPM took from its own schedule."""
    results = []
    for schedule in SCHEDULES.values():
        process, data = Gaussian(schedule=schedule), exact.Mixture(schedule=schedule)
        tool = SAMPLERS[name]
        steps, high = torch.tensor([1, 2, 12]), 25.0
        times = LogSNR(low=0.01, high=high, to_zero=to_zero)(steps, schedule)
        state = start(tool, process, torch.zeros(3, 8, dtype=torch.float64), times, torch.arange(3))
        for told in sample(tool, process, data, state):
            state = told
        results.append(state.x / schedule.alpha(state.t)[:, None])
    scale = results[0].abs().clamp_min(1)  # two steps of Heun's over this range overshoot by thousands
    assert max(float(((r - results[0]) / scale).abs().max()) for r in results) < 1e-10


@SCHEDULE
def test_euler_is_ddim_without_noise(schedule):
    assert_same(SAMPLERS["euler"], SAMPLERS["ddim"], schedule)


@SCHEDULE
def test_ddim_with_all_noise_is_ancestral_sampling_with_the_same_noise(schedule):
    assert_same(SAMPLERS["ddim_ancestral"], SAMPLERS["ancestral"], schedule)


def assert_same(one, two, schedule):
    process, data = Gaussian(schedule=schedule), exact.Mixture(schedule=schedule)
    finals = []
    for tool in (one, two):
        times = KarrasGrid()(torch.tensor([1, 5, 20]), schedule)
        state = start(tool, process, torch.zeros(3, 4, dtype=torch.float64), times, torch.arange(3))
        for told in sample(tool, process, data, state):
            state = told
        finals.append(state.x)
    assert (finals[0] - finals[1]).abs().max() < 1e-12
