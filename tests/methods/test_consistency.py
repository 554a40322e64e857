"""A consistency model: its pairs of times, exact sampling with the exact flow map, and training that finds the map."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from langevin.diffusion.batch import Batch, step_randomness
from langevin.diffusion.denoiser import GaussianDenoiser
from langevin.diffusion.objective import LogNormal
from langevin.diffusion.posterior import Point
from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampler import UniformTimeGrid, sample, start
from langevin.diffusion.sampler.consistency import MultistepConsistency
from langevin.diffusion.schedule import rho
from langevin.methods import Consistency, consistency
from langevin.methods.consistency import ratio
from langevin.networks import MLP
from tests.laws.parts import FEW_SCHEDULES

MEAN, STD = 0.6, 0.5


def flow_map(process):
    """The end of the probability flow of N(MEAN, STD^2), which is affine."""

    def end(x_t, t, condition=None):
        alpha, sigma = process.scales(t, x_t)
        spread = (alpha.square() * STD**2 + sigma.square()).sqrt()
        return Point(MEAN + STD * (x_t - alpha * MEAN) / spread)

    return end


@pytest.mark.parametrize("schedule", FEW_SCHEDULES.values(), ids=FEW_SCHEDULES)
def test_with_the_exact_map_samples_are_right_after_any_number_of_steps(schedule):
    process, rows, tool = Gaussian(schedule=schedule, sigma_data=STD), 20_000, MultistepConsistency()
    counts = torch.tensor([1, 2, 5])
    times = UniformTimeGrid()(counts, schedule).repeat_interleave(rows, 0)
    begun = start(tool, process, torch.zeros(3 * rows, 1).double(), times, torch.arange(3 * rows))
    begun = replace(begun, x=begun.x + process.scales(begun.t, begun.x)[0] * MEAN)  # the prior is of data of mean 0
    *_, last = sample(tool, process, flow_map(process), begun)
    for x in last.x.split(rows):
        assert float(x.mean()) == pytest.approx(MEAN, abs=5 * STD / rows**0.5)
        assert float(x.std()) == pytest.approx(STD, rel=5 / (2 * rows) ** 0.5)


def test_the_pairs_are_those_of_the_formula_and_close_in():
    level = torch.tensor([0.01, 1.0, 80.0])
    assert ratio(level, 1).tolist() == pytest.approx([0.0, 0.0, 0.5], abs=1e-6)  # n is from 1 to 5
    shares = torch.stack([ratio(level, k) for k in range(1, 17)])
    assert bool((shares.diff(dim=0) >= 0).all())
    assert bool((shares[-1] < 1).all())
    assert float(1 - shares[-1, 1]) == pytest.approx((1 + 8 / (1 + math.e)) * 2.0**-16, rel=1e-2)


STAGE = 4


class FixedPoint(nn.Module):
    """m + slope(rho) (x_t / alpha - m) of the stage's own chain of times, by which f(x_t) is the mean of f(x_r) given x_t:
    Euler's method for the flow. `bump` adds what a gradient is taken of."""

    prediction = "edm"

    def __init__(self, process):
        super().__init__()
        self.process, self.bump = process, nn.Parameter(torch.zeros(2))

    def forward(self, x_t, t, condition=None):
        level, slope = rho(self.process.schedule, t), torch.ones(len(t), dtype=torch.float64)
        for _ in range(200):
            share = ratio(level / (2 * STD), STAGE)
            slope = slope * (1 + (share - 1) * level.square() / (STD**2 + level.square()))
            level = level * share
        y = x_t / self.process.scales(t, x_t)[0] - MEAN
        return Point(MEAN + slope[:, None] * y + self.bump[0] * y / (1 + y.square()) + self.bump[1])


@pytest.mark.parametrize("schedule", FEW_SCHEDULES.values(), ids=FEW_SCHEDULES)
def test_the_gradient_vanishes_where_a_step_agrees_with_the_next_in_the_mean(schedule, monkeypatch):
    monkeypatch.setattr(consistency, "HUBER", 1e4)  # where the norm is the square
    process, count = Gaussian(schedule=schedule, sigma_data=STD), 40_000
    network = FixedPoint(process)

    def gradients(mean):
        method = Consistency(process=process, denoiser=network, network=network, times=LogNormal(mean=0.0, std=1.0),
                             stages=STAGE)  # fmt: skip
        x = mean + STD * torch.randn(count, 1, generator=torch.Generator().manual_seed(1)).double()
        draw = step_randomness(seed=0, step=0, samples=torch.arange(count), count=count, progress=1.0)
        loss = method.loss("denoiser", Batch(x=x), draw).loss
        parts = [
            torch.autograd.grad(part.sum(), network.bump, retain_graph=True)[0] for part in loss.split(count // 50)
        ]
        each = torch.stack(parts)
        return each.mean(0) / (each.std(0) / len(each) ** 0.5)

    assert gradients(MEAN).abs().max() < 4
    assert gradients(MEAN + 0.3).abs().max() > 8  # other data


def spread_of_one_call(*, stages, steps):
    """The standard deviation of samples of one call, over that of the data, after training an MLP."""
    torch.manual_seed(0)
    process, network = Gaussian(sigma_data=STD), MLP.Config(width=32, depth=1, channels=1).build()
    denoiser = GaussianDenoiser(network=network, process=process)
    method = Consistency(
        process=process, denoiser=denoiser, network=network, times=LogNormal(mean=0.0, std=1.8), stages=stages
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=4e-3)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * min(1.0, 2 * (1 - step / steps))
        x = MEAN + STD * torch.randn(128, 1, generator=torch.Generator().manual_seed(step))
        draw = step_randomness(seed=0, step=step, samples=torch.arange(128), count=128, progress=step / steps)
        optimizer.zero_grad()
        method.loss("denoiser", Batch(x=x), draw).loss.mean().backward()
        optimizer.step()
    t = torch.full((2000,), 20 / 21, dtype=torch.float64)
    x_t = process.corrupt(MEAN + STD * torch.randn(2000, 1), t, step_randomness(
        seed=1, step=0, samples=torch.arange(2000), count=2000).noise)  # fmt: skip
    with torch.no_grad():
        return float(denoiser(x_t, t).mean.std()) / STD


def test_training_finds_samples_of_one_call_and_its_first_stage_alone_does_not():
    assert 0.75 < spread_of_one_call(stages=6, steps=900) < 1.15
    assert spread_of_one_call(stages=1, steps=300) < 0.6  # of five halvings of the noise, a step of Euler's each


@pytest.mark.parametrize("prediction", ["clean", "noise"])
def test_a_prediction_that_is_no_identity_at_0_or_undefined_at_1_is_refused(prediction):
    network, process = nn.Identity(), Gaussian()
    with pytest.raises(ValueError, match="identity at t = 0"):
        Consistency(
            process=process, denoiser=GaussianDenoiser(network=network, process=process, prediction=prediction),
            network=network, times=LogNormal(),
        )  # fmt: skip


@pytest.mark.parametrize("options", [{"stages": 0}, {"stages": 17}, {"condition_dropout": 1.0}])
def test_absurd_options_are_refused(options):
    with pytest.raises(ValueError, match=r"method\.(stages|condition_dropout)"):
        Consistency.Config(**options)
