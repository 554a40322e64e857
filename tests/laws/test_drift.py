"""Laws of `SDE`, any equation dx = f dt + g dw: what is simulated, learned, reversed and followed is what the truth says.

The truth is a grid that solves Fokker and Planck's equation (double well, limit cycle), or Gaussians in closed form.
"""

import math
from itertools import pairwise

import pytest
import torch

from langevin.diffusion.fokker_planck import GridBox, fokker_planck, score_on_grid
from langevin.diffusion.posterior import Score
from langevin.diffusion.process.sde import (
    SDE,
    EmpiricalTerminal,
    GaussianTerminal,
    LimitCycle,
    OrnsteinUhlenbeck,
    StationaryTerminal,
    divergence,
    log_density,
    sliced,
)
from langevin.diffusion.sampler import ProbabilityFlow, ReverseSDE
from tests import drifts
from tests.laws.bounds import kolmogorov, kolmogorov_bound, normal_bound, variation
from tests.laws.parts import SDE_SAMPLERS

ROWS = 8000
DISCRETE = 0.006  # what finite steps and cells may add to a distribution function


@pytest.fixture(scope="module")
def truth():
    return drifts.Truth.solve()


@pytest.fixture(scope="module")
def measured():
    return drifts.well(steps=24).with_statistics(drifts.bumps(2000), drifts.noise(2000))


@pytest.fixture(scope="module")
def learned(measured):
    return drifts.learned(measured[0], lambda step, rows: drifts.bumps(rows, first=step * rows), steps=400)


def at(t, rows=ROWS):
    return torch.full((rows,), t, dtype=torch.float64)


def stationary_cdf(x):
    p = drifts.BOX.density(-drifts.WELL.energy(drifts.BOX.points, 1.0))
    return drifts.Truth(p=p[None], scores=p[None]).cdf(0, x)


# ---------------------------------------------------------------------------------------------- a: stationary laws


def test_a_gradient_drift_keeps_its_stationary_law():
    process = drifts.well()
    x = process.terminal.draw(torch.zeros(ROWS, 1, dtype=torch.float64), drifts.noise(ROWS))
    for t in (0.0, 0.3, 1.0):
        x_t = process.corrupt(x, at(t), drifts.noise(ROWS, step=3))
        assert kolmogorov(x_t[:, 0], stationary_cdf) < kolmogorov_bound(ROWS) + DISCRETE


def test_the_score_learned_at_rest_is_that_of_the_energy_at_every_time():
    process, _ = drifts.well(steps=24).with_statistics(stationary(2000, 0), drifts.noise(2000))
    found = drifts.learned(process, lambda step, rows: stationary(rows, step), steps=400)

    def exact(x, t, condition):
        return Score(2 * drifts.WELL(x, t))  # -2 V' / g^2

    for t in (0.1, 0.5, 1.0):
        assert drifts.score_error(found, exact, stationary(2000, 5), t) < 0.3


def stationary(rows, step):
    """Quantiles of the stationary law, by the grid."""
    u = drifts.noise(rows, step=step, first=step * rows).uniform(torch.empty(rows, 1))[:, 0]
    x = drifts.BOX.centres
    return x[torch.searchsorted(stationary_cdf(x), u).clamp_max(len(x) - 1)][:, None]


# --------------------------------------------------------------------------- b: the double well against the grid


def test_the_grid_keeps_mass_and_comes_to_rest_in_the_stationary_law():
    p = drifts.BOX.density(drifts.bumps_density(drifts.BOX.points))
    late = fokker_planck(drifts.WELL, 1.0, p, [0.0, 12.0], box=drifts.BOX)[1]
    rest = drifts.BOX.density(-drifts.WELL.energy(drifts.BOX.points, 1.0))
    assert float(late.sum() * drifts.BOX.width) == pytest.approx(1, abs=1e-12)
    assert float((late - rest).abs().sum() * drifts.BOX.width) < 1e-3
    assert float(late.min()) >= 0


def test_the_grid_spreads_a_gaussian_as_diffusion_and_pull_do():
    box = GridBox(low=-6, high=6, cells=240)
    p = box.density(-0.5 * ((box.points[:, 0] - 1) / 0.5) ** 2)
    for pull, mean, variance in ((0.0, 1.0, 0.25 + 0.8), (1.0, math.exp(-0.8), 0.5 + (0.25 - 0.5) * math.exp(-1.6))):
        found = fokker_planck(
            OrnsteinUhlenbeck(rate=pull) if pull else (lambda x, t: 0 * x), 1.0, p, [0.0, 0.8], box=box
        )[1]
        x = box.centres
        assert float((found * x).sum() * box.width) == pytest.approx(mean, abs=5e-4)
        assert float((found * (x - mean) ** 2).sum() * box.width) == pytest.approx(variance, rel=2e-3)


@pytest.mark.parametrize("k", [3, 20, 60])
def test_simulated_states_follow_the_grid(truth, k):
    process = drifts.well()
    x_t = process.corrupt(drifts.bumps(ROWS), at(k / 60), drifts.noise(ROWS, step=k))
    assert kolmogorov(x_t[:, 0], lambda x: truth.cdf(k, x)) < kolmogorov_bound(ROWS) + DISCRETE


def test_the_learned_score_is_that_of_the_grid(truth, learned, measured):
    process, x = measured[0], drifts.bumps(3000, first=10**7)
    for t, allowed in ((0.1, 0.45), (0.3, 0.35), (0.6, 0.25), (1.0, 0.15)):
        x_t = process.corrupt(x, at(t, 3000), drifts.noise(3000, step=9))
        assert drifts.score_error(learned, truth, x_t, t) < allowed

        def linear(x, t, condition, x_t=x_t):
            return Score(-(x - x_t.mean()) / x_t.var())

        assert drifts.score_error(learned, truth, x_t, t) < 0.7 * drifts.score_error(linear, truth, x_t, t)


def test_the_learned_score_samples_the_data(learned, measured):
    x = drifts.drawn(ReverseSDE(), measured[0], learned, rows=2000, width=1, steps=60)
    assert sliced(x, drifts.bumps(2000)) < 0.25  # the spread is 1.1; where it started is 0.5 away


@pytest.mark.slow
def test_a_longer_training_comes_nearer_to_the_grids_score(truth):
    process, _ = drifts.well().with_statistics(drifts.bumps(4000), drifts.noise(4000))
    found = drifts.learned(process, lambda step, rows: drifts.bumps(rows, first=step * rows), steps=2500)
    x = drifts.bumps(4000, first=10**8)
    for t, allowed in ((0.2, 0.15), (0.5, 0.08), (1.0, 0.08)):
        x_t = process.corrupt(x, at(t, 4000), drifts.noise(4000, step=9))
        assert drifts.score_error(found, truth, x_t, t) < allowed


# ----------------------------------------------------------- c: an affine drift, in closed form and by general code


def turning(**changes) -> SDE:
    """A spiral with noise that grows: not isotropic once data is not."""
    return SDE(drift=OrnsteinUhlenbeck(rate=0.8, turn=2.0), diffusion=lambda t: 0.5 + t, duration=1.2, **changes)


def test_a_closed_form_is_that_of_ornstein_uhlenbeck():
    process = SDE(drift=OrnsteinUhlenbeck(rate=1.3), diffusion=0.7, duration=2.0).with_closed_form(torch.zeros(1, 3))
    t = torch.tensor([0.0, 1e-4, 0.013, 0.4, 0.77, 1.0], dtype=torch.float64)
    phi, m, cov = process.kernel.at(t)
    eye, time = torch.eye(3, dtype=torch.float64), 2 * t[:, None, None]
    assert torch.allclose(phi, torch.exp(-1.3 * time) * eye, atol=1e-10)
    assert torch.allclose(cov, -0.49 / 2.6 * torch.expm1(-2.6 * time) * eye, rtol=1e-8, atol=1e-13)
    assert float(m.abs().max()) < 1e-12


def test_the_variance_preserving_schedule_is_one_of_them():
    from langevin.diffusion.schedule import VariancePreserving

    schedule = VariancePreserving()
    process = SDE(
        drift=lambda x, t: -0.5 * schedule.beta.rate(t.double())[:, None] * x,
        diffusion=lambda t: schedule.beta.rate(t).sqrt(),
    ).with_closed_form(torch.zeros(1, 1))
    t = torch.linspace(0.01, 1, 9, dtype=torch.float64)
    phi, _, cov = process.kernel.at(t)
    assert torch.allclose(phi[:, 0, 0], schedule.alpha(t), rtol=1e-6)
    assert torch.allclose(cov[:, 0, 0].sqrt(), schedule.sigma(t), rtol=1e-6)


def test_simulation_has_the_moments_of_the_closed_form():
    general, exact = turning(), turning().with_closed_form(torch.zeros(1, 2))
    assert general.kernel is None
    x = torch.tensor([[1.5, -0.5]], dtype=torch.float64).expand(ROWS, -1)
    for t in (0.2, 1.0):
        got = general.corrupt(x, at(t), drifts.noise(ROWS, step=1))
        phi, m, cov = (part[0] for part in exact.kernel.at(at(t, 1)))
        std = cov.diagonal().sqrt()
        assert bool(((got.mean(0) - phi @ x[0] - m).abs() < normal_bound(ROWS, 1.0) * std + 2e-3).all())
        assert float((got.T.cov() - cov).abs().max()) < 6 * math.sqrt(2 / ROWS) * float(std.max()) ** 2 + 2e-3


def test_the_regression_of_either_gives_the_score_of_gaussian_data():
    """For Gaussian data the score is linear, so least squares on the targets must find its matrix."""
    root = torch.tensor([[0.9, 0.0], [0.5, 0.3]], dtype=torch.float64)
    x = drifts.noise(40_000, step=2).normal(torch.empty(40_000, 2, dtype=torch.float64)) @ root.T
    for t in (0.15, 0.7):
        phi, _, cov = (part[0] for part in turning().with_closed_form(torch.zeros(1, 2)).kernel.at(at(t, 1)))
        want = -torch.linalg.inv(phi @ root @ root.T @ phi.T + cov)
        for process in (turning(), turning().with_closed_form(torch.zeros(1, 2))):
            asked = process.score_targets(x, at(t, len(x)), drifts.noise(len(x), step=4))
            x_t, target = torch.cat([a.x_t for a in asked]), torch.cat([a.target.score for a in asked])
            found = torch.linalg.lstsq(x_t, target).solution.T
            assert float((found - want).norm() / want.norm()) < 0.04


# ------------------------------------------------------------------------ d: a rotation, which the reverse must undo


def spinning() -> SDE:
    """f = A x - x / 2 with A antisymmetric and g = 1: N(0, I) stays, though everything turns."""
    return SDE(drift=OrnsteinUhlenbeck(rate=0.5, turn=3.0), duration=0.8)


def at_rest(x, t, condition=None):
    return Score(-x)


def test_a_rotation_keeps_its_law_and_the_reverse_turns_back():
    process = spinning()
    x_1 = drifts.noise(ROWS, step=8).normal(torch.empty(ROWS, 2, dtype=torch.float64))
    forward = process.corrupt(x_1, at(1.0), drifts.noise(ROWS, step=5))
    angle, decay = 3.0 * 0.8, math.exp(-0.4)
    turn = decay * torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]).double()
    near = 6 / math.sqrt(ROWS) + 0.02
    assert float((forward.T.cov() - torch.eye(2)).abs().max()) < near
    assert float((forward.T @ x_1 / ROWS - turn).abs().max()) < near  # E[x_t x_0^T]
    start = drifts.drawn(ReverseSDE(), process, at_rest, rows=ROWS, width=2, steps=1, low=0.999999)
    back = drifts.drawn(ReverseSDE(), process, at_rest, rows=ROWS, width=2, steps=100)
    assert float((back.T.cov() - torch.eye(2)).abs().max()) < near + 0.03
    assert float((back.T @ start / ROWS - turn.T).abs().max()) < near + 0.03  # E[x_0 x_t^T]: turned back
    lazy = SDE(
        drift=OrnsteinUhlenbeck(rate=0.5), duration=0.8
    )  # a reverse without the rotation has the law, and the wrong paths
    straight = drifts.drawn(ReverseSDE(), lazy, at_rest, rows=ROWS, width=2, steps=100)
    assert float((straight.T @ start / ROWS - turn.T).abs().max()) > 0.5


def test_the_flow_at_rest_is_the_rotation_alone():
    process = spinning()
    start = drifts.drawn(ProbabilityFlow(), process, at_rest, rows=4, width=2, steps=1, low=1 - 1e-9)
    back = drifts.drawn(ProbabilityFlow(), process, at_rest, rows=4, width=2, steps=400, low=1e-9)
    angle = -3.0 * 0.8
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]).double()
    assert torch.allclose(back, start @ turn.T, atol=1e-3)


# ------------------------------------------------------------------ e: detailed balance, and the arrow of entropy


def test_a_gradient_drift_at_rest_is_the_same_run_backwards_and_a_turning_one_is_not():
    def asymmetry(process, x, first, second):
        y = process.corrupt(x, at(0.5), drifts.noise(ROWS, step=5))
        values = first(x) * second(y) - second(x) * first(y)
        return float(values.mean()), normal_bound(ROWS, float(values.std())) + 0.01

    well = drifts.well()
    x = stationary(ROWS, 1)
    got, chance = asymmetry(well, x, lambda x: x[:, 0], lambda x: x[:, 0] ** 3 + x[:, 0] ** 2)
    assert abs(got) < chance
    x = drifts.noise(ROWS, step=8).normal(torch.empty(ROWS, 2, dtype=torch.float64))
    got, chance = asymmetry(spinning(), x, lambda x: x[:, 0], lambda x: x[:, 1])
    assert got == pytest.approx(2 * math.sin(1.2) * math.exp(-0.2), abs=chance)
    assert got > 10 * chance / 2


def test_free_energy_falls_and_entropy_is_made_only_where_something_turns(truth):
    """d/dt int p ln(p / rest) = -int (2 / g^2) |J|^2 / p <= 0, with J = f p - g^2 grad p / 2 the current."""
    rest = drifts.BOX.density(-drifts.WELL.energy(drifts.BOX.points, 1.0))
    free = [float((p * (p.clamp_min(1e-300) / rest).log()).sum() * drifts.BOX.width) for p in truth.p]
    assert all(later < earlier for earlier, later in pairwise(free))
    k, x = 30, drifts.BOX.points
    current = drifts.WELL(x, x[:, 0])[:, 0] - 0.5 * truth.scores[k]  # J / p
    made = float((2 * truth.p[k] * current**2).sum() * drifts.BOX.width)
    dt = drifts.HORIZON / 60
    assert made == pytest.approx((free[k - 1] - free[k + 1]) / (2 * dt), rel=0.02)
    assert made > 0
    still = drifts.WELL(x, x[:, 0])[:, 0] - 0.5 * score_on_grid(rest, drifts.BOX)[:, 0]
    assert float((2 * rest * still**2).sum() * drifts.BOX.width) < 1e-3


# ------------------------------------------------------------------------------------- f: one law by two equations


@pytest.mark.parametrize("name", SDE_SAMPLERS)
def test_reverse_and_flow_give_the_data_back(truth, name):
    rows = 3000
    ends = drifts.well().corrupt(drifts.bumps(rows, first=10**7), at(1.0, rows), drifts.noise(rows, step=2))
    process = drifts.well(terminal=EmpiricalTerminal.of(ends))
    x = drifts.drawn(SDE_SAMPLERS[name], process, truth, rows=rows, width=1, steps=150)
    floor = sliced(drifts.bumps(rows), drifts.bumps(rows, first=10**8))
    assert sliced(x, drifts.bumps(rows, first=10**9)) < 0.03 + 2 * floor
    assert sliced(x, drifts.bumps(rows, first=10**9)) < 0.1


def exact_gaussian(process, variance):
    """The score of data N(0, variance) on the line."""

    def denoiser(x, t, condition=None):
        phi, _, cov = process.kernel.at(t)
        return Score(-x / (phi[:, :, 0] ** 2 * variance + cov[:, :, 0]))

    return denoiser


@pytest.mark.parametrize(("tool", "order"), [(ProbabilityFlow(), 2), (ReverseSDE(eta=0.0), 1)])
def test_the_flow_has_its_order(tool, order):
    process = SDE(drift=OrnsteinUhlenbeck(rate=0.5), duration=2.0).with_closed_form(torch.zeros(1, 1))
    denoiser, errors = exact_gaussian(process, 0.2), []
    assert tool.convergence_order == order
    phi, _, cov = process.kernel.at(torch.tensor([0.1, 1.0], dtype=torch.float64))
    stretch = ((phi[0] ** 2 * 0.2 + cov[0]) / (phi[1] ** 2 * 0.2 + cov[1])).sqrt()  # a flow on the line keeps quantiles
    start = process.prior(torch.zeros(50, 1, dtype=torch.float64), drifts.noise(50, step=-1, first=10**6))
    for steps in (10, 20, 40):
        x = drifts.drawn(tool, process, denoiser, rows=50, width=1, steps=steps, low=0.1)
        errors.append(float((x - start * stretch).abs().max()))
    rates = [math.log2(a / b) for a, b in pairwise(errors)]
    assert rates[-1] == pytest.approx(order, abs=0.2)


def test_rows_are_the_same_alone_and_in_a_batch(truth):
    for tool in (ReverseSDE(corrections=2), ProbabilityFlow()):
        process = drifts.well()
        many = drifts.drawn(tool, process, truth, rows=5, width=1, steps=7)
        alone = drifts.drawn(tool, process, truth, rows=1, width=1, steps=7, first=10**6 + 3)
        assert torch.equal(many[3:4], alone)
    x, t = drifts.bumps(6), at(0.7, 6)
    whole = drifts.well().score_targets(x, t, drifts.noise(6))[1]
    part = drifts.well().score_targets(x[2:3], t[:1], drifts.noise(1, first=2))[1]
    assert torch.equal(whole.x_t[2:3], part.x_t)
    assert torch.equal(whole.target.score[2:3], part.target.score)


# ----------------------------------------------------------------------------- g: how density changes along a flow


def test_the_density_along_the_flow_is_that_of_gaussian_data():
    process = turning(terminal=GaussianTerminal(std=1.0)).with_closed_form(torch.zeros(1, 2))
    data = torch.tensor([[0.9, 0.3], [0.3, 0.5]], dtype=torch.float64)
    phi, _, cov = (part[0] for part in process.kernel.at(at(1.0, 1)))
    end = phi @ data @ phi.T + cov

    class Exact:  # the end law that Gaussian data really has
        def log_density(self, x):
            return torch.distributions.MultivariateNormal(torch.zeros(2).double(), end).log_prob(x)

    def denoiser(x, t, condition):
        phi, _, cov = process.kernel.at(t)
        return Score(-torch.linalg.solve(phi @ data @ phi.mT + cov, x[..., None])[..., 0])

    object.__setattr__(process, "terminal", Exact())
    x = torch.tensor([[0.5, -0.2], [1.5, 1.0], [-2.0, 0.1]], dtype=torch.float64)
    want = torch.distributions.MultivariateNormal(torch.zeros(2).double(), data).log_prob(x)
    found = [log_density(process, denoiser, x, steps=n, low=0.0) for n in (40, 80)]
    assert torch.allclose(found[1], want, atol=3e-3)
    assert float((found[0] - want).abs().max() / (found[1] - want).abs().max()) > 3  # second order


def test_minus_the_divergence_is_how_fast_ln_p_falls(truth):
    """On the grid: d ln p / dt along x' = v, against -div v, in the double well on its way."""
    process, k = drifts.well(), 24
    x, t = stationary(400, 2), k / 60
    rows = at(t, 400)
    v, div = divergence(lambda y: process.velocity(truth(y, rows), y, rows), x)
    step, dt = 1e-3, drifts.HORIZON / 60
    ahead, behind = (interpolated(truth.p[k + sign].log(), x + sign * dt * v) for sign in (1, -1))
    rate = (ahead - behind) / (2 * dt)
    typical = (x[:, 0].abs() < 2) & (truth_density(truth, k, x) > 0.02)
    slope = process.velocity(truth(x + step, rows), x + step, rows) - process.velocity(
        truth(x - step, rows), x - step, rows
    )
    assert typical.sum() > 200
    assert float((rate + slope[:, 0] / (2 * step))[typical].abs().median()) < 0.05
    assert float((rate[typical] + div[typical]).abs().median()) < 5  # the table's score is linear between cells


def interpolated(values, x):
    place = ((x[:, 0] - drifts.BOX.low) / drifts.BOX.width - 0.5).clamp(0, drifts.BOX.cells - 1.001)
    i = place.floor().long()
    return values[i] + (values[i + 1] - values[i]) * (place - i)


def truth_density(truth, k, x):
    return interpolated(truth.p[k], x)


def test_the_density_of_a_law_at_rest_is_its_own():
    process = drifts.well()
    x = torch.tensor([[-1.2], [0.0], [0.7]], dtype=torch.float64)
    found = log_density(process, lambda y, t, c: Score(2 * drifts.WELL(y, t)), x, steps=10)
    p = drifts.BOX.density(-drifts.WELL.energy(drifts.BOX.points, 1.0))
    assert torch.allclose(found, interpolated(p.log(), x), atol=2e-3)


# ----------------------------------------------------------------------------- h: a limit cycle, which has no energy

CYCLE = LimitCycle(pull=1.0, turn=2.0)
PLANE = GridBox(low=-3.0, high=3.0, cells=60, dimensions=2)


def cycling(**changes) -> SDE:
    return SDE(drift=CYCLE, diffusion=0.8, duration=1.0, **changes)


def blob(rows, *, first=0):
    return 0.3 * drifts.noise(rows, step=-3, first=first).normal(
        torch.empty(rows, 2, dtype=torch.float64)
    ) + torch.tensor([1.0, 0.0])


def on_plane(times):
    p = PLANE.density(-0.5 * ((PLANE.points - torch.tensor([1.0, 0.0])) / 0.3).square().sum(1))
    return fokker_planck(CYCLE, 0.8, p, times, box=PLANE)


def test_the_limit_cycle_follows_the_grid_and_carries_a_current():
    p = on_plane([0.0, 0.4, 1.0])
    for t, density in ((0.4, p[1]), (1.0, p[2])):
        x = cycling().corrupt(blob(ROWS), at(t), drifts.noise(ROWS, step=6))
        coarse = [v.reshape(15, 4, 15, 4).sum((1, 3)).flatten() for v in (PLANE.histogram(x), density)]
        counts, chance = coarse[0] * PLANE.width**2 * ROWS, coarse[1] * PLANE.width**2
        assert variation(counts, chance) < 0.5 * float((chance * (1 - chance) / ROWS).sqrt().sum()) + 0.03
        where = (density[..., None] * PLANE.points.reshape(60, 60, 2)).sum((0, 1)) * PLANE.width**2
        assert torch.allclose(x.mean(0), where, atol=0.03)
    rest = on_plane([0.0, 8.0])[1]
    x = PLANE.points.reshape(60, 60, 2)
    current = CYCLE(PLANE.points, PLANE.points[:, 0]).reshape(60, 60, 2) - 0.32 * score_on_grid(rest, PLANE)
    turning = (rest * (x[..., 0] * current[..., 1] - x[..., 1] * current[..., 0])).sum() * PLANE.width**2
    radial = (rest * (x * current).sum(-1)).sum() * PLANE.width**2
    assert float(turning) == pytest.approx(2.0 * float((rest * x.square().sum(-1)).sum() * PLANE.width**2), rel=0.02)
    assert abs(float(radial)) < 0.03  # it goes round, and neither in nor out


@pytest.mark.slow
def test_the_learned_score_of_the_limit_cycle_is_that_of_the_grid_and_turns_time_back():
    process, _ = cycling(steps=30, terminal=GaussianTerminal()).with_statistics(blob(3000), drifts.noise(3000))
    found = drifts.learned(process, lambda step, rows: blob(rows, first=step * rows), steps=1500, width=96)
    p = on_plane([0.0, 0.3, 0.6, 1.0])
    for t, density in ((0.3, p[1]), (0.6, p[2]), (1.0, p[3])):
        want = score_on_grid(density, PLANE).reshape(-1, 2)
        with torch.no_grad():
            got = found(PLANE.points, at(t, len(want))).score
        weight = density.reshape(-1, 1)
        error = ((got - want).square() * weight).sum() / (want.square() * weight).sum()
        assert math.sqrt(float(error)) < 0.15
    ends = process.corrupt(blob(4000, first=10**7), at(1.0, 4000), drifts.noise(4000, step=2))
    process, _ = cycling(steps=30, terminal=EmpiricalTerminal.of(ends)).with_statistics(blob(3000), drifts.noise(3000))
    x = drifts.drawn(ReverseSDE(), process, found, rows=3000, width=2, steps=100)
    assert sliced(x, blob(3000, first=10**8)) < 0.06


def test_a_prior_that_does_not_fit_is_said():
    good = drifts.well().with_statistics(drifts.bumps(2000), drifts.noise(2000))[1]
    assert good.distance < 0.05
    assert "the prior fits" in str(good)
    bad = drifts.well(terminal=GaussianTerminal(std=3.0)).with_statistics(drifts.bumps(2000), drifts.noise(2000))[1]
    assert bad.distance > 1
    assert "does not fit" in str(bad)
    assert isinstance(drifts.well().terminal, StationaryTerminal)
