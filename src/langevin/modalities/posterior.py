"""Plans that sample given a measurement, or by a reward, where guidance of one trajectory does not do: any modality can use
them.

    particles      many trajectories of each problem, weighted and resampled: exact as their number grows
    daps           data from the flow, moved by the likelihood, and noise anew, at falling levels
    split_gibbs    turns of the likelihood and of denoising at a falling level: exact as the turns grow at each level
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.float64 import to_float64
from langevin.diffusion.measurement import Measurement
from langevin.diffusion.measurement.operator import solve_by_cg
from langevin.diffusion.noise import SampleNoise, mix
from langevin.diffusion.particles import Weights
from langevin.diffusion.process.gaussian import Gaussian, reverse_step
from langevin.diffusion.sampler import Ancestral, Heun, KarrasGrid
from langevin.diffusion.sampling import Sampling
from langevin.diffusion.schedule import rho, time_of_rho
from langevin.diffusion.shape import append_dims
from langevin.modalities.modality import Draw, Predict, Request

HIGHEST = 1000.0  # sigma / alpha that turns begin from, for grids that begin at infinity
Draws = Generator[Request, Tensor, Tensor]
LogLikelihood = Callable[[Tensor, Tensor], Tensor]  # (D (b, ...), r^2 (b,)) -> (b,): of x with mean D and variance r^2


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Samples to draw with a Gaussian process.

    Args:
        process: of the model.
        shape: of a sample.
        seeds: (b,) int64, one for each answer.
        sampling: its grid and its number of steps are used, and its guidance where a method says so.
        condition: of the b answers; None is nothing.
    """

    process: Gaussian
    shape: tuple[int, ...]
    seeds: Tensor
    sampling: Sampling
    condition: Condition | None = None

    def times(self) -> Tensor:
        """(n + 1,) float64, falling to 0."""
        return self.sampling.grid(torch.tensor([self.sampling.steps]), self.process.schedule)[0]

    def noise(self, step: int) -> SampleNoise:
        """Fresh noise for a step."""
        return SampleNoise(seeds=self.seeds, steps=torch.full_like(self.seeds, step))

    def draw(self, x: Tensor, sampling: Sampling, step: int) -> Draw:
        """A draw from x, with noise of its own at each step."""
        seeds = mix(self.seeds, step)
        return Draw(shape=self.shape, seeds=seeds, sampling=sampling, condition=self.condition, x=x)

    def spread(self, t: Tensor) -> Tensor:
        """r^2 (b,) at t (b,): the variance of x given x_t, of white Gaussian data."""
        alpha, sigma = self.process.schedule.alpha(t), self.process.schedule.sigma(t)
        s2 = self.process.sigma_data**2
        return sigma**2 * s2 / (alpha**2 * s2 + sigma**2)


# --------------------------------------------------------------------------------------------------------- particles


@dataclass(frozen=True, kw_only=True)
class Steered:
    """The result of `particles`.

    Args:
        x: (g, n, ...) the particles.
        weights: theirs; resample by these, or take means with them.
        effective: (steps, g) the effective number of particles before each step.
    """

    x: Tensor
    weights: Weights
    effective: Tensor


def particles(
    problem: Problem, log_likelihood: LogLikelihood, *, count: int, below: float = 0.5, guided: bool = False
) -> Generator[Request, Tensor, Steered]:
    """Weighted particles, see `diffusion.particles`.

    Args:
        problem: its answers are `count` particles of each of b / count problems, one problem after another.
        log_likelihood: of clean data of which only mean and variance are known; with variance 0 it is the true one. A black
            box: it is not differentiated.
        below: resample where the effective number of particles is less than this share of `count`.
        guided: propose by the sampling's guidance, such as MMPS with the measurement in the condition ("twisted"); each
        step
            then costs a further evaluation.
    """
    schedule, g = problem.process.schedule, len(problem.seeds) // count
    times, weights = problem.times(), Weights.equal(g, count)
    first = SampleNoise(seeds=problem.seeds[::count], steps=torch.zeros(g, dtype=torch.int64))
    like = torch.zeros(len(problem.seeds), *problem.shape)
    x = problem.process.prior(like, problem.noise(-1), times[:1].expand(len(like)))
    before = torch.zeros(g, count, dtype=torch.float64)  # g_t of each particle
    effective = list[Tensor]()
    plain = replace(problem.condition, measurement=None) if problem.condition is not None else None
    for i, (t, s) in enumerate(pairwise(times)):
        at = t.expand(len(x))
        mean = yield Predict(x_t=x, t=at, condition=plain)
        guess = log_likelihood(mean, problem.spread(at)).double().cpu().view(g, count)
        weights = weights.times(guess - before)
        effective.append(weights.effective)
        weights, index = weights.resampled(SampleNoise(seeds=mix(first.seeds, i), steps=first.steps), below)
        flat = (index + torch.arange(g)[:, None] * count).flatten()
        x, mean, before = x[flat], mean[flat], guess.gather(1, index)
        a, b, c = (float(v) for v in reverse_step(schedule, t, s, 1.0))
        proposed = mean
        if guided and c > 0:
            proposed = yield Predict(x_t=x, t=at, condition=problem.condition, sampling=problem.sampling)
        z = problem.noise(i).normal(x)
        new = a * x + b * proposed + c * z
        if guided and c > 0:
            shift = b * (proposed - mean) / c  # log p - log q of equal variances: |z|^2 / 2 - |z + shift|^2 / 2
            ratio = -(shift * z + shift.square() / 2).double().flatten(1).sum(1).view(g, count).cpu()
            weights = weights.times(ratio)
        x = new
    final = log_likelihood(x, torch.zeros(len(x), dtype=torch.float64)).double().cpu().view(g, count)
    weights = weights.times(final - before)
    return Steered(x=x.view(g, count, *problem.shape), weights=weights, effective=torch.stack(effective))


def of_measurement(measurement: Measurement) -> LogLikelihood:
    """The log-likelihood of a measurement, its noise widened by what is not known of x; up to a constant for the true one.

    ln N(y; h(A D), s^2 + r^2), with r^2 as if rows of A had length 1: a guess for r > 0, and exact for r = 0."""

    def log_likelihood(mean: Tensor, r2: Tensor) -> Tensor:
        residual = measurement.residual(mean).flatten(1).double()
        s2 = to_float64(measurement.noise).square()
        variance = s2 + r2.to(s2)
        return -0.5 * (residual.square().sum(1) / variance + residual.shape[1] * (variance / s2).log())

    return log_likelihood


# ------------------------------------------------------------------------------------------- turns of the likelihood


def daps(problem: Problem, measurement: Measurement, *, flow_steps: int = 5, moves: int = 100) -> Draws:
    """Decoupled annealing posterior sampling ("Improving Diffusion Inverse Problem Solving with Decoupled Noise Annealing",
    2024, arXiv:2407.01521): at each level, follow the flow to data, draw x given it and the measurement, add noise anew.

    Args:
        flow_steps: steps of the flow at each level.
        moves: Langevin steps for a measurement that is not linear; linear ones are drawn exactly.
    """
    times, schedule = problem.times(), problem.process.schedule
    count = len(problem.seeds)
    like = torch.zeros(count, *problem.shape)
    x = problem.process.prior(like, problem.noise(-1), times[:1].expand(count))
    for i, (t, s) in enumerate(pairwise(times)):
        level = min(HIGHEST, float(rho(schedule, t)))
        low = min(0.01, level / 4)
        flow = replace(
            problem.sampling, sampler=Heun(), steps=flow_steps, guidance=(), grid=KarrasGrid(low=low, high=level)
        )
        clean = yield problem.draw(x, flow, i)
        drawn = given(measurement, clean, problem.spread(t[None]), problem.noise(i).fork(1), moves)
        x = problem.process.corrupt(drawn, s.expand(count), problem.noise(i).fork(2))
    return x


def split_gibbs(
    problem: Problem, measurement: Measurement, *, turns: int = 2, denoise_steps: int = 10, moves: int = 100
) -> Draws:
    """Split Gibbs sampling with a diffusion prior ("Principled Probabilistic Imaging using Diffusion Models as
    Plug-and-Play Priors", 2024, arXiv:2405.18782): x given y and z, |x - z|^2 / 2 rho^2 apart, then z given x by denoising,
    at falling rho.

    Args:
        turns: of both, at each level.
        denoise_steps: steps of the reverse process from rho.
        moves: as in `daps`.
    """
    schedule, count = problem.process.schedule, len(problem.seeds)
    levels = rho(schedule, problem.times()[:-1]).clamp_max(HIGHEST)
    z = torch.zeros(count, *problem.shape)
    step = 0
    for level in levels:
        for _ in range(turns):
            x = given(measurement, z, level[None] ** 2, problem.noise(step).fork(1), moves)
            sampling = replace(
                problem.sampling, sampler=Ancestral(), steps=denoise_steps, guidance=(),
                grid=KarrasGrid(low=min(0.002, float(level) / 10), high=float(level)),
            )  # fmt: skip
            start = schedule.alpha(time_of_rho(schedule, level)).to(x) * x
            z = yield problem.draw(start, sampling, step)
            step += 1
    return z


def given(measurement: Measurement, mean: Tensor, r2: Tensor, noise: SampleNoise, moves: int) -> Tensor:
    """A draw of x ~ N(mean, r^2) given the measurement, (b, ...).

    For a linear one, perturbed data and mean are solved for: x + r^2 A' (r^2 A A' + s^2)^-1 (y' - A x) with x ~ N(mean,
    r^2) and y' = y + s n is an exact draw. For others `moves` steps of Langevin dynamics, scaled to the narrower of prior
    and noise.
    """
    width = append_dims(r2.clamp_min(1e-12), mean).to(mean)
    if measurement.nonlinearity is not None:
        return moved(measurement, mean, width, noise, moves)
    x = mean + width.sqrt() * noise.fork(1).normal(mean)
    residual = measurement.residual(x)
    residual = residual + measurement.variance(residual).sqrt() * noise.fork(2).normal(residual)
    operator = measurement.operator

    def matrix(u: Tensor) -> Tensor:
        return operator.forward(width * operator.adjoint(u)) + measurement.variance(u) * u

    return x + width * operator.adjoint(solve_by_cg(matrix, residual, iterations=100, tolerance=1e-5))


def moved(measurement: Measurement, mean: Tensor, width: Tensor, noise: SampleNoise, moves: int) -> Tensor:
    """Langevin dynamics on -|y - h(A x)|^2 / 2 s^2 - |x - mean|^2 / 2 r^2, from the mean."""
    s2 = measurement.variance(mean)
    step = 0.1 * s2 * width / (s2 + width)
    x = mean.clone()
    for k in range(moves):
        with torch.enable_grad():
            at = x.detach().requires_grad_()
            slope = torch.autograd.grad(measurement.log_likelihood(at).sum(), at)[0]
        z = SampleNoise(seeds=noise.seeds, steps=noise.steps + (k + 1) * 2**32).normal(x)
        x = x + step * (slope - (x - mean) / width) + (2 * step).sqrt() * z
    return x
