"""Projections obey what they are for, change what obeys already by nothing, and motions by themselves."""

import math
from dataclasses import replace

import pytest
import torch

from langevin.diffusion.condition import Condition
from langevin.diffusion.posterior import Point
from langevin.diffusion.process import Gaussian
from langevin.modalities.motion import rotations
from langevin.modalities.motion.codec import Poses, States, origin_of
from langevin.modalities.motion.projector import Dynamics, Feet, Limits, Range, Space, Way, projecting
from langevin.modalities.motion.projector.feet import conjugate_gradients, contacts
from langevin.modalities.motion.systems.system import residual, trajectories
from tests.modalities.motion.test_systems import SYSTEMS
from tests.motions import MAN, RATE, poses

EVERY = pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS)


def noisy(size, like, seed=0):
    return like + size * torch.randn(like.shape, generator=torch.Generator().manual_seed(seed), dtype=like.dtype)


def space_of(codec, rate, b, frames, system=None):
    inside = torch.ones(b, frames, dtype=torch.bool)
    return Space(codec=codec, rate=rate, system=system, inside=inside, given=torch.zeros_like(inside))


def physical(system, count=12, frames=48):
    values = trajectories(system, count, frames, seed=2)
    codec = States().fitted(list(values), 1 / system.dt)
    x = torch.stack([codec.encode(one, 1 / system.dt) for one in values]).double()
    return codec, x, space_of(codec, 1 / system.dt, count, frames, system)


def off(system, codec, x):
    return residual(system, codec.states(x.double())).abs().amax((1, 2)) / system.dt**2


@EVERY
def test_trajectories_that_are_near_one_become_one(system):
    codec, x, space = physical(system)
    near = noisy(0.02, x)
    found = Dynamics(iterations=30).project(near, space)
    assert float(off(system, codec, found).max()) < 1e-3
    assert float(off(system, codec, near).min()) > 1
    # noise of n numbers is cut to that of the 2 d numbers that a trajectory has
    assert float((found - x).square().mean().sqrt()) < 0.6 * float((near - x).square().mean().sqrt())


@EVERY
def test_a_trajectory_stays(system):
    _codec, x, space = physical(system)
    once = Dynamics(iterations=30).project(x, space)
    assert torch.allclose(once, x, atol=0.02)  # float32, and another integrator
    assert torch.allclose(Dynamics(iterations=30).project(once, space), once, atol=1e-6)


def test_the_projection_is_the_nearest_trajectory():
    """For linear equations, that of least squares over the solutions."""
    system = SYSTEMS["springs"]
    codec, x, space = physical(system, count=1, frames=20)
    far = noisy(1.0, x)
    found = Dynamics().project(far, space)
    d = x.shape[1]
    j = torch.func.jacrev(lambda flat: residual(system, codec.states(flat.view(1, d, 20))).flatten())(x.flatten())
    kernel = torch.linalg.svd(j)[2][j.shape[0] :]  # the solutions: 2 d directions
    expected = x.flatten() + kernel.T @ (kernel @ (far - x).flatten())
    assert len(kernel) == 2 * d
    assert torch.allclose(found.flatten(), expected, atol=1e-4)


@EVERY
def test_given_frames_stay_and_padding_is_free(system):
    codec, x, space = physical(system)
    space.given[:, :5] = True
    space.inside[:, 40:] = False
    near = noisy(0.02, x)
    near[..., :5] = x[..., :5]
    found = Dynamics(iterations=30).project(near, space)
    assert torch.equal(found[..., :5], near[..., :5])
    assert torch.equal(found[..., 40:], near[..., 40:])
    assert float(off(system, codec, found[..., :40]).max()) < 0.05 + 2 * float(off(system, codec, x[..., :40]).max())


def walkers(b=4, frames=40):
    clips = [poses(g, 60, phase=i, yaw=i) for i in range(3) for g in ("walk", "run", "stand")]
    codec = Poses(skeleton=MAN).fitted(clips, RATE)
    x = torch.stack([codec.encode(poses("walk", frames, phase=0.7 * i), RATE) for i in range(b)])
    return codec, x, space_of(codec, RATE, b, frames)


@pytest.mark.parametrize("tokens", ["frame", "joint"])
def test_joints_turn_no_further_than_in_the_data(tokens):
    codec, x, _space = walkers()
    own = replace(codec, tokens=tokens)
    x = torch.stack([own.arranged(one) for one in x])
    assert torch.allclose(Limits().project(x, space_of(own, RATE, *x.shape[:3:2])), x, atol=1e-5)
    wild = noisy(3.0, x)
    found = Limits(margin=0.1).project(wild, space_of(own, RATE, *x.shape[:3:2]))
    q = rotations.quaternion(own.pose(found, RATE)[1])
    centre = torch.tensor(codec.centre)
    angle = rotations.angle_between(centre.expand_as(q), q)[..., 1:]
    assert float((angle - torch.tensor(codec.reach[1:])).max()) < 0.1 + 1e-3
    again = Limits(margin=0.1).project(found, space_of(own, RATE, *x.shape[:3:2]))
    assert torch.allclose(again, found, atol=1e-3)


def test_values_stay_in_the_range_of_the_data():
    codec, x, space = walkers()
    found = codec.channels_of(Range(margin=0.0).project(noisy(5.0, x), space))[..., :4]
    assert bool((found >= torch.tensor(codec.low) - 1e-4).all())
    assert bool((found <= torch.tensor(codec.high) + 1e-4).all())
    codec, x, space = physical(SYSTEMS["billiard"])
    found = codec.states(Range(margin=0.0).project(noisy(1.0, x), space))
    assert bool((found >= torch.tensor(codec.low) - 1e-4).all())
    assert bool((found <= torch.tensor(codec.high) + 1e-4).all())


def test_feet_that_slide_stand_still():
    codec, x, space = walkers()
    slides = noisy(0.03, x)
    still = contacts(codec, slides, space)
    assert float(still.sum()) > 20

    def slid(x):
        p = codec.positions(x, RATE)[..., list(MAN.feet()), :]
        return float(((p[:, 1:] - p[:, :-1])[..., [0, 2]].norm(dim=-1) * still).sum() / still.sum())

    found = Feet().project(slides, space)
    assert slid(found) < 0.2 * slid(slides)
    assert float((found - slides).square().mean().sqrt()) < 0.2
    lowest = codec.positions(found, RATE)[..., list(MAN.feet()), 1].min()
    assert float(lowest) > codec.ground - 0.01


def test_conjugate_gradients_solve():
    a = torch.randn(5, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    a = a @ a.transpose(1, 2) + torch.eye(9)
    b = torch.randn(5, 9, dtype=torch.float64)
    found = conjugate_gradients(lambda v: (a @ v[..., None])[..., 0], b, 30)
    assert torch.allclose(found, torch.linalg.solve(a, b), atol=1e-8)


@pytest.mark.parametrize("first", [0, 5])
def test_the_root_goes_through_given_places(first):
    codec, x, space = walkers(b=3, frames=30)
    targets = torch.full((30, 3), math.nan, dtype=torch.float64)
    targets[first] = torch.tensor([0.0, 0.0, 0.4])
    targets[12] = torch.tensor([1.0, -0.5, 2.0])
    targets[29] = torch.tensor([0.3, 2.0, -1.0])
    way = Way(targets=targets, fixed=torch.zeros(30, dtype=torch.bool))
    found = way.project(x, space)
    found = codec.decode(found, RATE, origin=way.origins(codec, found, RATE))
    at = origin_of(MAN, found)
    for frame in (first, 12, 29):
        assert torch.allclose(at[:, frame], targets[frame].expand(3, 3), atol=1e-4)
    same = way.project(way.project(x, space), space)
    assert torch.allclose(same, way.project(x, space), atol=1e-4)


def test_steps_between_given_frames_stay():
    codec, x, space = walkers(b=1, frames=30)
    origin = codec.decode(x, RATE)[0]
    targets = origin_of(MAN, origin)
    targets[5:25] = math.nan
    fixed = torch.ones(30, dtype=torch.bool)
    fixed[5:25] = False
    way = Way(targets=targets, fixed=fixed)
    found = way.project(noisy(0.5, x) * ~fixed + x * fixed, space)
    assert torch.allclose(found[..., 1:5], x[..., 1:5], atol=1e-5)
    assert torch.allclose(found[..., 26:], x[..., 26:], atol=1e-5)
    at = origin_of(MAN, codec.decode(found, RATE, origin=way.origins(codec, found, RATE)))[0]
    assert torch.allclose(at[25:], targets[25:], atol=1e-4)


def test_the_denoiser_projects_below_its_level_alone_and_keeps_given_frames():
    system, process = SYSTEMS["pendulum"], Gaussian(sigma_data=1.0)
    codec, x, space = physical(system, count=4)
    x = x.float()

    def denoiser(x_t, t, condition=None):
        return Point(noisy(0.05, x[: len(x_t)]))

    wrapped = projecting((Dynamics(below=0.3),), space, process)(denoiser)
    t = process.schedule.time(-2 * torch.tensor([1.0, 0.31, 0.29, 0.01], dtype=torch.float64).log())
    found = wrapped(torch.zeros_like(x), t, None).mean
    plain = noisy(0.05, x)
    assert torch.equal(found[:2], plain[:2])
    assert float(off(system, codec, found[2:]).max()) < 0.2
    times = t[3].expand(4, 1, x.shape[2]).clone()
    times[..., :4] = 0
    mask = torch.ones(4, x.shape[2], dtype=torch.bool)
    given = wrapped(x, times, Condition(data_mask=mask)).mean
    assert torch.equal(given[..., :4], x[..., :4])
    assert not torch.equal(given[..., 4:], x[..., 4:])


@EVERY
def test_motions_are_projected_by_themselves(system):
    _, x, space = physical(system)
    far = noisy(0.3, x)
    together = Dynamics().project(far, space)
    alone = torch.cat([Dynamics().project(far[i : i + 1], space.select(torch.tensor([i]))) for i in range(len(x))])
    assert torch.allclose(together, alone, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Dynamics(below=0), "above 0"), (lambda: Dynamics(iterations=0), "1 to 1,000 iterations"),
        (lambda: Feet(hold=0), "hold above 0"), (lambda: Limits(margin=-1), "0 to 3 radians"),
        (lambda: Range(margin=-1), "0 to 10"),
    ],
)  # fmt: skip
def test_what_is_no_projector_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_projectors_say_what_they_are_for():
    _codec, x, space = walkers()
    with pytest.raises(ValueError, match=r"needs data\.source"):
        Dynamics().project(x, space)
    _codec, x, space = physical(SYSTEMS["springs"])
    for projector in (Feet(), Limits()):
        with pytest.raises(ValueError, match="for skeletons"):
            projector.project(x, space)
