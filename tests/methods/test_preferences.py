"""DPO: its loss at equal networks, the sign of its gradient, and the optimum that it has."""

import math

import pytest
import torch

from langevin.diffusion.batch import Batch, step_randomness
from langevin.diffusion.process import Gaussian
from langevin.diffusion.schedule import Rectified
from langevin.methods.log_ratio import LogRatio
from langevin.methods.preferences import Pairs, Preferences
from tests.methods.test_likelihood_ratio import LEVELS, Normal, spread

REFERENCE = (0.0, 1.0)


def method_of(network, leash=0.5, levels=4):
    ratio = LogRatio(
        process=Gaussian(), denoiser=network, network=network, reference=Normal(Rectified(), *REFERENCE),
        log_snr=LEVELS, levels=levels,
    )  # fmt: skip
    return Preferences(ratio=ratio, network=network, leash=leash)


def drawn(count):
    return step_randomness(seed=0, step=0, samples=torch.arange(count), count=count)


def test_at_equal_networks_the_loss_is_ln_2_and_its_gradient_makes_the_better_likelier():
    network = Normal(Rectified(), *REFERENCE)
    better, worse = spread(200, (1.0, 0.2)), spread(200, (-1.0, 0.2))
    report = method_of(network).loss("denoiser", Batch(x=Pairs(better=better, worse=worse)), drawn(200))
    torch.testing.assert_close(report.loss, torch.full((200,), math.log(2), dtype=torch.float64))
    report.loss.mean().backward()
    assert float(network.mean.grad) < 0  # descending, the mean moves to the better ones
    swapped = Normal(Rectified(), *REFERENCE)
    pairs = Batch(x=Pairs(better=worse, worse=better))
    method_of(swapped).loss("denoiser", pairs, drawn(200)).loss.mean().backward()
    assert float(swapped.mean.grad) > 0


def test_the_implicit_reward_is_leash_times_the_log_ratio():
    network = Normal(Rectified(), 0.4, 0.8)
    pairs = Pairs(better=spread(50, (0.5, 0.5)), worse=spread(50, (0.2, 0.5)))
    report = method_of(network, leash=0.3).loss("denoiser", Batch(x=pairs), drawn(50))
    reward = 0.3 * (report.terms["better"] - report.terms["worse"])
    torch.testing.assert_close(report.loss, -reward.sigmoid().log())


def gradient(mean, leash, slope, levels):
    """Of the loss by the mean at N(mean, 1), over pairs of N(0, 1) that are ranked with the probability
    sigmoid(slope (x - y)), as integrals."""
    network, count = Normal(Rectified(), mean, 1.0), 4000
    generator = torch.Generator().manual_seed(0)
    x, y = (spread(count, REFERENCE)[torch.randperm(count, generator=generator)] for _ in range(2))
    chance = (slope * (x - y)).sigmoid()[:, 0]
    method, total = method_of(network, leash, levels), torch.zeros((), dtype=torch.float64)
    for weight, pairs in ((chance, Pairs(better=x, worse=y)), (1 - chance, Pairs(better=y, worse=x))):
        total = total + (weight * method.loss("denoiser", Batch(x=pairs), drawn(count)).loss).mean()
    return float(torch.autograd.grad(total, network.mean)[0])


def test_the_optimum_is_the_tilted_law():
    """Of r = slope x, N(0, 1) tilted by exp(r / leash) is N(slope / leash, 1). What few levels leave of the gradient there
    halves with twice as many."""
    leash, slope = 0.8, 0.4
    some, many = (gradient(slope / leash, leash, slope, levels) for levels in (16, 32))
    assert abs(2 * many - some) < 0.006
    assert gradient(0.2, leash, slope, 32) < -0.02  # from below it rises, from above it falls
    assert gradient(0.9, leash, slope, 32) > 0.02


@pytest.mark.parametrize("leash", [0.0, -1.0, float("inf")])
def test_absurd_settings_are_refused(leash):
    with pytest.raises(ValueError, match="leash"):
        method_of(Normal(Rectified(), *REFERENCE), leash)
    with pytest.raises(KeyError):
        method_of(Normal(Rectified(), *REFERENCE)).loss("judge", Batch(x=None), drawn(1))
