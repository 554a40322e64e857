"""Rotations agree with matrices and with each other; forward kinematics keeps every bone."""

import itertools
import math

import pytest
import torch

from langevin.modalities.motion import rotations
from langevin.modalities.motion.skeleton import Skeleton, hinge_angles

ORDERS = ["".join(order) for order in itertools.permutations("XYZ")]


def random_quaternions(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return rotations.normalised(torch.randn(*shape, 4, generator=generator, dtype=torch.float64))


def turn(axis: int, angle: float) -> torch.Tensor:
    """The matrix of a turn about a coordinate axis, from its definition."""
    c, s = math.cos(angle), math.sin(angle)
    j, k = (axis + 1) % 3, (axis + 2) % 3
    m = torch.zeros(3, 3, dtype=torch.float64)
    m[axis, axis], m[j, j], m[k, k], m[j, k], m[k, j] = 1, c, c, -s, s
    return m


def same(p, q, tolerance=1e-9):
    assert float(rotations.angle_between(p, q).max()) < tolerance


def test_the_matrix_of_a_product_is_the_product_of_matrices():
    p, q = random_quaternions(50), random_quaternions(50, seed=1)
    assert torch.allclose(
        rotations.matrix(rotations.multiply(p, q)), rotations.matrix(p) @ rotations.matrix(q), atol=1e-12
    )
    assert torch.allclose(rotations.matrix(rotations.inverse(p)), rotations.matrix(p).transpose(1, 2), atol=1e-12)


@pytest.mark.parametrize("near", [None, 0, 1, 2, 3])
def test_a_matrix_and_six_numbers_come_back(near):
    """Also near half turns, where the trace says nothing."""
    q = random_quaternions(200)
    if near is not None:
        q = rotations.normalised(1e-7 * q + torch.eye(4, dtype=torch.float64)[near])
    same(rotations.quaternion(rotations.matrix(q)), q, 1e-6)
    assert torch.allclose(rotations.matrix_of_six(rotations.six(rotations.matrix(q))), rotations.matrix(q), atol=1e-12)


def test_any_six_numbers_are_a_rotation():
    m = rotations.matrix_of_six(torch.randn(300, 6, dtype=torch.float64))
    assert torch.allclose(m @ m.transpose(1, 2), torch.eye(3, dtype=torch.float64).expand(300, 3, 3), atol=1e-9)
    assert torch.allclose(torch.linalg.det(m), torch.ones(300, dtype=torch.float64))


@pytest.mark.parametrize("order", ORDERS)
def test_euler_angles_are_turns_about_the_axes_in_order(order):
    angles = torch.tensor([[0.3, -0.7, 1.9], [-2.0, 1.2, 0.1]], dtype=torch.float64)
    expected = torch.stack(
        [
            turn("XYZ".index(order[0]), a) @ turn("XYZ".index(order[1]), b) @ turn("XYZ".index(order[2]), c)
            for a, b, c in angles.tolist()
        ]
    )
    assert torch.allclose(rotations.matrix(rotations.of_euler(angles, order)), expected, atol=1e-12)
    q = random_quaternions(500)
    same(rotations.of_euler(rotations.euler(q, order), order), q, 1e-6)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("middle", [math.pi / 2, -math.pi / 2])
def test_gimbal_lock_comes_back(order, middle):
    """With the middle angle a quarter turn the other two are not determined, and the rotation is."""
    outer = torch.linspace(-3, 3, 25, dtype=torch.float64)
    angles = torch.stack([outer, torch.full_like(outer, middle), outer.flip(0) / 2], 1)
    q = rotations.of_euler(angles, order)
    found = rotations.euler(q, order)
    assert bool(found.isfinite().all())
    same(rotations.of_euler(found, order), q, 1e-3)


def test_slerp_is_uniform_and_takes_the_shorter_way():
    p, q = random_quaternions(100), random_quaternions(100, seed=2)
    whole = rotations.angle_between(p, q)
    for u in (0.0, 0.25, 0.5, 1.0):
        for other in (q, -q):
            part = rotations.slerp(p, other, torch.full((100,), u, dtype=torch.float64))
            assert torch.allclose(rotations.angle_between(p, part), u * whole, atol=1e-6)


def test_signs_are_made_continuous():
    angle = torch.linspace(0, 20, 200, dtype=torch.float64)
    smooth = rotations.about(torch.tensor([0.0, 0.6, 0.8], dtype=torch.float64).expand(200, 3), angle)
    broken = torch.where(torch.arange(200)[:, None] % 7 < 3, -smooth, smooth)
    found = rotations.continuous(broken)
    assert float((found[1:] - found[:-1]).norm(dim=1).max()) < 0.06
    same(found, smooth)


def test_the_heading_is_what_a_yaw_adds():
    q = random_quaternions(100)
    angle = torch.linspace(-3, 3, 100, dtype=torch.float64)
    added = rotations.heading(rotations.multiply(rotations.yaw(angle), q)) - rotations.heading(q)
    assert float((torch.remainder(added - angle + math.pi, 2 * math.pi) - math.pi).abs().max()) < 1e-9
    vector = torch.randn(100, 2, dtype=torch.float64)
    whole = torch.stack([vector[:, 0], torch.zeros(100, dtype=torch.float64), vector[:, 1]], 1)
    expected = (rotations.matrix(rotations.yaw(angle)) @ whole[..., None])[:, [0, 2], 0]
    assert torch.allclose(rotations.turned(vector, angle), expected, atol=1e-12)


# ---------------------------------------------------------------------------------------------------------- skeletons

LEG = Skeleton(
    names=("hip", "knee", "ankle", "toe"), parents=(-1, 0, 1, 2), kinds=("ball", "hinge", "ball", "fixed"),
    offsets=((0, 0, 0), (0, -0.4, 0), (0, -0.4, 0.0), (0.15, 0, 0)),
    axes=((0, 0, 0), (0, 0, 1), (0, 0, 0), (0, 0, 0)),
)  # fmt: skip


def test_forward_kinematics_is_that_of_a_planar_chain():
    hip, knee = 0.3, -0.9
    z = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    q = torch.stack([rotations.about(z, torch.tensor(a, dtype=torch.float64)) for a in (hip, knee, 0.0)])
    found = LEG.positions_of(LEG.join(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64), q))
    at, total = (1.0, 2.0), hip
    expected = [at]
    for bone, angle in ((0.4, 0.0), (0.4, knee)):
        total += angle
        at = (at[0] + bone * math.sin(total), at[1] - bone * math.cos(total))
        expected.append(at)
    assert torch.allclose(found[:3, :2], torch.tensor(expected, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(found[:, 2], torch.full((4,), 3.0, dtype=torch.float64))


def test_bones_keep_their_lengths_for_any_rotation():
    poses = LEG.join(torch.randn(100, 3, dtype=torch.float64), random_quaternions(100, 3))
    p = LEG.positions_of(poses)
    for joint in range(1, 4):
        length = (p[:, joint] - p[:, LEG.parents[joint]]).norm(dim=1)
        assert float((length - LEG.lengths()[joint]).abs().max()) < 1e-12


def test_positions_have_the_gradient_of_finite_differences():
    numbers = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    root = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: LEG.positions(a, rotations.matrix_of_six(b)), (root, numbers))


def test_hinges_have_an_angle():
    angle = torch.tensor([0.5, -2.0], dtype=torch.float64)
    z = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand(2, 3)
    q = random_quaternions(2, 3)
    q[:, 1] = rotations.about(z, angle)
    assert torch.allclose(hinge_angles(LEG, q)[:, 1], angle)
    assert float(hinge_angles(LEG, q)[:, 0].abs().max()) == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"parents": (-1, 0, 3, 1)}, "parents come before"),
        ({"parents": (0, 0, 1, 2)}, "first joint"),
        ({"kinds": ("hinge", "hinge", "ball", "fixed")}, "root of a skeleton turns freely"),
        ({"offsets": ((0, 0, 0), (0, math.nan, 0), (0, 1, 0), (1, 0, 0))}, "finite"),
        ({"names": ("hip",)}, "1 to 512 joints"),
    ],
)
def test_what_is_no_tree_is_refused(change, said):
    fields = {name: getattr(LEG, name) for name in ("names", "parents", "offsets", "kinds", "axes")}
    with pytest.raises(ValueError, match=said):
        Skeleton(**{**fields, **change})
