"""Plans of particles and of turns, against posteriors in closed form and on grids."""

from dataclasses import replace

import pytest
import torch

from langevin.diffusion.condition import Condition
from langevin.diffusion.guidance import MMPS, active, guide, weighted
from langevin.diffusion.measurement import Matrix, Measurement
from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.particles import Weights
from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampler import KarrasGrid, sample, start
from langevin.diffusion.sampling import Sampling
from langevin.diffusion.schedule import Rectified
from langevin.modalities.modality import Draw
from langevin.modalities.posterior import Problem, daps, given, of_measurement, particles, split_gibbs
from tests import exact

SCHEDULE = Rectified()
D = 3


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def driven(plan, process, denoiser):
    """Drive a plan with a denoiser in closed form; returns its result and the evaluations of the denoiser by a sample."""
    result, count = None, 0
    while True:
        try:
            request = plan.send(result)
        except StopIteration as done:
            return done.value, count
        if isinstance(request, Draw):
            b, s = len(request.seeds), request.sampling
            times = s.grid(torch.full((b,), s.steps), process.schedule)
            state = start(s.sampler, process, request.x, times, request.seeds, x=request.x)
            for told in sample(s.sampler, process, denoiser, state):
                state, count = told, count + 1
            result = state.x
            continue
        guided, condition = denoiser, request.condition
        if request.sampling is not None:
            methods = active(request.sampling.guidance)
            guided = guide(denoiser, methods, process=process, models=lambda other: denoiser)
            condition = weighted(condition, methods, len(request.x_t))
        result, count = guided(request.x_t, request.t, condition).mean, count + 1


CLOUDS = exact.white_clouds(SCHEDULE, D)
SEES = torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, -1.0]], dtype=torch.float64)
Y, STD = torch.tensor([0.4, -0.3], dtype=torch.float64), 0.25


def posterior_of_clouds():
    """Weights, means and covariances of the mixture given y, and ln p(y)."""
    noise = STD**2 * torch.eye(2, dtype=torch.float64)
    log, means, covs = [], [], []
    for w, m, cov in zip(CLOUDS.weights, CLOUDS.means, CLOUDS.covs, strict=True):
        r = SEES @ cov @ SEES.T + noise
        gain = cov @ SEES.T @ torch.linalg.inv(r)
        off = Y - SEES @ m
        log.append(w.log() - 0.5 * (off @ torch.linalg.solve(r, off) + torch.logdet(2 * torch.pi * r)))
        means.append(m + gain @ off)
        covs.append(cov - gain @ SEES @ cov)
    log = torch.stack(log)
    w, means = log.softmax(0), torch.stack(means)
    mean = (w[:, None] * means).sum(0)
    off = means - mean
    cov = (w[:, None, None] * (torch.stack(covs) + off[:, :, None] * off[:, None])).sum(0)
    return mean, cov, log.logsumexp(0)


def measured(count):
    operator = Matrix(matrix=SEES.expand(count, -1, -1), shape=(D,))
    return Measurement(operator=operator, y=Y.expand(count, -1), noise=torch.full((count,), STD).double(), shape=(D,))


def problem(count, *, steps=60, guidance=()):
    process = Gaussian(schedule=SCHEDULE, sigma_data=0.6)
    sampling = Sampling(grid=KarrasGrid(low=0.002, high=80.0), steps=steps, guidance=guidance)
    return Problem(
        process=process, shape=(D,), seeds=torch.arange(count), sampling=sampling,
        condition=Condition(measurement=measured(count)),
    )  # fmt: skip


@pytest.mark.parametrize("guided", [False, True])
def test_particles_have_the_posterior_of_a_mixture_and_its_evidence(guided):
    """Of twenty groups of 200: mean, covariance, and the evidence, whose estimate is unbiased."""
    groups, count, steps = 20, 200, 250
    task = problem(groups * count, steps=steps, guidance=(MMPS(iterations=3, tolerance=0.0, several=(0.0, 1e9)),))
    plan = particles(task, of_measurement(measured(groups * count)), count=count, guided=guided)
    found, calls = driven(plan, task.process, CLOUDS)
    mean, cov, evidence = posterior_of_clouds()
    w = (found.weights.log.softmax(1) / groups)[..., None]
    got = (w * found.x).sum((0, 1))
    off = found.x - got
    spread = torch.einsum("gni,gnj->ij", w * off, off)
    assert calls == (2 * steps - 1 if guided else steps)
    assert float((got - mean).norm() / mean.norm()) < (0.05 if guided else 0.08)
    assert float((spread - cov).norm() / cov.norm()) < 0.1
    constant = -len(Y) * torch.log(torch.tensor(STD * (2 * torch.pi) ** 0.5, dtype=torch.float64))
    estimate = found.weights.total.logsumexp(0) - torch.log(torch.tensor(float(groups))) + constant
    assert float(estimate) == pytest.approx(float(evidence), abs=0.06)
    assert 1 <= float(found.effective.min()) <= float(found.effective.max()) <= count


def test_guided_particles_stay_effective_where_blind_ones_do_not():
    effective = []
    for guided in (False, True):
        task = problem(64, guidance=(MMPS(iterations=3),))
        found, _ = driven(particles(task, of_measurement(measured(64)), count=64, guided=guided), task.process, CLOUDS)
        effective.append(float(found.effective.mean()))
    assert effective[1] > 1.03 * effective[0]


def test_a_reward_that_is_a_black_box_tilts_the_samples():
    """x[0] > 0 only: a step, which has no gradient. Its probability under the prior is the evidence."""
    groups, count = 20, 200
    task = replace(problem(groups * count), condition=None)

    def reward(mean, r2):
        return torch.where((mean[:, 0] > 0) | (r2 > 0), 0.0, -torch.inf)

    found, _ = driven(particles(task, reward, count=count), task.process, CLOUDS)
    drawn = CLOUDS.draw(200_000, torch.Generator().manual_seed(1))
    inside = drawn[:, 0] > 0
    w = (found.weights.log.softmax(1) / groups)[..., None]
    assert bool((found.x[..., 0] > 0)[found.weights.log > -torch.inf].all())
    torch.testing.assert_close((w * found.x).sum((0, 1)), drawn[inside].mean(0), rtol=0, atol=0.05)
    total = found.weights.total.logsumexp(0).exp() / groups
    assert float(total) == pytest.approx(float(inside.double().mean()), abs=0.03)


def test_problems_of_a_batch_are_independent():
    task = problem(30)
    whole, _ = driven(particles(task, of_measurement(measured(30)), count=10), task.process, CLOUDS)
    alone = replace(task, seeds=task.seeds[10:20], condition=Condition(measurement=measured(10)))
    one, _ = driven(particles(alone, of_measurement(measured(10)), count=10), task.process, CLOUDS)
    torch.testing.assert_close(whole.x[1], one.x[0])
    torch.testing.assert_close(whole.weights.log[1], one.weights.log[0])


# ----------------------------------------------------------------------------------------------------------- weights


def test_resampling_keeps_expectations_and_the_evidence():
    g, n = 4000, 8
    weights = Weights.equal(g, n).times(normal(1, n).expand(g, -1) * 2)
    p = weights.log.softmax(1)[0]
    noise = SampleNoise(seeds=torch.arange(g), steps=torch.zeros(g, dtype=torch.int64))
    new, index = weights.resampled(noise, below=1.0)
    counts = torch.stack([(index == k).double().mean() for k in range(n)])
    torch.testing.assert_close(counts, p, rtol=0, atol=0.004)
    torch.testing.assert_close(new.total, weights.total)
    torch.testing.assert_close(new.effective, torch.full((g,), float(n), dtype=torch.float64))
    same, index = weights.resampled(noise, below=0.0)
    assert torch.equal(same.log, weights.log)
    assert torch.equal(index, torch.arange(n).expand(g, -1))


def test_weights_that_all_vanish_or_are_no_numbers_lose_nothing():
    weights = Weights.equal(2, 3)
    kept = weights.times(torch.tensor([[-torch.inf] * 3, [0.0, torch.nan, -1.0]]))
    assert torch.equal(kept.log[0], weights.log[0])
    assert kept.log[1].tolist() == [0.0, -torch.inf, -1.0]


# ------------------------------------------------------------------------------------------------------------- turns


def test_a_draw_given_a_linear_measurement_has_its_closed_form():
    b, r2 = 40_000, 0.3
    mean = torch.tensor([0.2, -0.1, 0.4], dtype=torch.float64)
    noise = SampleNoise(seeds=torch.arange(b), steps=torch.zeros(b, dtype=torch.int64))
    x = given(measured(b), mean.expand(b, -1), torch.tensor([r2], dtype=torch.float64), noise, 0)
    gain = r2 * SEES.T @ torch.linalg.inv(r2 * SEES @ SEES.T + STD**2 * torch.eye(2, dtype=torch.float64))
    torch.testing.assert_close(x.mean(0), mean + gain @ (Y - SEES @ mean), rtol=0, atol=0.01)
    wanted = r2 * (torch.eye(D, dtype=torch.float64) - gain @ SEES)
    torch.testing.assert_close(torch.cov(x.T), wanted, rtol=0, atol=0.01)


def test_turns_of_likelihood_and_denoising_come_near_the_posterior_of_a_mixture_and_daps_does_not():
    """More turns at each level bring split Gibbs nearer; DAPS takes x given x_t for white, which these data are not."""
    mean, cov, _ = posterior_of_clouds()
    off = {}
    for name, plan in (
        ("few", lambda task: split_gibbs(task, measured(2000), turns=1, denoise_steps=10)),
        ("many", lambda task: split_gibbs(task, measured(2000), turns=6, denoise_steps=30)),
        ("daps", lambda task: daps(task, measured(2000))),
    ):
        task = problem(2000, steps=15)
        x, _ = driven(plan(task), task.process, CLOUDS)
        x = x.double()
        off[name] = (float((x.mean(0) - mean).norm() / mean.norm()), float((torch.cov(x.T) - cov).norm() / cov.norm()))
    assert off["many"][0] < min(0.2, off["few"][0])
    assert off["many"][1] < 0.15
    assert off["many"][1] < off["few"][1]
    assert off["daps"][1] > 0.5


@pytest.mark.parametrize("method", [daps, split_gibbs])
def test_a_measurement_that_is_not_linear_leaves_both_signs(method):
    """y = |x| + noise with x ~ N(0.1, 0.5^2): two modes, whose shares and moments a grid tells."""
    count, y, std, spread = 2000, 0.6, 0.1, 0.5
    process = Gaussian(schedule=SCHEDULE, sigma_data=spread)
    denoiser = exact.Scalar(schedule=SCHEDULE, mean=0.1, variance=spread**2)
    sampling = Sampling(grid=KarrasGrid(low=0.005, high=20.0), steps=30)
    task = Problem(process=process, shape=(1,), seeds=torch.arange(count), sampling=sampling)
    eye = Matrix(matrix=torch.ones(count, 1, 1, dtype=torch.float64), shape=(1,))
    noise, seen = torch.full((count,), std).double(), torch.full((count, 1), y).double()
    measurement = Measurement(operator=eye, y=seen, noise=noise, shape=(1,), nonlinearity=torch.abs)
    x, _ = driven(method(task, measurement), process, denoiser)
    line = torch.linspace(-3, 3, 6001, dtype=torch.float64)
    p = torch.exp(-0.5 * ((y - line.abs()) / std) ** 2 - 0.5 * ((line - 0.1) / spread) ** 2)
    p = p / p.sum()
    assert float(x.abs().mean()) == pytest.approx(float((p * line.abs()).sum()), abs=0.03)
    assert float((x > 0).double().mean()) == pytest.approx(float(p[line > 0].sum()), abs=0.12)
    assert 0.05 < float(x.abs().std()) < 0.16
