"""Diffusion as a method: least at the exact answer, each row its own, and losses in units that mean something."""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from langevin.diffusion.batch import Batch, step_randomness
from langevin.diffusion.condition import Condition, Port
from langevin.diffusion.importance import Importance
from langevin.diffusion.objective import ELBO, LikelihoodWeightedMSE, LogNormal, UniformTime, WeightedMSE
from langevin.diffusion.posterior import Point
from langevin.diffusion.process import Gaussian, Masked
from langevin.diffusion.schedule import Cosine, Rectified, VarianceExploding
from langevin.methods import Diffusion
from langevin.methods.levels import level_losses
from tests import exact, tiny

MEAN, VARIANCE = 0.3, 0.7
SCHEDULES = [Rectified(), Cosine(), VarianceExploding()]


@dataclass
class Beside:
    """The exact denoiser of data N(MEAN, VARIANCE), its answer stretched and moved."""

    schedule: object
    stretch: float = 1.0
    move: float = 0.0
    asked: object = None

    def __call__(self, x_t, t, condition=None):
        self.asked = condition
        best = exact.Scalar(schedule=self.schedule, mean=MEAN, variance=VARIANCE)(x_t, t)
        return Point(self.stretch * best.mean + self.move)


def diffusion(denoiser, schedule, **options):
    process = Gaussian(schedule=schedule, sigma_data=VARIANCE**0.5)
    defaults = {"objective": WeightedMSE(process=process), "times": LogNormal(), "schedule": schedule}
    return Diffusion(process=process, denoiser=denoiser, network=nn.Linear(1, 1), **{**defaults, **options})


def data(rows, *, seed=0):
    x = MEAN + VARIANCE**0.5 * torch.randn(rows, 6, generator=torch.Generator().manual_seed(seed))
    return Batch(x=x)


def drawn(rows, *, step=0, seed=5, only=None):
    return step_randomness(seed=seed, step=step, samples=torch.arange(rows) if only is None else only, count=rows)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.kind)
def test_the_loss_is_least_at_the_exact_answer(schedule):
    batch, random = data(4000), drawn(4000)

    def loss(**change):
        return float(diffusion(Beside(schedule, **change), schedule).loss("denoiser", batch, random).plain.mean())

    best = loss()
    for change in ({"stretch": 0.9}, {"stretch": 1.1}, {"move": 0.1}, {"move": -0.1}):
        assert loss(**change) > best


def test_a_rows_loss_depends_on_its_own_data_and_name_only():
    made = tiny.method(uncertainty=True)
    read = tiny.batches(tiny.config(batch=9))
    rows = torch.arange(9)
    with torch.no_grad():
        whole = made.loss("denoiser", read(2, rows, drawn(9)), drawn(9))
        for some in (torch.tensor([4]), torch.tensor([8, 0, 3])):
            part = made.loss("denoiser", read(2, some, drawn(9, only=some)), drawn(9, only=some))
            torch.testing.assert_close(part.loss, whole.loss[some], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(part.plain, whole.plain[some], rtol=1e-4, atol=1e-5)
        other = read(2, rows, drawn(9))
        other = replace(other, x=torch.cat([torch.zeros_like(other.x[:8]), other.x[8:]]))
        moved = made.loss("denoiser", other, drawn(9)).plain
    torch.testing.assert_close(moved[8], whole.plain[8], rtol=1e-4, atol=1e-5)
    assert not torch.isclose(moved[:8], whole.plain[:8], rtol=1e-4).any()


def test_the_same_draw_gives_the_same_loss_and_another_step_or_seed_another():
    made, batch = tiny.method(), tiny.batches(tiny.config())(0, torch.arange(8), drawn(8))
    with torch.no_grad():
        losses = [made.loss("denoiser", batch, drawn(8, **d)).loss for d in ({}, {}, {"step": 1}, {"seed": 6})]
    assert torch.equal(losses[0], losses[1])
    assert not torch.isclose(losses[0], losses[2]).any()
    assert not torch.isclose(losses[0], losses[3]).any()


def test_times_of_a_global_batch_cover_evenly_however_it_is_split():
    count = 50
    u = torch.cat([drawn(count, only=rows).u for rows in torch.randperm(count).split(7)])
    gaps = u.sort().values.diff()
    torch.testing.assert_close(gaps, torch.full_like(gaps, 1 / count))


@pytest.mark.parametrize("drop", [0.0, 0.1, 0.5])
def test_conditions_are_withheld_at_the_rate_asked_for(drop):
    n = 4000
    seen = Beside(Rectified())
    condition = Condition(global_=Port(tensor=torch.arange(n) % 3))
    made = diffusion(seen, Rectified(), condition_dropout=drop)
    made.loss("denoiser", replace(data(n), condition=condition), drawn(n))
    withheld = 1 - seen.asked.global_.kept().double()
    assert abs(float(withheld.mean()) - drop) <= 4.5 * (drop * (1 - drop) / n) ** 0.5
    first = seen.asked.global_.kept()
    made.loss("denoiser", replace(data(n), condition=condition), drawn(n, step=1))
    assert drop == 0 or not torch.equal(first, seen.asked.global_.kept())


def test_ports_are_withheld_alone_and_together():
    """With rates p of all and q of each port alone, a port is kept in (1 - p)(1 - q), two in (1 - p)(1 - q)^2."""
    n, p, q = 20_000, 0.2, 0.3
    seen = Beside(Rectified())
    zeros = torch.zeros(n).long()
    condition = Condition(global_=Port(tensor=zeros), cross=Port(tensor=zeros[:, None] + 1))
    diffusion(seen, Rectified(), condition_dropout=p, port_dropout=q).loss(
        "denoiser", replace(data(n), condition=condition), drawn(n)
    )
    one, other = seen.asked.global_.kept(), seen.asked.cross.kept()
    expected = {"one": (1 - p) * (1 - q), "other": (1 - p) * (1 - q), "both": (1 - p) * (1 - q) ** 2}
    for name, kept in {"one": one, "other": other, "both": one & other}.items():
        rate = expected[name]
        assert abs(float(kept.double().mean()) - rate) <= 4.5 * (rate * (1 - rate) / n) ** 0.5


def test_what_is_withheld_has_nothing_to_do_with_time_or_noise():
    n = 4000
    seen = Beside(Rectified())
    made = diffusion(seen, Rectified(), condition_dropout=0.5, times=UniformTime())
    random = drawn(n)
    made.loss("denoiser", replace(data(n), condition=Condition(global_=Port(tensor=torch.zeros(n).long()))), random)
    withheld = (~seen.asked.global_.kept()).double()
    noise = random.noise.fork(2).normal(torch.empty(n, 1))[:, 0].double()
    for other in (random.u, noise, noise.square()):
        assert abs(float(torch.corrcoef(torch.stack([withheld, other]))[0, 1])) < 4.5 / n**0.5


@pytest.mark.parametrize("drop", [-0.1, 1.0, float("nan")])
def test_a_rate_that_is_no_probability_below_one_is_refused(drop):
    with pytest.raises(ValueError, match="probability below 1"):
        diffusion(Beside(Rectified()), Rectified(), condition_dropout=drop)
    with pytest.raises(ValueError, match="port_dropout must be a probability below 1"):
        diffusion(Beside(Rectified()), Rectified(), port_dropout=drop)


@pytest.mark.parametrize(("times", "uncertainty"), [(LogNormal(), False), (UniformTime(), True)])
def test_noise_levels_are_asked_only_of_processes_that_have_them(times, uncertainty):
    masked = Masked(vocab_size=3)
    with pytest.raises(ValueError, match=r"noise levels, which Masked has not: give a schedule"):
        Diffusion(
            process=masked, denoiser=lambda x, t, c: None, network=torch.nn.Linear(1, 1), objective=ELBO(process=masked),
            times=times, uncertainty=uncertainty,
        )  # fmt: skip


def test_learned_uncertainty_starts_as_the_plain_loss_and_ends_as_its_logarithm():
    made = diffusion(Beside(Rectified(), stretch=1.3), Rectified(), uncertainty=True)
    batch = data(256)
    report = made.loss("denoiser", batch, drawn(256))
    torch.testing.assert_close(report.loss, report.plain, rtol=1e-5, atol=1e-6)
    optimizer = torch.optim.Adam(made.uncertainty.parameters(), lr=0.05)
    for step in range(150):
        optimizer.zero_grad()
        made.loss("denoiser", batch, drawn(256, step=step)).loss.mean().backward()
        optimizer.step()
    found, plain = [], []
    for step in range(150, 170):
        report = made.loss("denoiser", batch, drawn(256, step=step))
        found.append(report.loss.detach())
        plain.append(report.plain)
    mean, log = float(torch.cat(found).mean()), math.log(float(torch.cat(plain).mean()))
    assert mean < 1 + log + 0.05  # L e^-u + u is least, 1 + ln L, at u = ln L; with u(t) it is below that of the mean


def test_the_players_of_the_method_hold_all_that_is_learned():
    made = tiny.method(uncertainty=True)
    names = {n for n, _ in made.players["denoiser"].module.named_parameters()}
    assert {n.split(".")[0] for n in names} == {"network", "uncertainty"}
    assert made.generator() is made.denoiser


LEVELS = torch.tensor([-4.0, 0.0, 4.0], dtype=torch.float64)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.kind)
def test_level_losses_are_one_for_the_best_linear_guess_on_gaussian_data(schedule):
    process = Gaussian(schedule=schedule, sigma_data=VARIANCE**0.5)
    losses = level_losses(Beside(schedule), process, data(4000), log_snr=LEVELS)
    assert losses.shape == (3, 4000)
    # each row is a mean of 6 chi-squares of variance 2
    assert (losses.mean(1) - 1).abs().max() < 4.5 * (2 / 6 / 4000) ** 0.5


def test_level_losses_of_the_truth_are_zero():
    batch = data(5)
    process = Gaussian(sigma_data=0.8)
    assert level_losses(lambda x_t, t, c: Point(batch.x), process, batch, log_snr=LEVELS).abs().max() == 0


def test_level_losses_are_on_the_same_noise_for_a_row_of_the_same_name():
    process, batch = Gaussian(sigma_data=VARIANCE**0.5), data(10)
    asked = Beside(Rectified(), move=0.2)
    whole = level_losses(asked, process, batch, log_snr=LEVELS)
    rows = torch.tensor([7, 2])
    part = level_losses(asked, process, Batch(x=batch.x[rows]), log_snr=LEVELS, names=rows)
    torch.testing.assert_close(part, whole[:, rows])
    other = level_losses(asked, process, batch, log_snr=LEVELS, seed=1)
    assert not torch.isclose(other, whole).any()


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.kind)
def test_with_the_bound_as_objective_the_loss_is_the_bound_in_nats_whatever_the_times(schedule):
    """Half ln((1 + v SNR_0) / (1 + v SNR_1)) a place for N(m, v) and its exact denoiser."""
    process = Gaussian(schedule=schedule, sigma_data=VARIANCE**0.5)
    true = 0.5 * math.log((1 + VARIANCE * math.exp(7)) / (1 + VARIANCE * math.exp(-5)))
    for times in (Importance(log_snr=(-5.0, 7.0)), Importance(log_snr=(-5.0, 1.0, 7.0), weight=(1.0, 4.0))):
        method = diffusion(
            Beside(schedule), schedule, times=times, objective=LikelihoodWeightedMSE(process=process, times=times)
        )
        report = method.loss("denoiser", data(20_000), drawn(20_000))
        assert float(report.loss.mean()) == pytest.approx(true, rel=0.02)


def test_times_in_noise_levels_need_a_schedule():
    with pytest.raises(ValueError, match="importance time density"):
        diffusion(Beside(Rectified()), None, times=Importance())
