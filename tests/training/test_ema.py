"""Power-function averages against sums written out, published pairs, quadrature, and trajectories known in closed form."""

import math

import pytest
import torch

from langevin.training.ema import (
    EMAProfile,
    PowerEMA,
    _inner,
    gamma_of_length,
    posthoc_error,
    posthoc_weights,
    standard_length,
)
from langevin.training.snapshots import ema_of_length, reconstructible, snapshot, store
from tests import tiny

PUBLISHED = {0.05: 16.97, 0.10: 6.94, 0.15: 3.56, 0.20: 1.83}  # figures of the paper that defines the profiles


@pytest.mark.parametrize(("width", "gamma"), PUBLISHED.items())
def test_widths_have_the_published_exponents(width, gamma):
    assert gamma_of_length(width) == pytest.approx(gamma, abs=0.01)


@pytest.mark.parametrize("width", [0.001, 0.05, 0.2, 0.28])
def test_a_width_is_the_relative_standard_deviation_of_its_profile(width):
    gamma = gamma_of_length(width)
    tau = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    weight = tau**gamma
    weight /= weight.sum()
    mean = (weight * tau).sum()
    assert float(((weight * (tau - mean) ** 2).sum()).sqrt()) == pytest.approx(width, rel=1e-3)


@pytest.mark.parametrize("width", [0.0, -0.1, 0.29, 1.0, float("nan"), float("inf")])
def test_widths_that_no_growing_profile_has_are_refused(width):
    with pytest.raises(ValueError, match="fraction of the run"):
        gamma_of_length(width)


def test_an_average_is_the_sum_of_the_trajectory_weighted_by_the_product_of_betas():
    generator = torch.Generator().manual_seed(0)
    trajectory = [torch.randn(3, 2, generator=generator) for _ in range(40)]
    averages = PowerEMA({"w": torch.full((3, 2), 100.0)}, lengths=(0.05, 0.2))
    for step, value in enumerate(trajectory, 1):
        averages.update({"w": value}, step=step)
    for width in (0.05, 0.2):
        gamma = gamma_of_length(width)
        betas = [(1 - 1 / step) ** (gamma + 1) for step in range(1, 41)]
        expected = torch.zeros(3, 2, dtype=torch.float64)
        for i, value in enumerate(trajectory):
            expected += (1 - betas[i]) * math.prod(betas[i + 1 :]) * value.double()
        torch.testing.assert_close(averages.tensors(width)["w"].double(), expected, rtol=1e-5, atol=1e-6)


def test_averages_forget_where_they_began():
    averages = PowerEMA({"w": torch.full((2,), 1e6)}, lengths=(0.1,))
    averages.update({"w": torch.tensor([1.0, 2.0])}, step=1)
    assert averages.tensors(0.1)["w"].tolist() == [1.0, 2.0]


def test_averages_are_copies():
    w = torch.zeros(2)
    averages = PowerEMA({"w": w}, lengths=(0.1,))
    w += 1
    assert averages.tensors(0.1)["w"].tolist() == [0.0, 0.0]


def test_averages_come_back_from_their_tensors():
    first, second = (PowerEMA({"w": torch.full((2,), v)}, lengths=(0.1,)) for v in (3.0, 5.0))
    second.load(0.1, first.tensors(0.1))
    assert second.tensors(0.1)["w"].tolist() == [3.0, 3.0]


@pytest.mark.parametrize("a", [EMAProfile(step=100, gamma=6.94), EMAProfile(step=37, gamma=16.97)])
@pytest.mark.parametrize(
    "b", [EMAProfile(step=100, gamma=16.97), EMAProfile(step=60, gamma=1.83), EMAProfile(step=5, gamma=3.0)]
)
def test_inner_products_of_profiles_equal_their_quadrature(a, b):
    longest, n = max(a.step, b.step), 400_000
    tau = (torch.arange(n, dtype=torch.float64) + 0.5) / n * longest

    def density(p):
        value = (p.gamma + 1) * (tau / p.step) ** p.gamma / p.step
        return torch.where(tau <= p.step, value, 0.0)

    assert _inner(a, b) == pytest.approx(float((density(a) * density(b)).sum() * longest / n), rel=1e-4)
    assert _inner(a, b) == pytest.approx(_inner(b, a), rel=1e-12)


def test_very_narrow_averages_combine_too():
    saved = [EMAProfile(step=s, gamma=gamma_of_length(w)) for s in range(50, 401, 50) for w in (0.002, 0.1)]
    weights = posthoc_weights(saved, EMAProfile(step=400, gamma=gamma_of_length(0.02)))
    assert bool(weights.isfinite().all())
    assert float(weights.sum()) == pytest.approx(1.0, abs=1e-6)


def test_a_saved_profile_is_its_own_combination():
    saved = [EMAProfile(step=s, gamma=gamma_of_length(w)) for s in (40, 80) for w in (0.05, 0.1)]
    torch.testing.assert_close(
        posthoc_weights(saved, saved[2]), torch.eye(4, dtype=torch.float64)[2], atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("width", [0.03, 0.07, 0.15, 0.2])
def test_an_average_of_another_width_is_recovered_from_snapshots_of_two(width):
    steps, every = 400, 50
    widths = (0.05, 0.1)
    kept = PowerEMA({"w": torch.zeros(3)}, lengths=widths)
    true = PowerEMA({"w": torch.zeros(3)}, lengths=(width,))
    saved, values = [], []
    for step in range(1, steps + 1):
        s = step / steps
        w = {"w": torch.tensor([s**0.5, math.sin(4 * s), math.exp(-3 * s)])}
        kept.update(w, step=step)
        true.update(w, step=step)
        if step % every == 0:
            saved += [EMAProfile(step=step, gamma=gamma_of_length(v)) for v in widths]
            values += [kept.tensors(v)["w"].double().clone() for v in widths]
    weights = posthoc_weights(saved, EMAProfile(step=steps, gamma=gamma_of_length(width)))
    found = (weights[:, None] * torch.stack(values)).sum(0)
    wanted = true.tensors(width)["w"].double()
    moved = (w["w"].double() - wanted).norm()  # how far averaging moves the weights
    assert (found - wanted).norm() < 0.05 * moved
    assert float(weights.sum()) == pytest.approx(1.0, abs=0.02)


def test_a_runs_snapshots_give_the_average_of_any_width(tmp_path):
    made, wide = tiny.method(), 0.15
    training = tiny.config(steps=24, snapshots=8)
    state = tiny.state_of(made, training)
    parameters = state.optimizers["denoiser"].parameters
    begin = {n: p.detach().clone() for n, p in parameters.items()}
    true = PowerEMA(parameters, lengths=(wide, 0.05))
    while state.step < 24:
        tiny.advance(state, made, training, until=state.step + 1)
        true.update(parameters, step=state.step)
        if state.step % 3 == 0:
            snapshot(tmp_path, state)
    kept = state.ema["denoiser"].tensors(0.05)
    assert all(torch.equal(kept[n], t) for n, t in true.tensors(0.05).items())
    found = ema_of_length(tmp_path, wide)
    wanted = {f"denoiser.{n}": t for n, t in true.tensors(wide).items()}
    assert found.keys() == wanted.keys()
    off = sum(float((found[n] - wanted[n]).square().sum()) for n in found)
    moved = sum(float((wanted[f"denoiser.{n}"] - t).square().sum()) for n, t in begin.items())
    assert off < 0.05**2 * moved
    again = ema_of_length(tmp_path, 0.05)
    for n, t in kept.items():
        torch.testing.assert_close(again[f"denoiser.{n}"], t, rtol=5e-3, atol=1e-3)


def test_the_error_of_a_reconstruction_is_the_distance_of_its_profile():
    saved = [EMAProfile(step=step, gamma=gamma) for step in (50, 100) for gamma in (16.97, 6.94)]
    wanted = EMAProfile(step=100, gamma=3.56)
    tau = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 1000

    def values(profile):
        inside = (tau < profile.step).double()
        return (profile.gamma + 1) * tau**profile.gamma / profile.step ** (profile.gamma + 1) * inside

    weights = posthoc_weights(saved, wanted)
    found = sum(float(w) * values(profile) for w, profile in zip(weights, saved, strict=True))
    relative = torch.dist(found, values(wanted)) / values(wanted).norm()
    assert posthoc_error(saved, wanted) == pytest.approx(float(relative), rel=1e-3)
    assert posthoc_error(saved, saved[2]) == pytest.approx(0, abs=1e-6)


def test_lengths_far_from_the_kept_ones_need_more_snapshots(tmp_path):
    assert reconstructible(tmp_path, (0.07,), kept=(0.05, 0.1)) == []
    (tmp_path / "ema").mkdir()
    found = list[list[float]]()
    for count in (1, 8, 32):
        for i in range(1, count + 1):
            (tmp_path / "ema" / f"step-{960 * i // count:08d}.safetensors").touch()
        found.append(reconstructible(tmp_path, (0.01, 0.025, 0.05, 0.07, 0.2), kept=(0.05, 0.1)))
    assert found == [[0.05, 0.07], [0.05, 0.07, 0.2], [0.025, 0.05, 0.07, 0.2]]


def test_a_stored_length_is_read_until_the_run_goes_on(tmp_path):
    made, training = tiny.method(), tiny.config()
    state = tiny.state_of(made, training)
    tiny.advance(state, made, training, until=4)
    snapshot(tmp_path, state)
    before = ema_of_length(tmp_path, 0.07)
    store(tmp_path, 0.07)
    assert len(list((tmp_path / "ema").iterdir())) == 2
    after = ema_of_length(tmp_path, 0.07)
    assert all(torch.equal(before[n], after[n]) for n in before)
    tiny.advance(state, made, training, until=8)
    snapshot(tmp_path, state)
    assert any(not torch.equal(t, before[n]) for n, t in ema_of_length(tmp_path, 0.07).items())


def test_the_standard_length_is_a_kept_one():
    assert standard_length((0.1, 0.03)) == 0.03
    assert standard_length(()) == 0


def test_a_run_without_snapshots_says_which_widths_it_has_instead(tmp_path):
    with pytest.raises(ValueError, match="no EMA snapshots"):
        ema_of_length(tmp_path, 0.15)


def test_a_damaged_snapshot_is_named(tmp_path):
    made = tiny.method()
    training = tiny.config()
    state = tiny.state_of(made, training)
    tiny.advance(state, made, training, until=2)
    snapshot(tmp_path, state)
    (file,) = (tmp_path / "ema").iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match="step-00000002"):
        ema_of_length(tmp_path, 0.15)
