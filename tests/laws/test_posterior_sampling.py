"""Sampling given a measurement, against posteriors in closed form.

For Gaussian data every D_y is affine in x_t, so a trajectory's mean and covariance are propagated exactly, and not
estimated. The prior is N(0, S) with S_ij = exp(-|i - j| / 4) in 16 dimensions, of which every second one is measured with
noise 0.1.
"""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from langevin.diffusion.condition import Condition
from langevin.diffusion.guidance import DDNM, MMPS, PiGDM, guide, weighted
from langevin.diffusion.measurement import Mask, Matrix, Measurement
from langevin.diffusion.process import Gaussian
from langevin.diffusion.process.gaussian import reverse_step
from langevin.diffusion.sampler import Ancestral, KarrasGrid, sample, start
from langevin.diffusion.schedule import Rectified, VarianceExploding, time_of_rho
from tests import exact
from tests.laws.parts import SCHEDULES

D, STD = 16, 0.1
EYE = torch.eye(D, dtype=torch.float64)
PLACE = torch.arange(D, dtype=torch.float64)
PRIOR = torch.exp(-(PLACE[:, None] - PLACE).abs() / 4)
SEES = EYE[::2]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


Y = SEES @ torch.linalg.cholesky(PRIOR) @ normal(D)
GAIN = PRIOR @ SEES.T @ torch.linalg.inv(SEES @ PRIOR @ SEES.T + STD**2 * torch.eye(D // 2, dtype=torch.float64))
MEAN, COV = GAIN @ Y, PRIOR - GAIN @ SEES @ PRIOR


def measured(count: int, matrix=SEES, y=Y, std=STD) -> Measurement:
    noise = torch.full((count,), std, dtype=torch.float64)
    operator = Matrix(matrix=matrix.expand(count, -1, -1), shape=(matrix.shape[1],))
    return Measurement(operator=operator, y=y.expand(count, -1), noise=noise, shape=(matrix.shape[1],))


def moments(method, schedule, steps: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and covariance of ancestral sampling on a log-uniform grid from sigma / alpha = 50 to 0.005, then 0."""
    denoiser = exact.Gaussian(schedule=schedule, mean=torch.zeros(D, dtype=torch.float64), cov=PRIOR)
    guided = guide(
        denoiser, [method], process=Gaussian(schedule=schedule, sigma_data=1.0), models=lambda other: denoiser
    )
    condition = weighted(Condition(measurement=measured(D + 1)), [method], D + 1)
    ratio = torch.linspace(50, 0.005, 2, dtype=torch.float64).log()
    ratio = torch.exp(ratio[0] + torch.linspace(0, 1, steps, dtype=torch.float64) * (ratio[1] - ratio[0]))
    times = torch.cat([time_of_rho(schedule, ratio), torch.zeros(1, dtype=torch.float64)])
    scale = schedule.alpha(times[0]) ** 2 + schedule.sigma(times[0]) ** 2
    mean, cov = torch.zeros(D, dtype=torch.float64), scale * EYE
    for t, s in pairwise(times):
        width = cov.diagonal().mean().sqrt()
        x = mean + torch.cat([torch.zeros_like(EYE[:1]), width * EYE])
        q = guided(x, t.expand(D + 1), condition).mean
        slope = (q[1:] - q[0]).T / width
        a, b, c = reverse_step(schedule, t, s, 1.0)
        step = a * EYE + b * slope
        mean, cov = a * mean + b * q[0], step @ cov @ step.T + c * c * EYE
    return mean, cov


def errors(method, schedule, steps: int = 400) -> tuple[float, float, float]:
    """Relative errors of mean and covariance, and the ratio of traces."""
    mean, cov = moments(method, schedule, steps)
    off = float((mean - MEAN).norm() / MEAN.norm()), float((cov - COV).norm() / COV.norm())
    return (*off, float(cov.trace() / COV.trace()))


@pytest.mark.parametrize("solver", ["cg", "gmres"])
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_moment_matching_samples_the_posterior_of_gaussian_data(schedule, solver):
    mean, cov, _ = errors(MMPS(iterations=D // 2 + 4, tolerance=0.0, several=(0.0, 1e9), solver=solver), schedule)
    assert mean < 0.01
    assert cov < 0.025  # of the 400 steps; below with more


def test_what_is_left_is_the_error_of_the_steps():
    method = MMPS(iterations=12, tolerance=0.0, several=(0.0, 1e9))
    coarse, fine = (errors(method, Rectified(), steps)[1] for steps in (400, 1600))
    assert fine < 0.3 * coarse
    assert fine < 0.007


def test_few_iterations_are_nearly_enough():
    """With the products that the iteration makes anyway: errors fall with their number."""
    found = [errors(MMPS(iterations=k, tolerance=0.0, several=(0.0, 1e9)), Rectified())[0] for k in (1, 2, 3, 6)]
    assert found == sorted(found, reverse=True)
    assert found[0] < 0.04
    assert found[-1] < 0.002


def test_cheaper_methods_have_their_known_bias():
    """A white covariance misjudges what neighbours say: PiGDM by some percent; without the Jacobian by far more."""
    mean, cov, trace = errors(PiGDM(), Rectified(), 1600)
    assert 0.03 < mean < 0.07
    assert 0.04 < cov < 0.09
    assert 1.0 < trace < 1.1
    mean, cov, trace = errors(DDNM(), Rectified(), 1600)
    assert mean > 0.1
    assert cov > 0.4
    assert trace > 1.3


def test_any_sampler_will_do():
    """The flow from noise to data under D_y is affine: Heun's method takes the prior to the posterior."""
    schedule = VarianceExploding()
    process = Gaussian(schedule=schedule, sigma_data=1.0)
    denoiser = exact.Gaussian(schedule=schedule, mean=torch.zeros(D, dtype=torch.float64), cov=PRIOR)
    method = MMPS(iterations=12, tolerance=0.0, several=(0.0, 1e9))
    guided = guide(denoiser, [method], process=process, models=lambda other: denoiser)
    from tests.laws.parts import SAMPLERS

    tool, n = SAMPLERS["heun"], D + 1
    times = KarrasGrid(low=0.002, high=80.0)(torch.full((n,), 150), schedule)
    state = start(tool, process, torch.zeros(n, D, dtype=torch.float64), times, torch.arange(n))
    width = float((1 + schedule.sigma(times[0, 0]) ** 2).sqrt())
    state = replace(state, x=torch.cat([torch.zeros_like(EYE[:1]), width * EYE]))
    for told in sample(tool, process, guided, state, weighted(Condition(measurement=measured(n)), [method], n)):
        state = told
    slope = (state.x[1:] - state.x[0]).T
    assert float((state.x[0] - MEAN).norm() / MEAN.norm()) < 0.01
    assert float((slope @ slope.T - COV).norm() / COV.norm()) < 0.02


def test_ranks_of_the_truth_among_posterior_samples_are_uniform():
    """Simulation-based calibration: truths from the prior, each measured in its own way, and 19 samples given each."""
    d, problems, draws = 8, 1000, 19
    schedule, n = Rectified(), problems * draws
    cov = PRIOR[:d, :d]
    truth = normal(problems, d, seed=4) @ torch.linalg.cholesky(cov).T
    matrix = (1 + normal(problems, 4, 1, seed=5).abs()) * EYE[:d:2, :d]
    std = 0.1 + normal(problems, seed=6).abs() / 10
    y = (matrix @ truth[..., None])[..., 0] + std[:, None] * normal(problems, 4, seed=7)
    given = Measurement(operator=Matrix(matrix=matrix, shape=(d,)), y=y, noise=std, shape=(d,))
    given = given.map(lambda tensor: tensor.repeat_interleave(draws, 0))
    denoiser = exact.Gaussian(schedule=schedule, mean=torch.zeros(d, dtype=torch.float64), cov=cov)
    process = Gaussian(schedule=schedule, sigma_data=float(cov.diagonal().mean().sqrt()))
    ranks = {}
    for method in (
        MMPS(iterations=4, tolerance=0.0, several=(0.0, 1e9)),
        MMPS(iterations=4, tolerance=0.0, several=(0.0, 1e9), weight=0.5),
    ):
        guided = guide(denoiser, [method], process=process, models=lambda other: denoiser)
        times = KarrasGrid(low=0.002, high=80.0)(torch.full((n,), 150), schedule)
        state = start(Ancestral(), process, torch.zeros(n, d, dtype=torch.float64), times, torch.arange(n))
        for told in sample(Ancestral(), process, guided, state, weighted(Condition(measurement=given), [method], n)):
            state = told
        ranks[method.weight] = (state.x.reshape(problems, draws, d) < truth[:, None]).sum(1)
    assert uniform(ranks[1.0], draws) < 3.0
    assert uniform(ranks[0.5], draws) > 6.0  # half of Bayes' rule is noticed


def uniform(ranks: torch.Tensor, draws: int) -> float:
    """The largest deviation, in standard deviations, of chi-squared from its mean over the coordinates of the ranks."""
    classes, n = 10, len(ranks)
    counts = torch.stack([((ranks * classes // (draws + 1)) == k).sum(0) for k in range(classes)]).double()
    chi2 = ((counts - n / classes) ** 2 / (n / classes)).sum(0)
    return float(((chi2 - (classes - 1)) / (2 * (classes - 1)) ** 0.5).max())


def test_where_nothing_was_measured_the_sample_is_that_of_the_prior_to_the_bit():
    schedule = Rectified()
    denoiser = exact.Gaussian(schedule=schedule, mean=torch.zeros(D, dtype=torch.float64), cov=PRIOR)
    x, t = normal(3, D), torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64)
    nothing = Measurement(
        operator=Mask(seen=torch.zeros(3, D).bool()), y=torch.zeros(3, D, dtype=torch.float64),
        noise=torch.ones(3, dtype=torch.float64), shape=(D,),
    )  # fmt: skip
    for method in (MMPS(), PiGDM(), DDNM()):
        guided = guide(denoiser, [method], process=Gaussian(schedule=schedule), models=lambda other: denoiser)
        got = guided(x, t, weighted(Condition(measurement=nothing), [method], 3)).mean
        assert torch.equal(got, denoiser(x, t).mean)


def test_at_pure_noise_nothing_is_known_and_nothing_overflows():
    schedule = Rectified()
    denoiser = exact.Gaussian(schedule=schedule, mean=torch.zeros(D, dtype=torch.float64), cov=PRIOR)
    x = normal(2, D)
    for method in (MMPS(), PiGDM(), DDNM()):
        guided = guide(denoiser, [method], process=Gaussian(schedule=schedule), models=lambda other: denoiser)
        condition = weighted(Condition(measurement=measured(2)), [method], 2)
        for t in (0.0, 1.0):
            got = guided(x, torch.full((2,), t, dtype=torch.float64), condition).mean
            assert bool(got.isfinite().all())
