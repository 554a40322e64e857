"""The policy gradient on the line, where chains of a linear denoiser are normal and everything has a closed form."""

import math

import pytest
import torch
from torch import nn

from langevin.diffusion.batch import Batch, step_randomness
from langevin.diffusion.posterior import Point
from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampler import Ancestral, start
from langevin.diffusion.transitions import transitions_of
from langevin.methods.policy_gradient import PolicyGradient, draw_chains
from tests import exact

TIMES = torch.tensor([1.0, 0.75, 0.5, 0.3, 0.15], dtype=torch.float64)  # the last step has noise too
PROCESS, SAMPLER = Gaussian(), Ancestral()
LAW = transitions_of(SAMPLER, PROCESS)
EXACT = exact.Scalar(mean=0.3, variance=0.7)
A, B, C = LAW.step(TIMES[:-1], TIMES[1:])


class Moved(nn.Module):
    """The exact denoiser with a shift for each step, and one more gain: D' = (1 + gain) D + shift."""

    def __init__(self, shift=0.0, gain=0.0):
        super().__init__()
        self.shift = nn.Parameter(torch.full((len(TIMES) - 1,), shift, dtype=torch.float64))
        self.gain = nn.Parameter(torch.tensor(gain, dtype=torch.float64))

    def forward(self, x_t, t, condition=None):
        at = (t[:, None] - TIMES[:-1]).abs().argmin(1)
        return Point((1 + self.gain) * EXACT(x_t, t).mean + self.shift[at][:, None])


def objective(network, linear, quadratic, scale, leash):
    """E[linear x + quadratic x^2 / 2] / scale - leash KL in closed form, and the mean and variance of x at the end."""
    mean, variance = torch.zeros((), dtype=torch.float64), PROCESS.schedule.sigma(TIMES[0]) ** 2
    divergence = torch.zeros((), dtype=torch.float64)
    for i in range(len(TIMES) - 1):
        d0, d1 = (EXACT(torch.tensor([[x]]).double(), TIMES[i : i + 1]).mean[0, 0] for x in (0.0, 1.0))
        const, slope = d0, d1 - d0  # D = const + slope x
        away = network.gain * const + network.shift[i], network.gain * slope
        squared = (away[0] + away[1] * mean).square() + away[1].square() * variance
        divergence = divergence + B[i].square() / (2 * C[i].square()) * squared
        total = A[i] + B[i] * (slope + away[1])
        mean, variance = total * mean + B[i] * (const + away[0]), total.square() * variance + C[i].square()
    reward = linear * mean + 0.5 * quadratic * (mean.square() + variance)
    return reward / scale - leash * divergence, divergence, mean, variance


def drawn(network, count, seed=0):
    state = start(SAMPLER, PROCESS, torch.zeros(count, 1).double(), TIMES.expand(count, -1), seed + torch.arange(count))
    return draw_chains(SAMPLER, PROCESS, LAW, network, EXACT, state, None)


def method_of(network, leash, clip=0.2):
    return PolicyGradient(
        transitions=LAW, denoiser=network, network=network, reference=EXACT, leash=leash, clip=clip
    )  # fmt: skip


def estimate(network, reward, scale, leash, *, group=4, count=6000, sets=16):
    """The gradient of the objective by the method, with its standard error, over independent sets of chains."""
    method, found = method_of(network, leash), []
    weights = list(network.parameters())
    for seed in range(sets):
        chains = drawn(network, count, seed=10**6 * seed)
        steps = chains.steps(reward(chains.x[:, 0]), group=group, scale=scale, leash=leash)
        draw = step_randomness(seed=0, step=0, samples=torch.arange(len(steps.t)), count=len(steps.t))
        loss = -method.loss("denoiser", Batch(x=steps), draw).loss.double().sum() / count
        found.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)]))
    every = torch.stack(found)
    return every.mean(0), every.std(0) / math.sqrt(sets)


@pytest.mark.parametrize(("linear", "quadratic"), [(1.0, 0.0), (0.5, -1.0)], ids=["linear", "quadratic"])
@pytest.mark.parametrize("leash", [0.0, 0.4])
def test_its_expectation_is_the_gradient_of_the_expected_reward_less_the_leash(linear, quadratic, leash):
    """Away from the reference, where the leash pulls at its own step and by where earlier steps lead."""
    network, scale = Moved(shift=0.25, gain=0.1), 0.8
    value = objective(network, linear, quadratic, scale, leash)[0]
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(value, list(network.parameters()))])
    found, error = estimate(network, lambda x: linear * x + 0.5 * quadratic * x.square(), scale, leash)
    assert float((expected.abs() / error).max()) > 20  # it is seen
    assert bool(((found - expected).abs() < 4.5 * error).all()), (found, expected, error)


def test_the_chains_divergence_is_its_closed_form_and_0_at_the_reference():
    network = Moved(shift=0.25, gain=0.1)
    each = drawn(network, 20_000).divergence.sum(0)
    expected = float(objective(network, 0, 0, 1, 0)[1].detach())
    assert abs(float(each.mean()) - expected) < 4 * float(each.std()) / math.sqrt(20_000)
    assert bool((drawn(Moved(), 50).divergence == 0).all())


def test_the_optimum_of_a_linear_reward_is_the_tilted_law():
    """p_ref(chain) exp(r x / (scale leash)): the mean at the end moves by r variance / (scale leash), the variance stays.
    Its steps move by what they add to that: c^2 times how much the end follows the step. There the gradient is 0."""
    slope, scale, leash = 1.3, 0.8, 0.5
    network, follows = Moved(), 1.0
    for i in reversed(range(len(TIMES) - 1)):
        with torch.no_grad():
            network.shift[i] = C[i].square() / B[i] * follows * slope / (scale * leash)
        d0, d1 = (EXACT(torch.tensor([[x]]).double(), TIMES[i : i + 1]).mean[0, 0] for x in (0.0, 1.0))
        follows = follows * (A[i] + B[i] * (d1 - d0))
    # the first state is drawn from the prior, which no weight moves: the law is tilted given it
    with torch.no_grad():
        _, _, mean, variance = objective(network, slope, 0, scale, leash)
        _, _, before, same = objective(Moved(), slope, 0, scale, leash)
    given = same - follows.square() * PROCESS.schedule.sigma(TIMES[0]) ** 2
    assert float(mean - before) == pytest.approx(float(slope * given / (scale * leash)))
    assert float(variance) == pytest.approx(float(same))
    found, error = estimate(network, lambda x: slope * x, scale, leash)
    assert bool((found.abs() < 4.5 * error).all()), (found, error)
    start_, error = estimate(Moved(), lambda x: slope * x, scale, leash)
    assert bool((start_[:-1] > 10 * error[:-1]).all())


def test_an_endless_leash_is_the_base_and_a_constant_reward_moves_nothing():
    network = Moved()
    steps = drawn(network, 64).steps(torch.full((64,), 3.0), group=8, scale=1.0, leash=1e9)
    assert bool((steps.advantage == 0).all())
    away = Moved(shift=0.01)
    found, error = estimate(away, lambda x: x, 1.0, 1e6, count=500, sets=4)
    assert bool((found[:-1] < -10 * error[:-1]).all())  # back, whatever the reward says


def test_a_step_of_equal_weights_has_ratio_1_and_a_clipped_one_no_gradient():
    network = Moved(shift=0.1)
    chains = drawn(network, 32)
    steps = chains.steps(chains.x[:, 0], group=4, scale=1.0, leash=0.0)
    draw = step_randomness(seed=0, step=0, samples=torch.arange(128), count=128)
    report = method_of(network, 0.0).loss("denoiser", Batch(x=steps), draw)
    torch.testing.assert_close(report.loss.double(), -steps.advantage, atol=1e-6, rtol=1e-6)
    assert float(report.terms["clipped"].sum()) == 0
    with torch.no_grad():
        network.shift += 1.0
    report = method_of(network, 0.0).loss("denoiser", Batch(x=steps), draw)
    beyond = report.terms["clipped"] > 0
    assert bool(beyond.any())
    assert not bool(beyond.all())
    report.loss[beyond].sum().backward()
    assert bool((network.shift.grad == 0).all())


def test_advantages_are_against_the_others_of_the_group():
    chains = drawn(Moved(), 4)
    steps = chains.steps(torch.tensor([1.0, 3.0, 10.0, 20.0]), group=2, scale=2.0, leash=0.7)
    expected = torch.tensor([-1.0, 1.0, -5.0, 5.0], dtype=torch.float64)  # (r - the other) / scale
    torch.testing.assert_close(steps.advantage.view(4, 4), expected.expand(4, 4))
    assert torch.equal(steps.x_t.view(4, 4, 1), chains.x_t)


@pytest.mark.parametrize("wrong", [{"leash": -1.0}, {"leash": float("nan")}, {"leash": 0.1, "clip": 0.0}])
def test_absurd_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="leash"):
        method_of(Moved(), **wrong)
    with pytest.raises(KeyError):
        method_of(Moved(), 0.1).loss("judge", Batch(x=None), None)
