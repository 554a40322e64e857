"""A discriminator that has won is seen by its slope, and the run that it ruins goes back and recovers."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from langevin.diffusion.batch import Batch, step_randomness
from langevin.diffusion.denoiser import GaussianDenoiser
from langevin.diffusion.process import Gaussian
from langevin.methods import AdamW, Adversarial
from langevin.methods.adversarial import FAULT
from langevin.training import trend
from langevin.training.metrics import read_metrics
from langevin.training.session import Hooks, train
from langevin.training.trend import Faults
from tests import tiny

PROCESS, CHANNELS = Gaussian(sigma_data=1.0), 64


class Elementwise(nn.Module):
    """x -> function(weight * x)."""

    def __init__(self, weight, function):
        super().__init__()
        self.weight, self.function = nn.Parameter(torch.tensor(weight)), function

    def forward(self, x, c_time, condition=None):
        return self.function(self.weight * x)


class Constant(nn.Module):
    """Every example is -1, whatever the noise."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(-1.0))

    def forward(self, x, c_time, condition=None):
        return torch.zeros_like(x) + self.weight


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        sizes = [(CHANNELS, 32), (32, 32), (32, CHANNELS)]
        first, second, third = (nn.Linear(*size) for size in sizes)
        self.layers = nn.Sequential(first, nn.SiLU(), second, nn.SiLU(), third)

    def forward(self, x, c_time, condition=None):
        return self.layers(x)


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """A fault of 10 steps is enough, so that runs of these tests are short."""
    monkeypatch.setattr(trend, "FEWEST", 10)


def made(network, judging, **options):
    denoiser = GaussianDenoiser(network=network, process=PROCESS, prediction="clean")
    return Adversarial(
        process=PROCESS, denoiser=denoiser, network=network, discriminator=replace(denoiser, network=judging),
        discriminator_network=judging, **options,
    )  # fmt: skip


def reported(judging, *, restarts=0, **options):
    """The fault's share of data at 1 against a generator at -1."""
    draw = step_randomness(seed=0, step=0, samples=torch.arange(8), count=8, restarts=restarts)
    method = made(Constant(), judging, **{"gamma": 1.0, **options})
    report = method.loss("discriminator", Batch(x=torch.ones(8, CHANNELS)), draw)
    assert torch.equal(report.terms["lost"], report.faults[FAULT])
    return float(report.faults[FAULT].mean()), float(report.plain.mean())


@pytest.mark.parametrize("weight", [0.01, 0.2, 1.0, 100.0])
def test_a_linear_discriminator_has_not_won_however_certain_it_is(weight):
    """By its slope it rises by the whole gap on the way."""
    lost, loss = reported(Elementwise(weight, nn.Identity()))
    assert lost == 0
    assert (loss < 1e-6) == (weight > 0.5)


@pytest.mark.parametrize(("weight", "won"), [(0.2, 0.0), (1.5, 0.0), (3.0, 1.0), (30.0, 1.0)])
def test_one_that_falls_between_the_examples_has_won_where_it_is_flat(weight, won):
    """The sum of tanh(w x) over 8, its root of 64 numbers: a gap of 16 tanh(w), and a slope there of w / cosh(w)^2 over
    a way of 16: w / (cosh(w)^2 tanh(w)) of the gap, which is 1 at 0, 0.30 at 1.5, 0.03 at 3."""
    assert reported(Elementwise(weight, torch.tanh))[0] == won


def test_one_that_is_not_certain_has_not_won():
    """Flat at both, with a gap of 16 over 5."""
    assert reported(Elementwise(30.0, lambda x: 0.2 * torch.tanh(x)))[0] == 0


def test_after_a_rollback_the_discriminator_sees_noise_and_a_wall_is_none():
    before, after = (reported(Elementwise(30.0, torch.tanh), restarts=k) for k in (0, 1))
    assert before[0] == 1
    assert after[0] <= 0.25
    assert after[1] > before[1] + 0.01


def patterns(step, rows, randomness):
    """Four patterns of 64 signs, and little else: easy to tell from anything generated."""
    generator = torch.Generator().manual_seed(step)
    signs = 0.7 * torch.randn(4, CHANNELS, generator=torch.Generator().manual_seed(7)).sign()
    chosen = signs[torch.randint(0, 4, (32,), generator=generator)]
    return Batch(x=(chosen + 0.05 * torch.randn(32, CHANNELS, generator=generator))[rows])


class Stop(Exception):
    """What kills a run in these tests."""


def fought(folder, *, rates, steps=150, stop=None, gamma=0.1):
    """A run whose players learn at these rates: its state, what it said, and the shares of lost pairs by step."""
    torch.manual_seed(0)
    method = made(Layers(), Layers(), gamma=gamma)
    method.players = {
        name: replace(player, optimizer=AdamW(lr=lr, betas=(0.0, 0.99)))
        for (name, player), lr in zip(method.players.items(), rates, strict=True)
    }
    training = tiny.config(steps=steps, batch=32, ema_lengths=(), snapshots=0)
    state, said = tiny.state_of(method, training), []

    def progress(at):
        if stop is not None and (at.step, state.restarts) == stop:
            raise Stop

    hooks = Hooks(log=said.append, progress=progress)
    try:
        train(folder, state, patterns, method, training, hooks=hooks, world=tiny.ALONE)
    except Stop:
        return None
    lines = [line for line in read_metrics(folder / "metrics.jsonl") if "terms" in line]
    return state, said, {line["step"]: line["terms"]["discriminator.lost"] for line in lines}


def test_a_discriminator_that_is_made_to_win_is_noticed_and_the_run_recovers(tmp_path, monkeypatch):
    """It learns a hundred times as fast as the generator. Left alone it has won until the
    loss is far up. Killed after its return, the run ends in the same bits."""
    state, said, lost = fought(tmp_path / "watched", rates=(3e-4, 3e-2))
    assert [FAULT in line and "back to step" in line for line in said if "back to" in line] == [True]
    assert (state.restarts, state.faults.high) == (1, {FAULT: 0})
    assert all(share < 0.1 for step, share in lost.items() if step > 75)
    assert fought(tmp_path / "killed", rates=(3e-4, 3e-2), stop=(100, 1)) is None
    tiny.assert_same(tiny.everything(state), tiny.everything(fought(tmp_path / "killed", rates=(3e-4, 3e-2))[0]))
    monkeypatch.setattr(Faults, "lasting", lambda self, steps: None)
    _, _, lost = fought(tmp_path / "alone", rates=(3e-4, 3e-2))
    assert min(lost[80], lost[90], lost[100]) > 0.9


def test_players_of_equal_rates_are_left_alone(tmp_path):
    state, said, lost = fought(tmp_path, rates=(2e-3, 2e-3), gamma=1.0)
    assert (state.restarts, state.faults.high, max(lost.values()) < 0.5) == (0, {FAULT: 0}, True)
    assert not any("back to" in line for line in said)
