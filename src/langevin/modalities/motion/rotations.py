"""Rotations: unit quaternions (w, x, y, z), matrices, six numbers, Euler angles.

Six numbers are the first two columns of the matrix, from which Gram-Schmidt makes a rotation. Unlike three or four numbers
they are a continuous function of the rotation ("On the Continuity of Rotation Representations in Neural Networks", 2018,
arXiv:1812.07035).
"""

import math

import torch
from torch import Tensor

AXES = "XYZ"
GIMBAL = 1 - 1e-7  # |sin| of the middle angle beyond which the other two turn about one axis


def normalised(q: Tensor) -> Tensor:
    """Quaternions (..., 4) of length 1; one of length 0 becomes no rotation."""
    length = q.norm(dim=-1, keepdim=True)
    unit = q / length.clamp_min(1e-12)
    return torch.where(length > 1e-9, unit, identity(q))


def identity(like: Tensor) -> Tensor:
    """The quaternion of no rotation, of the type and device of `like`, (4,)."""
    return torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=like.dtype, device=like.device)


def continuous(q: Tensor) -> Tensor:
    """Quaternions (frames, ..., 4) with signs such that none is more than half a turn from the one before."""
    turned = (q[1:] * q[:-1]).sum(-1) < 0
    flips = torch.cat([turned.new_zeros(1, *turned.shape[1:]), turned]).long().cumsum(0) % 2
    return torch.where(flips[..., None] == 1, -q, q)


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """The rotation b, then a: the product of quaternions (..., 4)."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        -1,
    )


def inverse(q: Tensor) -> Tensor:
    """The inverse of unit quaternions (..., 4)."""
    return q * torch.tensor([1.0, -1.0, -1.0, -1.0], dtype=q.dtype, device=q.device)


def matrix(q: Tensor) -> Tensor:
    """Matrices (..., 3, 3) of unit quaternions (..., 4)."""
    w, x, y, z = q.unbind(-1)
    entries = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(entries, -1).unflatten(-1, (3, 3))


def quaternion(m: Tensor) -> Tensor:
    """Unit quaternions (..., 4), w at least 0, of rotation matrices (..., 3, 3).

    4 q q' is linear in the matrix; of its four rows, all multiples of q, the longest is normalised."""
    m = m.clone()
    (a, b, c), (d, e, f), (g, h, i) = (part.unbind(-1) for part in m.unbind(-2))
    rows = [
        torch.stack([1 + a + e + i, h - f, c - g, d - b], -1),
        torch.stack([h - f, 1 + a - e - i, b + d, c + g], -1),
        torch.stack([c - g, b + d, 1 - a + e - i, f + h], -1),
        torch.stack([d - b, c + g, f + h, 1 - a - e + i], -1),
    ]
    every = torch.stack(rows, -2)
    longest = every.diagonal(dim1=-2, dim2=-1).argmax(-1)
    q = every.gather(-2, longest[..., None, None].expand(*longest.shape, 1, 4))[..., 0, :]
    q = q / q.norm(dim=-1, keepdim=True)
    return torch.where(q[..., :1] < 0, -q, q)


def six(m: Tensor) -> Tensor:
    """The first two columns (..., 6) of matrices (..., 3, 3)."""
    return m[..., :2].transpose(-1, -2).flatten(-2)


def matrix_of_six(numbers: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of any (..., 6) numbers, by Gram-Schmidt; the inverse of `six`."""
    a, b = numbers[..., :3], numbers[..., 3:]
    x = torch.nn.functional.normalize(a, dim=-1, eps=1e-8)
    y = torch.nn.functional.normalize(b - (x * b).sum(-1, keepdim=True) * x, dim=-1, eps=1e-8)
    return torch.stack([x, y, torch.linalg.cross(x, y)], -1)


def about(axis: Tensor, angle: Tensor) -> Tensor:
    """Quaternions (..., 4) of turns by `angle` (...) radians about unit vectors `axis` (..., 3)."""
    half = angle[..., None] / 2
    return torch.cat([half.cos(), half.sin() * axis], -1)


def turn_about(axis: Tensor, q: Tensor) -> Tensor:
    """The angle (...) in (-pi, pi] of the turn about `axis` (..., 3) that is nearest to the rotation q (..., 4)."""
    angle = 2 * torch.atan2((q[..., 1:] * axis).sum(-1), q[..., 0])
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


def heading(q: Tensor) -> Tensor:
    """The yaw (...) of rotations q (..., 4): the nearest turn about the vertical axis y."""
    return turn_about(torch.tensor([0.0, 1.0, 0.0], dtype=q.dtype, device=q.device), q)


def yaw(angle: Tensor) -> Tensor:
    """Quaternions (..., 4) of turns about the vertical axis y."""
    half = angle / 2
    return torch.stack([half.cos(), torch.zeros_like(half), half.sin(), torch.zeros_like(half)], -1)


def turned(vector: Tensor, angle: Tensor) -> Tensor:
    """Horizontal vectors (..., 2), as (x, z), turned by `angle` (...) about the vertical axis y."""
    x, z = vector.unbind(-1)
    return torch.stack([angle.cos() * x + angle.sin() * z, -angle.sin() * x + angle.cos() * z], -1)


def angle_between(p: Tensor, q: Tensor) -> Tensor:
    """The angle (...) in [0, pi] between rotations (..., 4)."""
    half = multiply(inverse(p), q)
    return 2 * torch.atan2(half[..., 1:].norm(dim=-1), half[..., 0].abs())


def slerp(p: Tensor, q: Tensor, u: Tensor) -> Tensor:
    """Rotations on the shortest way from p to q (..., 4) at u (...) in [0, 1]."""
    cosine = (p * q).sum(-1, keepdim=True)
    q = torch.where(cosine < 0, -q, q)
    angle = cosine.abs().clamp_max(1).acos()
    u = u[..., None]
    sine = angle.sin()
    near = sine < 1e-4  # where the line is as good as the arc
    safe = torch.where(near, torch.ones_like(sine), sine)
    a = torch.where(near, 1 - u, ((1 - u) * angle).sin() / safe)
    b = torch.where(near, u, (u * angle).sin() / safe)
    return normalised(a * p + b * q)


def of_euler(angles: Tensor, order: str) -> Tensor:
    """Quaternions (..., 4) of Euler angles (..., n) in radians about the axes of `order`, such as "ZXY": the first is
    outermost, R = R_Z R_X R_Y."""
    q = identity(angles).expand(*angles.shape[:-1], 4)
    for i, name in enumerate(order):
        axis = torch.zeros(3, dtype=angles.dtype, device=angles.device)
        axis[AXES.index(name)] = 1
        q = multiply(q, about(axis.expand(*angles.shape[:-1], 3), angles[..., i]))
    return q


def euler(q: Tensor, order: str) -> Tensor:
    """Euler angles (..., 3) in radians of rotations (..., 4) about three different axes: the inverse of `of_euler`.

    In gimbal lock, where the middle angle is a quarter turn, the last angle is 0."""
    i, j, k = (AXES.index(name) for name in order)
    sign = 1.0 if (i, j, k) in ((0, 1, 2), (1, 2, 0), (2, 0, 1)) else -1.0
    m = matrix(q)
    sine = (sign * m[..., i, k]).clamp(-1, 1)
    locked = sine.abs() > GIMBAL
    first = torch.where(
        locked, torch.atan2(sign * m[..., k, j], m[..., j, j]), torch.atan2(-sign * m[..., j, k], m[..., k, k])
    )
    last = torch.where(locked, torch.zeros_like(sine), torch.atan2(-sign * m[..., i, j], m[..., i, i]))
    return torch.stack([first, sine.asin(), last], -1)
