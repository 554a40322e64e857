"""Anchoring: the Fisher information of a linear model in closed form, and a penalty that is nothing at its reference."""

import pytest
import torch
from torch import nn

from langevin.diffusion.batch import Batch, step_randomness
from langevin.methods.anchor import Anchor, fisher
from langevin.methods.method import Player, Report
from tests import tiny


class Linear:
    """Denoising x ~ N(0, s^2) from x_t = x + sigma noise by D = a x_t, at one level of noise; and a weight without use."""

    def __init__(self, a, *, sigma):
        module = nn.ParameterDict({"a": torch.tensor(a, dtype=torch.float64), "b": torch.zeros(())})
        self.sigma, self.module = sigma, module
        self.players = {"denoiser": Player(module=module)}

    def loss(self, player, batch, draw):
        x_t = batch.x + self.sigma * draw.noise.normal(batch.x)
        loss = (batch.x - self.module["a"] * x_t).square().mean(1)
        return Report(loss=loss, plain=loss.detach())


def alone(x, seed=3):
    """Each example as a batch of one."""
    draws = step_randomness(seed=seed, step=0, samples=torch.arange(len(x)), count=len(x))
    for i in range(len(x)):
        at = torch.tensor([i])
        yield Batch(x=x[at]), draws.select(at)


@pytest.mark.parametrize(("s", "sigma"), [(1.0, 0.5), (2.0, 1.5)])
def test_the_fisher_information_of_a_linear_denoiser_is_its_closed_form(s, sigma):
    """At the optimum, a = s^2 / v with v = s^2 + sigma^2, the residual r is independent of x_t. Its variance is
    s^2 sigma^2 / v, the gradient is -2 r x_t, and the mean of its square 4 s^2 sigma^2."""
    v = s**2 + sigma**2
    x = s * torch.randn(1000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = fisher(Linear(s**2 / v, sigma=sigma), alone(x))  # type: ignore[arg-type]
    expected = 4 * s**2 * sigma**2
    error = expected * (8 / len(x)) ** 0.5  # E r^4 x^4 = 9 (E r^2 x^2)^2
    assert abs(float(found["a"]) - expected) < 4 * error
    assert float(found["b"]) == 0  # which the loss does not read


def test_off_the_optimum_the_square_of_the_mean_gradient_is_a_part_of_it():
    x = torch.tensor([[1.0], [2.0], [-1.0]], dtype=torch.float64)
    found = fisher(Linear(0.25, sigma=0.0), alone(x))  # type: ignore[arg-type]
    expected = torch.stack([2 * (0.75 * one) * one for one in x[:, 0]]).square().mean()
    torch.testing.assert_close(found["a"].double(), expected)


def test_the_penalty_is_quadratic_and_nothing_at_the_reference():
    weights = {"a": nn.Parameter(torch.tensor([1.0, 2.0])), "b": nn.Parameter(torch.ones(3))}
    anchor = Anchor.at(weights, {"a": torch.tensor([0.5, 0.0]), "b": torch.full((3,), 2.0)}, 4.0)
    assert float(anchor().detach()) == 0
    with torch.no_grad():
        weights["a"].add_(torch.tensor([3.0, 7.0]))
        weights["b"].sub_(0.5)
    assert float(anchor().detach()) == pytest.approx(0.5 * 4 * (0.5 * 9 + 3 * 2 * 0.25))
    anchor().backward()
    torch.testing.assert_close(weights["a"].grad, torch.tensor([4 * 0.5 * 3, 0.0]))


def test_an_anchor_of_another_network_is_refused():
    weights = {"a": nn.Parameter(torch.ones(2))}
    for wrong in ({}, {"a": torch.ones(3)}, {"b": torch.ones(2)}):
        with pytest.raises(ValueError, match="of another network"):
            Anchor.at(weights, wrong, 1.0)


def test_the_method_adds_it_to_its_loss_and_shows_it_as_a_term():
    method, read = tiny.method(), tiny.batches(tiny.config())
    draw = step_randomness(seed=1, step=0, samples=torch.arange(8), count=8)
    batch = read(0, torch.arange(8), draw)
    before = method.loss("denoiser", batch, draw)
    weights = method.players["denoiser"].weights
    method.anchor = Anchor.at(weights, {name: torch.ones_like(p) for name, p in weights.items()}, 2.0)
    at = method.loss("denoiser", batch, draw)
    assert torch.equal(before.loss, at.loss)
    with torch.no_grad():
        next(iter(weights.values())).add_(0.1)
    away = method.loss("denoiser", batch, draw)
    expected = 0.01 * next(iter(weights.values())).numel()
    torch.testing.assert_close(away.loss - away.plain, torch.full((8,), expected))
    torch.testing.assert_close(away.terms["anchor"], torch.full((8,), expected))
