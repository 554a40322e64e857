"""Poses and states come back from x; what x does not hold is where a motion begins and heads to."""

import math

import pytest
import torch

from langevin.modalities.motion import rotations
from langevin.modalities.motion.codec import Poses, States, origin_of
from tests.motions import MAN, RATE, poses


def codec(tokens="frame"):
    clips = [poses(gait, 60, phase=i, yaw=i) for i in range(3) for gait in ("walk", "run", "stand")]
    return Poses(skeleton=MAN, tokens=tokens).fitted(clips, RATE)


def positions(values):
    return MAN.positions_of(values.double())


@pytest.mark.parametrize("tokens", ["frame", "joint"])
@pytest.mark.parametrize("gait", ["walk", "run", "stand"])
def test_poses_come_back(tokens, gait):
    made, own = codec(tokens), poses(gait, 100, yaw=2.7)
    x = made.encode(own, RATE)
    assert x.shape == (made.channels, 100, *made.space)
    back = made.decode(x[None], RATE, origin=origin_of(MAN, own[:1]))[0]
    assert float((positions(back) - positions(own)).abs().max()) < 1e-5
    assert float(rotations.angle_between(*(MAN.split(v.double())[1] for v in (back, own))).max()) < 1e-3


def test_x_does_not_depend_on_where_a_motion_begins_and_heads_to():
    made, own = codec(), poses("walk", 50)
    root, q = MAN.split(own.double())
    angle = torch.tensor(1.3).double()
    flat = rotations.turned(root[:, [0, 2]], angle.expand(50)) + torch.tensor([5.0, -7.0])
    q = q.clone()
    q[:, 0] = rotations.multiply(rotations.yaw(angle), q[:, 0])
    elsewhere = MAN.join(torch.stack([flat[:, 0], root[:, 1], flat[:, 1]], 1), q)
    assert torch.allclose(
        made.encode(elsewhere.float(), RATE), made.encode(own, RATE), atol=2e-3
    )  # float32 metres at 20 frames a second


def test_heads_over_heels_comes_back():
    """A flip passes rotations whose heading is not defined."""
    made, angle = codec(), torch.linspace(0, 2 * math.pi, 40, dtype=torch.float64)
    own = poses("stand", 40).double()
    root, q = MAN.split(own)
    q = q.clone()
    for axis in (0, 2):
        turned = torch.zeros(3, dtype=torch.float64)
        turned[axis] = 1
        q[:, 0] = rotations.about(turned.expand(40, 3), angle)
        flip = MAN.join(root, q)
        back = made.decode(made.encode(flip.float(), RATE)[None], RATE, origin=origin_of(MAN, flip[:1]))[0]
        assert float((positions(back) - positions(flip)).abs().max()) < 1e-4


def test_bones_of_any_x_are_those_of_the_skeleton():
    made = codec()
    x = 3 * torch.randn(8, made.channels, 30, generator=torch.Generator().manual_seed(0))
    p = positions(made.decode(x, RATE))
    for joint in range(1, len(MAN)):
        length = (p[..., joint, :] - p[..., MAN.parents[joint], :]).norm(dim=-1)
        assert float((length - MAN.lengths()[joint]).abs().max()) < 1e-5


def test_hinges_of_any_x_turn_about_their_axis():
    made = codec()
    x = torch.randn(4, made.channels, 10, generator=torch.Generator().manual_seed(0))
    q = MAN.split(made.decode(x, RATE))[1]
    knees = [i for i, joint in enumerate(MAN.moving) if MAN.kinds[joint] == "hinge"]
    assert float(q[:, :, knees, 1:3].abs().max()) < 1e-6


@pytest.mark.parametrize("tokens", ["frame", "joint"])
def test_positions_are_those_of_the_decoded_poses_and_have_gradients(tokens):
    made = codec(tokens)
    x = made.encode(poses("run", 30), RATE)[None].double().requires_grad_()
    found = made.positions(x, RATE)
    assert torch.allclose(found, positions(made.decode(x, RATE)), atol=1e-5)
    found.square().sum().backward()
    assert bool(x.grad.isfinite().all())


def test_encoded_frames_are_standardised():
    made = codec()
    x = torch.cat([made.encode(poses(gait, 60, phase=1.0), RATE) for gait in ("walk", "run", "stand")], 1)
    assert float(x.mean(1).abs().max()) < 0.5
    assert 0.5 < float(x.std()) < 1.5


def test_states_come_back():
    values = torch.randn(50, 3) * torch.tensor([1.0, 20.0, 0.0]) + torch.tensor([0.0, 5.0, 2.0])
    made = States().fitted([values], 10.0)
    x = made.encode(values, 10.0)
    assert x.shape == (3, 50)
    assert torch.allclose(x[:2].std(1), torch.ones(2), atol=1e-3)
    assert torch.allclose(made.decode(x[None], 10.0)[0], values, atol=1e-4)
    assert torch.allclose(made.of_states(made.states(x)), x, atol=1e-6)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_diverged_is_not_decoded(bad):
    x = torch.zeros(1, codec().channels, 4)
    x[0, 0, 0] = bad
    with pytest.raises(ValueError, match="diverged"):
        codec().decode(x, RATE)


@pytest.mark.parametrize("tokens", ["frame", "joint"])
def test_local_positions_and_their_motion_are_those_of_the_whole(tokens):
    """Distances of joints, and how far each moves over the ground, are those of the decoded motion."""
    made = codec(tokens)
    x = made.encode(poses("run", 40), RATE)[None].double()
    p, v = made.local(x, RATE)
    whole = made.positions(x, RATE)
    assert torch.allclose(
        (p[..., 3, :] - p[..., 5, :]).norm(dim=-1), (whole[..., 3, :] - whole[..., 5, :]).norm(dim=-1) / MAN.height
    )
    assert torch.allclose(
        v[:, 1:].norm(dim=-1), (whole[:, 1:] - whole[:, :-1]).norm(dim=-1) * RATE / MAN.height, atol=1e-9
    )
    assert float(v[:, 0].abs().max()) == 0
