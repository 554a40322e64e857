"""Laws of schedules: log-SNR falls, has a true inverse, and agrees with alpha, sigma, rate and tangent."""

import itertools
import math

import pytest
import torch

from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.process import Gaussian
from langevin.diffusion.schedule import Beta, VarianceExploding, VariancePreserving, rho, time_of_rho
from tests.laws.parts import SCHEDULES

EVERY = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
INSIDE = torch.linspace(0, 1, 2001, dtype=torch.float64)[1:-1]
ENDS = torch.tensor([0.0, 1.0], dtype=torch.float64)
ULP = torch.finfo(torch.float64).eps


def slack(schedule, t):
    """What rounding t by one unit does to the log-SNR: no inverse through a float64 time can do better."""
    return 4 * ULP * t * schedule.rate(t).abs()


@EVERY
def test_log_snr_falls_strictly(schedule):
    falls = schedule.log_snr(torch.cat([ENDS[:1], INSIDE, ENDS[1:]])).diff()
    assert bool((falls < 0).all())


@EVERY
def test_time_and_log_snr_are_inverse(schedule):
    assert (schedule.time(schedule.log_snr(INSIDE)) - INSIDE).abs().max() < 1e-10
    log_snr = torch.linspace(-60, 60, 1201, dtype=torch.float64)
    log_snr = log_snr[log_snr > schedule.log_snr(ENDS[1:])]
    t = schedule.time(log_snr)
    assert bool(((schedule.log_snr(t) - log_snr).abs() < 1e-10 + slack(schedule, t)).all())
    assert float(log_snr.min()) < -6
    assert float(log_snr.max()) == 60


@EVERY
def test_infinite_log_snr_and_noise_out_of_reach_have_a_time(schedule):
    infinite = torch.tensor([math.inf, -math.inf], dtype=torch.float64)
    assert schedule.time(infinite).tolist() == [0, 1]
    beyond = torch.tensor([0.0, 1e-30, 1e30, math.inf], dtype=torch.float64)
    assert time_of_rho(schedule, beyond)[[0, 2, 3]].tolist() == pytest.approx([0, 1, 1], abs=1e-12)
    assert time_of_rho(schedule, rho(schedule, INSIDE)) == pytest.approx(INSIDE, abs=1e-10)


@EVERY
def test_alpha_and_sigma_agree_with_log_snr(schedule):
    ratio = 2 * (schedule.alpha(INSIDE).log() - schedule.sigma(INSIDE).log())
    assert torch.allclose(ratio, schedule.log_snr(INSIDE), rtol=1e-12, atol=1e-12)


@EVERY
def test_no_time_leaves_data_as_it_is(schedule):
    assert schedule.alpha(ENDS)[0] == 1
    assert schedule.sigma(ENDS)[0] == 0
    assert schedule.log_snr(ENDS)[0] == math.inf
    x = torch.linspace(-3, 3, 10).reshape(2, 5)
    noise = SampleNoise(seeds=torch.arange(2), steps=torch.arange(2))
    assert torch.equal(Gaussian(schedule=schedule).corrupt(x, torch.zeros(2), noise), x)


@EVERY
def test_the_end_is_finite_and_noisy(schedule):
    alpha, sigma = schedule.alpha(ENDS)[1], schedule.sigma(ENDS)[1]
    assert 0 <= alpha <= 1
    assert 0.99 < sigma < math.inf
    assert sigma > 10 * alpha


@EVERY
def test_a_number_does_not_depend_on_its_place_in_a_tensor(schedule):
    methods = (schedule.alpha, schedule.sigma, schedule.log_snr, schedule.rate, lambda t: schedule.time(20 - 40 * t))
    for method in methods:
        every = method(INSIDE)
        for length in (1, 3, 7):
            pieces = [method(piece.clone()) for piece in INSIDE[:105].split(length)]
            assert torch.equal(torch.cat(pieces), every[:105])


@EVERY
def test_rate_is_the_slope_of_log_snr(schedule):
    t = INSIDE.clone().requires_grad_()
    (slope,) = torch.autograd.grad(schedule.log_snr(t).sum(), t)
    assert torch.allclose(schedule.rate(INSIDE), slope, rtol=1e-9)


@EVERY
def test_rate_is_minus_infinity_where_log_snr_leaves_infinity(schedule):
    assert schedule.rate(ENDS)[0] == -math.inf


@EVERY
def test_tangent_is_the_direction_of_movement(schedule):
    t = INSIDE.clone().requires_grad_()
    (da,) = torch.autograd.grad((schedule.alpha(t) + 0 * t).sum(), t)
    (ds,) = torch.autograd.grad(schedule.sigma(t).sum(), t)
    a, b = schedule.tangent(INSIDE)
    size = (da * da + ds * ds).sqrt()
    assert ((a * ds - b * da) / size).abs().max() < 1e-9
    assert bool((a * da + b * ds > 0).all())
    both = torch.cat([INSIDE, ENDS])
    a, b = schedule.tangent(both)
    assert (b * schedule.alpha(both) - a * schedule.sigma(both)).min() > 0.5


# ------------------------------------------------------------------------------------------------------- beta


def random_beta(seed: int) -> Beta:
    """Piecewise linear with zero pieces: at the start, inside or at the end."""
    generator = torch.Generator().manual_seed(seed)
    values = 10 * torch.rand(12, generator=generator, dtype=torch.float64)
    start = int(torch.randint(0, 10, (1,), generator=generator))
    values[start : start + 3] = 0
    return Beta(values=tuple(values.tolist()))


BETAS = [Beta(), Beta(values=(0.0, 0.0, 3.0)), Beta(values=(2.0, 0.0, 0.0)), *(random_beta(seed) for seed in range(20))]


@pytest.mark.parametrize("beta", BETAS)
def test_the_integral_of_beta_is_its_integral(beta):
    knots = torch.linspace(0, 1, len(beta.values), dtype=torch.float64)
    ends = torch.cat([knots, torch.linspace(0.013, 0.987, 57, dtype=torch.float64)]).sort().values
    middle = (ends[1:] + ends[:-1]) / 2  # Simpson's rule, exact within a piece
    pieces = (beta.rate(ends[:-1]) + 4 * beta.rate(middle) + beta.rate(ends[1:])) / 6 * ends.diff()
    assert torch.allclose(beta.integral(ends[1:]), pieces.cumsum(0), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("beta", BETAS)
def test_the_inverse_of_the_integral_is_exact(beta):
    t = torch.linspace(0, 1, 997, dtype=torch.float64)
    integral = beta.integral(t)
    again = beta.inverse(integral)
    assert (beta.integral(again) - integral).abs().max() < 1e-12
    moving = beta.rate(t) > 1e-3
    assert (again - t)[moving].abs().max() < 1e-9
    assert bool((again >= 0).all() and (again <= 1).all())


@pytest.mark.parametrize("beta", BETAS)
def test_a_schedule_of_any_beta_preserves_variance(beta):
    schedule, t = VariancePreserving(beta=beta), torch.linspace(0, 1, 101, dtype=torch.float64)
    assert schedule.alpha(t).square() + schedule.sigma(t).square() == pytest.approx(torch.ones(101), abs=1e-14)
    assert not bool(schedule.rate(t).isnan().any() | schedule.log_snr(t).isnan().any())
    assert bool((schedule.log_snr(t).diff()[schedule.sigma(t)[:-1] > 0] <= 0).all())


def test_a_tabulated_beta_converges_to_its_function():
    t = torch.linspace(0, 1, 301, dtype=torch.float64)
    true = 10 * (t - torch.sin(math.pi * t) / math.pi)  # the integral of 20 sin^2(pi t / 2)
    errors = [
        float((Beta.tabulate(lambda s: 20 * math.sin(math.pi * s / 2) ** 2, knots=k).integral(t) - true).abs().max())
        for k in (17, 65, 257, 1025)
    ]
    assert all(12 < coarse / fine < 20 for coarse, fine in itertools.pairwise(errors))  # second order
    assert errors[-1] < 1e-5


def test_a_strong_beta_does_not_overflow():
    schedule = VariancePreserving(beta=Beta(values=(0.1, 4000.0)))
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    assert bool(schedule.log_snr(t)[1:].isfinite().all())
    assert schedule.log_snr(t)[-1] == pytest.approx(-2000.05)
    assert schedule.time(schedule.log_snr(t)) == pytest.approx(t, abs=1e-12)


@pytest.mark.parametrize(
    "values", [(), (1.0,), (0.0, 0.0), (1.0, -0.1), (1.0, math.nan), (1.0, math.inf), (1e308, 1e308)]
)
def test_a_bad_beta_is_refused(values):
    with pytest.raises(ValueError, match="beta"):
        Beta(values=values)


@pytest.mark.parametrize("knots", [0, 1, -3])
def test_a_beta_needs_two_knots(knots):
    with pytest.raises(ValueError, match="knots"):
        Beta.tabulate(lambda t: 1.0, knots=knots)


@pytest.mark.parametrize("bad", [{"sigma_max": 0.0}, {"sigma_max": math.nan}, {"power": -1.0}, {"power": math.inf}])
def test_a_bad_exploding_schedule_is_refused(bad):
    with pytest.raises(ValueError, match="positive and finite"):
        VarianceExploding(**bad)
