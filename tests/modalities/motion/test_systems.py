"""Simulations conserve what their systems conserve, and obey the equation between frames that projection uses."""

import math

import pytest
import torch

from langevin.diffusion.noise import SampleNoise
from langevin.modalities.motion.systems import Billiard, Pendulum, Projectile, Springs
from langevin.modalities.motion.systems.system import energies, integrate, residual, trajectories, velocities

SYSTEMS = {"pendulum": Pendulum(), "billiard": Billiard(), "projectile": Projectile(), "springs": Springs()}
EVERY = pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS)


def streams(count):
    rows = torch.arange(count)
    return SampleNoise(seeds=rows + 7, steps=torch.zeros_like(rows))


@EVERY
def test_the_force_is_minus_the_gradient_of_the_energy(system):
    x = trajectories(system, 30, 12, seed=1)[:, -1].double().requires_grad_()
    (gradient,) = torch.autograd.grad(system.energy(x, torch.zeros_like(x)).sum(), x)
    assert torch.allclose(system.acceleration(x), -gradient, atol=1e-9)


@EVERY
def test_energy_is_conserved_and_the_better_the_smaller_the_step(system):
    from dataclasses import replace

    def drift(substeps):
        finer = replace(system, substeps=substeps)
        x, v = finer.start(streams(60), 60)
        made = integrate(finer, x, v, 60)
        e = energies(finer, made)
        return float(((e - e[:, :1]).abs().amax(1) / e.abs().amax(1).clamp_min(1e-9)).median())

    assert drift(system.substeps) < 0.02
    if system.kind != "projectile":  # exact with any step
        fine, coarse = integrator_error(system, 8 * system.substeps), integrator_error(system, 4 * system.substeps)
        assert coarse / fine == pytest.approx(4, rel=0.1)  # second order


def integrator_error(system, substeps):
    """Of the energy at half a trajectory, from velocities of the integrator itself."""
    from dataclasses import replace

    finer = replace(system, substeps=substeps)
    x, v = finer.start(streams(40), 40)
    h, start = finer.dt / substeps, finer.energy(x, v)
    a = finer.acceleration(x)
    for _ in range(15 * substeps):
        v = v + h / 2 * a
        x = x + h * v
        a = finer.acceleration(x)
        v = v + h / 2 * a
    return float((finer.energy(x, v) - start).abs().mean())


@EVERY
def test_a_trajectory_obeys_the_equation_between_frames(system):
    """The residual of real trajectories is far below that of the same with frames out of order."""
    x = trajectories(system, 200, 64, seed=0).double()
    own = residual(system, x).square().mean().sqrt()
    mixed = (
        residual(system, x[:, torch.randperm(64, generator=torch.Generator().manual_seed(0))]).square().mean().sqrt()
    )
    assert float(own) < 0.01 * float(mixed)


def test_the_equation_between_frames_is_of_sixth_order():
    """On an exact solution of springs, the residual falls by 2^6 when the time between frames is halved."""

    def error(dt):
        system = Springs(masses=1, dt=dt)
        t = torch.arange(40, dtype=torch.float64) * dt
        return float(residual(system, (math.sqrt(2) * t).cos()[:, None]).abs().max())

    assert error(0.2) / error(0.1) == pytest.approx(64, rel=0.05)


def test_velocities_are_derivatives():
    system = Pendulum()
    x, v = system.start(streams(20), 20)
    made = integrate(system, x, v, 3)
    h = system.dt / system.substeps
    for _ in range(system.substeps):
        v = v + h / 2 * system.acceleration(x)
        x = x + h * v
        v = v + h / 2 * system.acceleration(x)
    assert torch.allclose(velocities(system, made)[:, 0], v, atol=1e-5)


def test_small_swings_are_those_of_an_oscillator():
    x = integrate(Pendulum(), torch.tensor([[0.01]]).double(), torch.zeros(1, 1).double(), 64)[0, :, 0]
    assert torch.allclose(x, 0.01 * (torch.arange(64) * 0.1).double().cos(), atol=2e-6)


def test_a_projectile_follows_its_parabola():
    system = Projectile()
    v = torch.tensor([[3.0, 5.0]]).double()
    x = integrate(system, torch.zeros(1, 2).double(), v, 50)[0]
    t = torch.arange(50).double() * system.dt
    assert torch.allclose(x, torch.stack([3 * t, 5 * t - system.gravity * t.square() / 2], 1), atol=1e-12)


def test_balls_exchange_momentum_and_stay_in_the_box():
    """A ball that hits one at rest head-on stops, and the other goes on with its speed."""
    system = Billiard(balls=2, radius=0.1, stiffness=3000.0, substeps=200)
    x = torch.tensor([[0.3, 0.5, 0.6, 0.5]]).double()
    v = torch.tensor([[0.5, 0.0, 0.0, 0.0]]).double()
    made = integrate(system, x, v, 15)
    last = velocities(system, made)[0, -1]
    assert last.tolist() == pytest.approx([0, 0, 0.5, 0], abs=2e-3)
    inside = trajectories(Billiard(), 100, 64, seed=3)
    assert float(inside.min()) > 0
    assert float(inside.max()) < 1


@EVERY
def test_a_trajectory_depends_on_its_number_alone(system):
    many, few = trajectories(system, 150, 8, seed=5), trajectories(system, 70, 8, seed=5)
    assert torch.equal(many[:70], few)
    assert not torch.equal(few, trajectories(system, 70, 8, seed=6))
    assert few.shape == (70, 8, len(system.columns))
    assert bool(system.allowed(few.double()).all())
    assert system.points(few).shape[-1] == 2


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        (Pendulum, {"dt": 0.0}, "dt is 0.0001 to 10"),
        (Pendulum, {"angle": 4.0}, "below pi"),
        (Pendulum, {"speed": math.inf}, "speed must be positive"),
        (Billiard, {"balls": 9}, "fill up to half of the box"),
        (Springs, {"masses": 0}, "masses is 1 to 64"),
        (Projectile, {"gravity": -1.0}, "gravity must be positive"),
        (Projectile, {"substeps": 0}, "substeps 1 to 1000"),
    ],
)
def test_what_is_no_system_is_refused(kind, change, said):
    with pytest.raises(ValueError, match=said):
        kind(**change)


def test_a_source_that_allows_nothing_is_said():
    with pytest.raises(ValueError, match=r"trajectories of pendulum are as data\.source allows"):
        trajectories(Pendulum(angle=3.1, speed=900.0), 50, 64, seed=0)
