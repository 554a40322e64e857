"""Measurements are what they say on motions whose values are known."""

import pytest
import torch

from langevin.modalities.motion import rotations
from langevin.modalities.motion.codec import Poses
from langevin.modalities.motion.data import Motions
from langevin.modalities.motion.metrics import physics, skeletal
from langevin.modalities.motion.metrics.judge import compared, seen_of, train_judge, windows
from langevin.modalities.motion.metrics.measure import real_accuracy
from langevin.modalities.motion.metrics.two_samples import two_sample_accuracy
from langevin.modalities.motion.modality import Motion
from langevin.modalities.motion.systems import Pendulum
from langevin.modalities.motion.systems.system import trajectories
from tests import motions
from tests.motions import MAN, RATE, poses


def codec():
    return Poses(skeleton=MAN).fitted([poses(g, 100, phase=i) for i in range(3) for g in ("walk", "stand")], RATE)


def moved(by, frames=60):
    """A man who stands, and is moved by so much a frame."""
    values = poses("stand", 1).expand(frames, -1).clone()
    values[:, 1] -= 0.01
    values[:, :3] += torch.arange(frames)[:, None] * torch.tensor(by)
    return values


def test_feet_that_slide_skate_and_feet_below_the_ground_penetrate():
    made = codec()
    still, slides = (
        skeletal.measured(made, [moved((v, 0.0, 0.0))], RATE) for v in (0.0, 2 * made.contact_speed / RATE)
    )
    assert still.foot_skate == 0
    assert slides.foot_skate == 1
    assert still.jerk == pytest.approx(0, abs=1e-6)
    sunk = moved((0.0, 0.0, 0.0))
    low = MAN.positions_of(sunk)[0, list(MAN.feet()), 1]
    sunk[:, 1] -= 0.5
    expected = float((made.ground - (low - 0.5)).clamp_min(0).mean())
    assert skeletal.measured(made, [sunk], RATE).penetration == pytest.approx(expected, rel=1e-5)
    flies = moved((0.0, 0.0, 0.0))
    flies[:, 1] += 0.5
    assert skeletal.measured(made, [flies], RATE).float_ == pytest.approx(
        float(low.min()) + 0.5 - made.contact_height, rel=1e-4
    )


def test_jerk_is_the_third_derivative():
    values = moved((0.0, 0.0, 0.0))
    t = torch.arange(60, dtype=torch.float64) / RATE
    values = values.double()
    values[:, 0] += 0.7 * t**3
    found = skeletal.measured(codec(), [values], RATE)
    assert found.jerk == pytest.approx(6 * 0.7, rel=1e-4)


def test_bones_have_no_error_at_all():
    made = codec()
    x = torch.randn(4, made.channels, 30, generator=torch.Generator().manual_seed(0))
    assert skeletal.measured(made, list(made.decode(x, RATE)), RATE).bone_error == 0.0


def test_the_physics_of_real_trajectories_and_of_others():
    system = Pendulum()
    x = trajectories(system, 200, 64, seed=0)
    real = physics.measured(system, x, torch.zeros(1))
    assert real.residual < 1e-4
    assert real.energy_deviation < 1e-4
    assert real.amplitudes[0] < real.amplitudes[1] < real.amplitudes[2] < 3.2
    noisy = physics.measured(system, x + 0.01 * torch.randn(x.shape), torch.zeros(1))
    assert noisy.residual == pytest.approx(0.01 * 6**0.5 / system.dt**2, rel=0.1)  # of x_{+1} - 2 x + x_{-1}
    assert noisy.energy_deviation > 100 * real.energy_deviation
    small = physics.measured(system, 0.5 * x, torch.zeros(1))
    assert small.amplitudes[1] == pytest.approx(0.5 * real.amplitudes[1], rel=1e-5)


def test_the_error_of_a_continuation():
    real = torch.arange(20.0)[None, :, None].expand(3, 20, 1).square()
    error, still = physics.error_of(real.clone(), real, 5, torch.ones(1))
    assert error == 0
    line = 16 + 7 * torch.arange(1, 16)
    assert still == pytest.approx(float((line - real[0, 5:, 0]).square().mean().sqrt()))


def test_two_samples_are_told_apart_if_they_differ():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(120, 10, generator=generator) for _ in range(2))
    assert abs(two_sample_accuracy(a, b) - 0.5) < 0.15
    assert two_sample_accuracy(a, b + 2) > 0.95
    with pytest.raises(ValueError, match="8 motions in each set"):
        two_sample_accuracy(a[:4], b)


def test_real_motions_are_not_told_from_real_motions():
    """However alike the windows of a motion are, which overlap."""
    random, n = torch.Generator().manual_seed(0), 64
    ways = [0.1 * torch.randn(48, 16, generator=random).cumsum(0) for _ in range(n)]
    part = Motions(
        clips=tuple(way + torch.randn(1, 16, generator=random) for way in ways), rate=RATE, skeleton=None,
        columns=tuple(f"x{i}" for i in range(16)), names=("",) * n, actions=(None,) * n, texts=(None,) * n,
    )  # fmt: skip
    motion = Motion(path="x", window=32).fitted(part)
    overlapping = compared(motion, windows(motion, part)[0])
    assert two_sample_accuracy(overlapping[::2], overlapping[1::2]) < 0.4
    assert real_accuracy(motion, part) == pytest.approx(0.5, abs=0.1)
    assert real_accuracy(motion, part.select(range(15))) is None


def test_what_a_judge_sees_does_not_depend_on_place_and_heading():
    own = poses("walk", 40)
    root, q = MAN.split(own.double())
    angle = torch.tensor(0.9).double()
    flat = rotations.turned(root[:, [0, 2]], angle.expand(40)) + 3
    turned = torch.cat([rotations.multiply(rotations.yaw(angle), q[:, 0])[:, None], q[:, 1:]], 1)
    other = MAN.join(torch.stack([flat[:, 0], root[:, 1], flat[:, 1]], 1), turned)
    assert torch.allclose(seen_of(MAN, own, RATE), seen_of(MAN, other, RATE), atol=1e-3)


def test_a_judge_tells_gaits_apart(tmp_path):
    motion = Motion(path=str(motions.walks(tmp_path, each=4)), window=32)
    train, val = motion.open()
    motion = motion.fitted(train)
    judge = train_judge(motion, train, val, progress=lambda done, total: None)
    assert judge.accuracy > 0.9
    fresh = [poses(gait, 32, phase=2.2, yaw=1.0) for gait in motion.actions]
    assert judge.classes(motion, fresh).tolist() == [0, 1, 2]
