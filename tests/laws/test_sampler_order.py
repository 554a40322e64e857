"""Law of samplers: the order that is measured is the order that is declared.

Samples of a mixture on the line are compared with the flow itself, which keeps quantiles: F_s(x_s) = F_t(x_t), in closed
form. All knots lie between two noise levels and never at t = 0, where log-SNR is infinite and every order is lost. The
slope is taken over 256, 512 and 1024 steps, root mean square over starts from the 3% to the 97% quantile. Where knots are
equally spaced in the schedule's own time the last steps are the longest in log-SNR and the asymptote comes late, most of
all for variance-preserving schedules; so that grid runs from sigma / alpha = 10 to 0.3 only, the others from 20 to 0.02.
"""

import math

import pytest
import torch

from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampler import DDIM, Ancestral, LogSNR, Rho, UniformGrid, sample, start
from langevin.diffusion.sampler.state import stack
from tests import exact
from tests.laws.bounds import slope
from tests.laws.parts import FEW_SCHEDULES, FLOWS, SAMPLERS, SCHEDULES, sampler

SCHEDULE = pytest.mark.parametrize("schedule", FEW_SCHEDULES.values(), ids=FEW_SCHEDULES)
COUNTS = torch.tensor([256, 512, 1024])
LADDERS = [
    Rho(low=0.02, high=20.0, to_zero=False),
    LogSNR(low=0.02, high=20.0, to_zero=False),
    UniformGrid(low=0.3, high=10.0, to_zero=False),
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
    tool = sampler(name, process)
    state = stack([ladder(tool, process, data, grid, COUNTS) for grid in LADDERS])
    end = state.times[:, -1]
    for told in sample(tool, data, state):
        state = told
    want = data.quantile(QUANTILES.expand_as(state.x), end)
    errors = ((state.x - want) / schedule.alpha(end)[:, None]).square().mean(1).sqrt()
    for grid, error in zip(LADDERS, errors.reshape(len(LADDERS), -1), strict=True):
        assert error[-1] < (1e-2 if tool.order == 1 else 1e-4), grid.kind
        measured = slope(COUNTS, error)
        assert measured > tool.order - 0.15, grid.kind
        # a rising or a falling order is declared by its worst step, which may matter only at more steps than these
        assert measured < tool.order + (1.2 if "rising" in name or "lower" in name else 0.3), grid.kind


def test_what_does_not_follow_the_flow_declares_no_order():
    process = Gaussian()
    assert Ancestral(process=process).order is None
    assert DDIM(process=process, eta=0.5).order is None
    noisy = {"ancestral", "ddim_half", "ddim_ancestral", "ddpm_forward_variance", "euler_maruyama", "langevin", "churn"}
    noisy |= {"restart", "sde_dpm2m", "exponential_1_half", "exponential_2_half", "exponential_3_noise"}
    assert set(SAMPLERS) - set(FLOWS) == noisy


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "ddpm_forward_variance"])
@pytest.mark.parametrize("to_zero", [True, False])
def test_all_schedules_give_the_same_result_on_the_same_noise_levels(name, to_zero):
    """Everything depends on y = x_t / alpha and rho = sigma / alpha alone, where all schedules are one; but for the forward
    step's variance, which DDPM took from its own schedule."""
    results = []
    for schedule in SCHEDULES.values():
        process, data = Gaussian(schedule=schedule), exact.Mixture(schedule=schedule)
        tool = sampler(name, process)
        steps, high = torch.tensor([1, 2, 12]), 25.0
        times = LogSNR(low=0.01, high=high, to_zero=to_zero)(steps, schedule)
        state = start(tool, process, torch.zeros(3, 8, dtype=torch.float64), times, torch.arange(3))
        for told in sample(tool, data, state):
            state = told
        results.append(state.x / schedule.alpha(state.t)[:, None])
    scale = results[0].abs().clamp_min(1)  # two steps of Heun's over this range overshoot by thousands
    assert max(float(((r - results[0]) / scale).abs().max()) for r in results) < 1e-10


@SCHEDULE
def test_euler_is_ddim_without_noise(schedule):
    assert_same(sampler("euler", Gaussian(schedule=schedule)), sampler("ddim", Gaussian(schedule=schedule)), schedule)


@SCHEDULE
def test_ddim_with_all_noise_is_ancestral_sampling_with_the_same_noise(schedule):
    process = Gaussian(schedule=schedule)
    assert_same(sampler("ddim_ancestral", process), sampler("ancestral", process), schedule)


def assert_same(one, two, schedule):
    process, data = Gaussian(schedule=schedule), exact.Mixture(schedule=schedule)
    finals = []
    for tool in (one, two):
        times = Rho()(torch.tensor([1, 5, 20]), schedule)
        state = start(tool, process, torch.zeros(3, 4, dtype=torch.float64), times, torch.arange(3))
        for told in sample(tool, data, state):
            state = told
        finals.append(state.x)
    assert (finals[0] - finals[1]).abs().max() < 1e-12


@pytest.mark.parametrize("name", ["dpm2m", "dpm2m_lower_order_final"])
def test_the_multistep_update_is_the_published_one(name):
    """x_s = sigma_s / sigma_t x - alpha_s (e^-h - 1) (D + (D - D_before) / (2 r_0)), r_0 = h_before / h."""
    process, data = Gaussian(), exact.Mixture()
    tool, times = (
        sampler(name, process),
        LogSNR(low=0.02, high=20.0, to_zero=False)(torch.tensor([6]), exact.Rectified()),
    )
    state = start(tool, process, torch.zeros(1, 4, dtype=torch.float64), times, torch.tensor([1]))
    x, before, h_before = state.x, None, None
    for i, (t, s) in enumerate(zip(times[0, :-1], times[0, 1:], strict=True)):
        h = float(process.schedule.log_snr(s) - process.schedule.log_snr(t)) / 2
        d = data(x, t[None]).mean
        d_1 = 0 if before is None or (name != "dpm2m" and i == 5) else (d - before) / (2 * h_before / h)
        x = s / t * x - (1 - s) * math.expm1(-h) * (d + d_1)
        before, h_before = d, h
        state = tool.update(state, data(state.x, state.t))
        assert torch.allclose(state.x, x, rtol=1e-12, atol=1e-13)


def test_heuns_update_is_the_trapezium_in_rho():
    process, data = Gaussian(), exact.Mixture()
    tool, times = sampler("heun", process), torch.tensor([[0.9, 0.5, 0.2, 0.0]], dtype=torch.float64)
    state = start(tool, process, torch.zeros(1, 4, dtype=torch.float64), times, torch.tensor([1]))

    def eps(y, ratio):  # y = x / alpha, rho = t / (1 - t)
        t = ratio / (1 + ratio)
        return (y - data(y * (1 - t), t[None]).mean) / ratio

    y = state.x / (1 - times[0, 0])
    for t, s in zip(times[0, :-2], times[0, 1:-1], strict=True):
        old, new = t / (1 - t), s / (1 - s)
        slope_old = eps(y, old)
        guess = y + (new - old) * slope_old
        state = tool.update(state, data(state.x, state.t))
        assert torch.allclose(state.x / (1 - s), guess, rtol=1e-12)
        assert float(state.t) == float(s)
        y = y + (new - old) / 2 * (slope_old + eps(guess, new))
        state = tool.update(state, data(state.x, state.t))
        assert torch.allclose(state.x / (1 - s), y, rtol=1e-12)
    state = tool.update(state, data(state.x, state.t))
    assert torch.allclose(state.x, data(y * 0.8, times[:, 2]).mean, rtol=1e-12)
    assert bool(state.done.all())
