"""A generator against a discriminator: the formulas, no gradient where G draws the data, and training gets there."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from langevin.cli import main
from langevin.diffusion.batch import Batch, step_randomness
from langevin.diffusion.denoiser import GaussianDenoiser
from langevin.diffusion.objective import LogNormal
from langevin.diffusion.process import Gaussian
from langevin.methods import AdamW, Adversarial
from tests import pictures, tiny

PROCESS = Gaussian(sigma_data=1.0)


class Linear(nn.Module):
    """x -> weight * x + shift, elementwise, at any time."""

    def __init__(self, weight, shift=0.0):
        super().__init__()
        self.weight, self.shift = nn.Parameter(torch.tensor(weight)), nn.Parameter(torch.tensor(shift))

    def forward(self, x, c_time, condition=None):
        return self.weight * x + self.shift


class Quadratic(Linear):
    """x -> weight * x^2 / 2, elementwise."""

    def forward(self, x, c_time, condition=None):
        return 0.5 * self.weight * x.square()


def made(network, judging, *, gamma=1.0, times=None):
    denoiser = GaussianDenoiser(network=network, process=PROCESS, prediction="clean")
    return Adversarial(
        process=PROCESS, denoiser=denoiser, network=network, discriminator=replace(denoiser, network=judging),
        discriminator_network=judging, gamma=gamma, times=times,
    )  # fmt: skip


def drawn(count, step=0):
    return step_randomness(seed=0, step=step, samples=torch.arange(count), count=count)


def data(count, seed=0):
    return torch.randn(count, 2, generator=torch.Generator().manual_seed(seed))


def test_the_losses_are_the_formulas():
    """G = 0.5 (x_1 in units of 1) + 0.3; D = a |x|^2 / 2 over the root of 2, at t = 0 where c_in is 1."""
    method, x, draw = made(Linear(0.5, 0.3), Quadratic(0.7), gamma=3.0), data(5), drawn(5)
    scale = float(PROCESS.schedule.sigma(torch.ones(1, dtype=torch.float64)))
    noise = PROCESS.prior(x, draw.noise.fork(2)) / scale
    y = 0.5 * noise + 0.3

    def score(z):
        return 0.35 * z.square().sum(1) / math.sqrt(2)

    slopes = sum((0.7 * z / math.sqrt(2)).square().sum(1) for z in (x, y))
    gap = score(y) - score(x)
    critic = method.loss("discriminator", Batch(x=x), draw)
    torch.testing.assert_close(critic.terms["penalty"], slopes)
    torch.testing.assert_close(critic.loss, (1 + gap.exp()).log() + 1.5 * slopes)
    torch.testing.assert_close(method.loss("denoiser", Batch(x=x), draw).loss, (1 + (-gap).exp()).log())
    with pytest.raises(KeyError):
        method.loss("critic", Batch(x=x), draw)


@pytest.mark.parametrize("times", [None, LogNormal(mean=0.0)])
def test_where_the_generator_draws_the_data_the_best_discriminator_is_flat_and_no_gradient_is_left(times):
    """The gradient of the discriminator's loss in its weights, at 0, is (E grad D(y) - E grad D(x)) / 2: 0 if y is as x."""
    method = made(Linear(1.0), Linear(0.0), times=times)
    gradients = {name: torch.zeros(2) for name in method.players}
    count, rounds = 4000, 10
    for step in range(rounds):
        batch = Batch(x=data(count, seed=step))
        for name, player in method.players.items():
            report = method.loss(name, batch, drawn(count, step))
            assert float(report.plain.mean()) == pytest.approx(math.log(2), abs=1e-6)
            found = torch.autograd.grad(report.loss.mean(), list(player.module.parameters()), allow_unused=True)
            gradients[name] += torch.tensor([0.0 if g is None else float(g) for g in found]) / rounds
    assert gradients["denoiser"].abs().max() == 0
    assert gradients["discriminator"].abs().max() < 5 / math.sqrt(count * rounds)
    steep = made(Linear(1.0), Linear(0.5), times=times)  # a discriminator with a slope moves the generator along it
    report = steep.loss("denoiser", Batch(x=data(count)), drawn(count))
    (shift,) = torch.autograd.grad(report.loss.mean(), [steep.denoiser.network.shift])
    assert shift < -0.05
    away = made(Linear(1.0, 1.0), Linear(0.0), times=times)  # shifted by 1
    report = away.loss("discriminator", Batch(x=data(count)), drawn(count))
    (slope,) = torch.autograd.grad(report.loss.mean(), [away.discriminator.network.weight])
    assert slope > 0.1  # D falls along the shift


class Affine(nn.Module):
    """x -> A x + m."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x, c_time, condition=None):
        return self.layer(x)


class Form(nn.Module):
    """x -> (x^T Q + b) x in two parts; told the time, it is one for noisy examples too."""

    def __init__(self):
        super().__init__()
        self.q, self.b = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(2))

    def forward(self, x, c_time, condition=None):
        return (x @ self.q + self.b) * x


@pytest.mark.parametrize("times", [None, LogNormal(mean=-1.0)])
def test_training_reaches_the_mean_and_the_covariance_of_the_data(times):
    """An affine generator, and a discriminator that sees moments of order 1 and 2: they decide this game."""
    torch.manual_seed(0)
    mean, root = torch.tensor([1.0, -0.5]), torch.tensor([[1.0, 0.0], [0.6, 0.5]])
    method = made(generator := Affine(), Form(), gamma=0.5, times=times)
    optimizers = [torch.optim.Adam(p.module.parameters(), lr=0.02, betas=(0.0, 0.99)) for p in method.players.values()]
    means, covariances, last = [], [], 150
    for step in range(500):
        batch, draw = Batch(x=mean + data(256, seed=step) @ root.T), drawn(256, step)
        for (name, player), optimizer in zip(method.players.items(), optimizers, strict=True):
            optimizer.zero_grad()
            method.loss(name, batch, draw).loss.mean().backward(inputs=list(player.module.parameters()))
        for optimizer in optimizers:
            optimizer.step()
        means.append(generator.layer.bias.detach().clone())
        covariances.append(generator.layer.weight.detach() @ generator.layer.weight.detach().T)
    torch.testing.assert_close(torch.stack(means[-last:]).mean(0), mean, atol=0.1, rtol=0)
    torch.testing.assert_close(torch.stack(covariances[-last:]).mean(0), root @ root.T, atol=0.15, rtol=0)


@pytest.mark.parametrize("network", ["dit", "unet"])
def test_the_gradient_of_the_penalty_is_that_of_finite_differences(network):
    """Through attention, its norms and all others, in float64."""
    built, judging = (tiny.method(network, seed=seed).denoiser.network.double().eval() for seed in (0, 1))
    batch = tiny.batches(tiny.config())(0, torch.arange(3), drawn(3))
    batch, draw, method = replace(batch, x=batch.x.double()), drawn(3), made(built, judging)

    def penalty():
        return method.penalised_score(batch.x, batch, draw)[1].sum()

    generator, checked = torch.Generator().manual_seed(0), 0
    for name, weight in judging.named_parameters():
        if not any(part in name for part in ("qkv", "q_norm", "conv_1", "mlp", "modulation")):
            continue
        (found,) = torch.autograd.grad(penalty(), weight)
        way = torch.randn(weight.shape, generator=generator).double()
        with torch.no_grad():
            weight += 1e-5 * way
            above = float(_detached(penalty))
            weight -= 2e-5 * way
            below = float(_detached(penalty))
            weight += 1e-5 * way
        assert float((found * way).sum()) == pytest.approx((above - below) / 2e-5, rel=1e-4, abs=1e-6), name
        checked += 1
    assert checked >= 4


def _detached(penalty):
    with torch.enable_grad():
        return penalty().detach()


def test_a_run_is_trained_stopped_and_resumed_to_the_same_bits():
    training = tiny.config(optimizer=AdamW(lr=1e-3, betas=(0.0, 0.99)))

    def fresh():
        return made(tiny.method("dit").denoiser.network, tiny.method("dit", seed=1).denoiser.network)

    whole = tiny.state_of(first := fresh(), training)
    tiny.advance(whole, first, training, until=6)
    half = tiny.state_of(second := fresh(), training)
    tiny.advance(half, second, training, until=3)
    again = tiny.state_of(third := fresh(), training)
    groups = {g: {n: t.clone() for n, t in tensors.items()} for g, tensors in half.groups().items()}
    again.load(groups, half.counters())
    tiny.advance(again, third, training, until=6)
    tiny.assert_same(tiny.everything(whole), tiny.everything(again))


def test_a_run_draws_in_one_step_and_refuses_more(tmp_path, capsys):
    run = tiny.run_of(pictures.classes(tmp_path / "data"), tmp_path / "run", "method={kind: adversarial}")
    assert main(["sample", str(run), "--count", "4", "--out", str(tmp_path / "a.png")]) == 0
    assert "1 function evaluation" in capsys.readouterr().err
    assert main(["sample", str(run), "--steps", "4", "--out", str(tmp_path / "b.png")]) != 0
    assert "draws in 1 step" in capsys.readouterr().err


@pytest.mark.parametrize("gamma", [-1.0, float("nan"), float("inf")])
def test_absurd_penalties_are_refused(gamma):
    with pytest.raises(ValueError, match=r"method\.gamma"):
        Adversarial.Config(gamma=gamma)
