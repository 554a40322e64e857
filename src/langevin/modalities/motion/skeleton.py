"""Skeletons: a tree of joints, and where they are for given rotations."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from langevin.modalities.motion import rotations

JointKind = Literal["ball", "hinge", "fixed"]
MOST_JOINTS = 512
OFFSETS = 0.2  # by which bones of motions of one skeleton may differ, of its size


@dataclass(frozen=True, kw_only=True)
class Skeleton:
    """A tree of joints, parents before children. The vertical axis is y.

    A pose is 3 + 4 m numbers: the position of the root, and a unit quaternion (w, x, y, z) for each of the m joints that
    move, in the frame of its parent.

    Args:
        names: of the joints; the first is the root.
        parents: index of each joint's parent; -1 for the root.
        offsets: (x, y, z) of each joint in its parent's frame. That of the root is not used.
        kinds: ball (any rotation), hinge (about one axis) or fixed (the end of a bone).
        axes: of hinges, unit vectors; zeros for other joints.

    Raises:
        ValueError: no tree with the root first, or numbers that are not finite.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: tuple[tuple[float, float, float], ...]
    kinds: tuple[JointKind, ...]
    axes: tuple[tuple[float, float, float], ...]

    def __post_init__(self) -> None:
        n = len(self.names)
        if not 1 <= n <= MOST_JOINTS or {len(self.parents), len(self.offsets), len(self.kinds), len(self.axes)} != {n}:
            raise ValueError(f"a skeleton has 1 to {MOST_JOINTS} joints with a parent, offset, kind and axis each")
        if self.parents[0] != -1 or not all(0 <= p < i for i, p in enumerate(self.parents) if i):
            raise ValueError("the first joint of a skeleton is its root, and parents come before their children")
        if not all(math.isfinite(v) for vectors in (self.offsets, self.axes) for vector in vectors for v in vector):
            raise ValueError("the offsets and axes of a skeleton are finite numbers")
        if self.kinds[0] != "ball":
            raise ValueError("the root of a skeleton turns freely")

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def moving(self) -> tuple[int, ...]:
        """The joints that have a rotation."""
        return tuple(i for i, kind in enumerate(self.kinds) if kind != "fixed")

    @cached_property
    def generations(self) -> list[list[int]]:
        """The children of the root, their children, and so on."""
        found, parents = list[list[int]](), [0]
        while parents := [i for i, parent in enumerate(self.parents) if parent in parents]:
            found.append(parents)
        return found

    @property
    def columns(self) -> int:
        """Numbers of a pose."""
        return 3 + 4 * len(self.moving)

    @cached_property
    def leaves(self) -> tuple[int, ...]:
        """The joints without children."""
        return tuple(i for i in range(len(self)) if i not in self.parents)

    @property
    def tree(self) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """What skeletons that can be trained on together have in common: names and parents."""
        return self.names, self.parents

    def lengths(self) -> Tensor:
        """The length of the bone from each joint's parent to it, (joints,); 0 for the root."""
        lengths = torch.tensor(self.offsets, dtype=torch.float64).norm(dim=-1)
        lengths[0] = 0
        return lengths

    @cached_property
    def height(self) -> float:
        """The sum of the lengths of bones on the longest way from the root: a measure of size."""
        lengths, reach = self.lengths().tolist(), [0.0] * len(self)
        for i in range(1, len(self)):
            reach[i] = reach[self.parents[i]] + lengths[i]
        return max(reach) or 1.0

    def split(self, poses: Tensor) -> tuple[Tensor, Tensor]:
        """The root's positions (..., 3) and the quaternions (..., m, 4) of poses (..., 3 + 4 m)."""
        return poses[..., :3], poses[..., 3:].unflatten(-1, (len(self.moving), 4))

    def join(self, root: Tensor, q: Tensor) -> Tensor:
        """Poses (..., 3 + 4 m): the inverse of `split`."""
        return torch.cat([root, q.flatten(-2)], -1)

    def positions(self, root: Tensor, local: Tensor) -> Tensor:
        """Forward kinematics: positions (..., joints, 3) of the joints.

        Args:
            root: positions of the root, (..., 3).
            local: rotation matrices (..., m, 3, 3) of the joints that move, in the frames of their parents.
        """
        offsets = torch.tensor(self.offsets, dtype=root.dtype, device=root.device)
        still = torch.eye(3, dtype=local.dtype, device=local.device).expand(*local.shape[:-3], 1, 3, 3)
        index = {joint: i for i, joint in enumerate(self.moving)}
        every = torch.cat([local, still], -3)[..., [index.get(joint, -1) for joint in range(len(self))], :, :]
        place, turn, found = root[..., None, :], every[..., :1, :, :], [root[..., None, :]]
        before, order = [0], [0]
        for joints in self.generations:
            parents = [before.index(self.parents[joint]) for joint in joints]
            held = turn[..., parents, :, :]
            place = place[..., parents, :] + (held @ offsets[joints][:, :, None])[..., 0]
            turn = held @ every[..., joints, :, :]
            found.append(place)
            before, order = joints, [*order, *joints]
        return torch.cat(found, -2)[..., [order.index(joint) for joint in range(len(self))], :]

    def positions_of(self, poses: Tensor) -> Tensor:
        """Positions (..., joints, 3) of poses (..., 3 + 4 m)."""
        root, q = self.split(poses)
        return self.positions(root, rotations.matrix(rotations.normalised(q)))

    def feet(self, poses: Tensor | None = None) -> tuple[int, ...]:
        """The joints that touch the ground: by their names, else the two leaves that are lowest on average in poses
        (n, 3 + 4 m), or with all rotations 0."""
        words = ("ankle", "foot", "toe", "heel")
        named = tuple(i for i, name in enumerate(self.names) if any(w in name.lower() for w in words))
        if named:
            return named
        rest = self.positions(torch.zeros(1, 3), torch.eye(3).expand(1, len(self.moving), 3, 3))
        heights = (rest if poses is None else self.positions_of(poses))[..., 1].mean(0).tolist()
        return tuple(sorted(sorted(self.leaves, key=lambda i: heights[i])[:2]))


def hinge_angles(skeleton: Skeleton, q: Tensor) -> Tensor:
    """The angle of each joint that moves (..., m) about its axis, for quaternions (..., m, 4); 0 for ball joints."""
    axes = torch.tensor([skeleton.axes[i] for i in skeleton.moving], dtype=q.dtype, device=q.device)
    hinge = torch.tensor([skeleton.kinds[i] == "hinge" for i in skeleton.moving], device=q.device)
    return torch.where(hinge, rotations.turn_about(axes.expand(*q.shape[:-1], 3), q), 0.0)
