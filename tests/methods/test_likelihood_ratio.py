"""The likelihood ratio of a denoiser to a reference: its value, the optimum it has, and the bias of few evaluations."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from langevin.diffusion.batch import Batch, step_randomness
from langevin.diffusion.condition import Condition, Port
from langevin.diffusion.posterior import Point
from langevin.diffusion.process import Gaussian
from langevin.diffusion.schedule import Rectified
from langevin.methods.likelihood_ratio import LikelihoodRatio
from tests import exact, tiny
from tests.laws.parts import FEW_SCHEDULES

LEVELS = (-8.0, 9.0)  # log-SNR
DATA, REFERENCE = (0.4, 0.5), (0.0, 1.0)  # mean and variance of a normal law


def drawn(count, step=0):
    return step_randomness(seed=0, step=step, samples=torch.arange(count), count=count)


class Normal(nn.Module):
    """The exact denoiser of N(mean, e^log_variance)."""

    def __init__(self, schedule, mean, variance):
        super().__init__()
        self.schedule = schedule
        values = (mean, math.log(variance))
        self.mean, self.log_variance = (nn.Parameter(torch.tensor(value, dtype=torch.float64)) for value in values)

    def forward(self, x_t, t, condition=None):
        variance = self.log_variance.exp()
        a, s = (f(t)[:, None] for f in (self.schedule.alpha, self.schedule.sigma))
        return Point(self.mean + a * variance / (a * a * variance + s * s) * (x_t - a * self.mean))


def made(denoiser, reference, *, schedule=Rectified(), fakes=None, levels=4, **options):  # noqa: B008
    network = denoiser if isinstance(denoiser, nn.Module) else nn.Linear(1, 1)
    fakes = Batch(x=torch.zeros(1, 1, dtype=torch.float64)) if fakes is None else fakes
    return LikelihoodRatio(
        process=Gaussian(schedule=schedule), denoiser=denoiser, network=network, reference=reference, fakes=fakes,
        log_snr=LEVELS, levels=levels, **options,
    )  # fmt: skip


def spread(count, law):
    """Normal quantiles, (count, 1): an integral over the law."""
    p = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return (law[0] + law[1] ** 0.5 * torch.special.ndtri(p))[:, None]


class InTurn(LikelihoodRatio):
    """Its fakes one after another, for an integral over their law."""

    def _fakes(self, count, draw):
        return self.fakes


@pytest.mark.parametrize("schedule", FEW_SCHEDULES.values(), ids=FEW_SCHEDULES)
def test_of_exact_denoisers_it_is_the_ratio_of_their_densities(schedule):
    data = exact.Mixture(schedule=schedule)
    reference = exact.Scalar(schedule=schedule, mean=0.2, variance=1.1)
    x = torch.linspace(-1.5, 1.6, 6, dtype=torch.float64)[:, None]
    count = 1500
    with torch.no_grad():
        method, rows = made(data, reference, schedule=schedule, levels=16), Batch(x=x.repeat_interleave(count, 0))
        draw = drawn(len(rows.x))
        u = (torch.arange(len(rows.x)) % count / count).double()
        each = method.log_ratio(rows, None, u, draw.noise).view(-1, count)
    clean = torch.zeros(len(x), dtype=torch.float64)
    normal = -0.5 * ((x - 0.2).square() / 1.1 + math.log(2 * math.pi * 1.1))
    expected = (data.log_density(x, clean) - normal)[:, 0]
    error = each.std(1) / count**0.5
    assert float(expected.max() - expected.min()) > 1
    assert bool(((each.mean(1) - expected).abs() < 4 * error + 0.02).all())  # beyond the levels there is little
    best, judged = expected.exp() / (1 + expected.exp()), each.mean(1).sigmoid()  # p_data / (p_data + p_ref)
    torch.testing.assert_close(judged, best, atol=0.03, rtol=0)


def gradient(levels, count, law=DATA, **options):
    """Of the loss by the trained mean and log-variance, with data and fakes as integrals over their laws."""
    network = Normal(Rectified(), *law)
    method = InTurn(
        process=Gaussian(), denoiser=network, network=network, reference=Normal(Rectified(), *REFERENCE),
        fakes=Batch(x=spread(count, REFERENCE)), log_snr=LEVELS, levels=levels, **options,
    )  # fmt: skip
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))  # times and examples are independent
    method.fakes = Batch(x=method.fakes.x[order.flip(0)])
    loss = method.loss("denoiser", Batch(x=spread(count, DATA)[order]), drawn(count)).loss.mean()
    return torch.stack(torch.autograd.grad(loss, [network.mean, network.log_variance]))


def test_the_loss_is_least_at_the_data_and_the_bias_of_few_evaluations_falls_as_their_number():
    """The reference is wrong. What is left of the gradient at the data halves with twice the levels, so twice the one less
    the other is 0; with few levels it points to the reference, which has less mean and more variance."""
    few, some, many = gradient(2, 20_000), gradient(16, 10_000), gradient(32, 10_000)
    assert few[0] > 0.02  # descending, the mean falls
    assert few[1] < -0.1  # and the variance rises
    assert bool((many.abs() < 0.7 * some.abs() + 0.004).all())
    torch.testing.assert_close(2 * many - some, torch.zeros(2, dtype=torch.float64), atol=0.008, rtol=0)
    for law in ((0.2, 0.5), (0.6, 0.5), (0.4, 0.35), (0.4, 0.7), REFERENCE):  # away from the data it is not
        assert float(gradient(32, 4000, law).abs().max()) > 0.05


def test_it_is_the_formula():
    """One level, one noise and its opposite, by hand; and beta is a factor on the ratio."""
    x, y, draw = torch.tensor([[0.3], [-0.7], [1.2]]).double(), torch.tensor([[0.9]]).double(), drawn(3)
    ours, theirs = Normal(Rectified(), *DATA), Normal(Rectified(), *REFERENCE)
    method = made(ours, theirs, fakes=Batch(x=y), levels=1, beta=0.3)

    def ratio(z, noise):
        level = LEVELS[0] + (LEVELS[1] - LEVELS[0]) * draw.u
        t, total = Rectified().time(level), 0
        eps = noise.fork(0).normal(z)
        for sign in (1, -1):
            x_t = (1 - t)[:, None] * z + sign * t[:, None] * eps
            errors = [(one(x_t, t).mean - z).square()[:, 0] for one in (theirs, ours)]
            total = total + 0.25 * (LEVELS[1] - LEVELS[0]) * level.exp() * (errors[0] - errors[1])
        return total

    real, fake = ratio(x, draw.corruption), ratio(y.expand(3, 1), draw.noise.fork(4))
    report = method.loss("denoiser", Batch(x=x), draw)
    torch.testing.assert_close(report.terms["real"], real)
    torch.testing.assert_close(report.loss, -(0.3 * real).sigmoid().log() - (-0.3 * fake).sigmoid().log())
    assert float(real.detach().abs().max()) > 0.5
    with pytest.raises(KeyError):
        method.loss("discriminator", Batch(x=x), draw)


def test_equal_weights_have_no_ratio_and_padding_no_part_in_it():
    """With dropout in the network too, and whatever is in what the data mask leaves out."""
    one, same = (tiny.method("dit", dropout=0.3).denoiser for _ in range(2))
    same.network.eval()
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    inside = torch.ones(4, 8, 8, dtype=torch.bool)
    inside[:, :, 5:] = False
    condition = Condition(global_=Port(tensor=torch.arange(4) % 3), data_mask=inside)
    method = made(one, same, fakes=Batch(x=x, condition=condition))
    method.network = one.network
    one.network.train()
    draw = drawn(4)
    report = method.loss("denoiser", Batch(x=x, condition=condition), draw)
    assert bool((report.terms["real"] == 0).all() and (report.terms["fake"] == 0).all())
    torch.testing.assert_close(report.plain, torch.full((4,), 2 * math.log(2)))
    assert one.network.training
    other = replace(tiny.method("dit", seed=1).denoiser, process=one.process)
    far = made(other, same)
    found = far.log_ratio(Batch(x=x, condition=condition), condition, draw.u, draw.noise)
    filled = torch.where(inside[:, None], x, 7.0)
    again = far.log_ratio(Batch(x=filled, condition=condition), condition, draw.u, draw.noise)
    torch.testing.assert_close(found, again)
    assert float(found.detach().abs().min()) > 0


@pytest.mark.parametrize("options", [{"levels": 0}, {"beta": 0.0}, {"beta": float("inf")}])
def test_absurd_options_are_refused(options):
    with pytest.raises(ValueError, match="a likelihood ratio is over"):
        made(Normal(Rectified(), *DATA), Normal(Rectified(), *REFERENCE), **options)
