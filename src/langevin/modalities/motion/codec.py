"""Codecs of motion: maps between frames and x (channels, frames), standardised by statistics that they hold.

A pose of a skeleton becomes, in this order,

    height of the root; its velocity (x, z) in the frame of its heading, per second; yaw rate, in radians per second;
    the root's rotation without its heading, six numbers; six numbers of each ball joint, cos and sin of each hinge.

The heading is the nearest turn about the vertical axis. So x does not depend on where the motion begins and where it heads
to, and decoding adds up velocities from an origin. Bones have the lengths of the skeleton, exactly: positions follow by
forward kinematics.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from langevin.modalities.motion import rotations
from langevin.modalities.motion.skeleton import Skeleton, hinge_angles

ROOT = 4  # channels of the root's way
WIDTHS = {"ball": 6, "hinge": 2, "fixed": 0}
FLOOR = 0.02  # of the mean standard deviation of columns, below which one is not standardised further
LEAST = (0.01, 0.02, 0.05, 0.02)  # so for heights and speeds (in sizes of the skeleton), yaw rates, and rotations
RESTED = 10_000  # frames whose mean heights say which joints are feet, at most about
CONTACT = ("ground", "contact_height", "contact_speed")
DIVERGED = "the generated motion holds numbers that are not finite: the model or its guidance diverged"


@dataclass(frozen=True, kw_only=True)
class States:
    """Columns of numbers, standardised.

    Args:
        mean, std: of each column; fitted to the data.
        low, high: least and greatest value of each column; fitted to the data.
    """

    kind: Literal["states"] = "states"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    @property
    def channels(self) -> int:
        return len(self.mean)

    @property
    def space(self) -> tuple[int, ...]:
        """Sizes of x besides channels and frames."""
        return ()

    def fitted(self, clips: Sequence[Tensor], rate: float) -> "States":
        """With the statistics of clips (frames, columns)."""
        frames = torch.cat(list(clips)).double()
        std = frames.std(0)
        std = torch.where(std > FLOOR * std.mean(), std, std.mean().clamp_min(1e-12))
        return replace(
            self, mean=_rounded(frames.mean(0)), std=_rounded(std), low=_rounded(frames.amin(0)),
            high=_rounded(frames.amax(0)),
        )  # fmt: skip

    def encode(self, values: Tensor, rate: float) -> Tensor:
        """Frames (frames, columns) to x (columns, frames), float32."""
        return ((values - _row(self.mean, values)) / _row(self.std, values)).T.float().contiguous()

    def decode(self, x: Tensor, rate: float) -> Tensor:
        """x (..., columns, frames) to frames (..., frames, columns).

        Raises:
            ValueError: x is not finite."""
        require_finite(x)
        return self.states(x).float()

    def states(self, x: Tensor) -> Tensor:
        """x (..., columns, frames) to frames (..., frames, columns), of the type of x."""
        return x.transpose(-1, -2) * _row(self.std, x) + _row(self.mean, x)

    def of_states(self, values: Tensor) -> Tensor:
        """Frames (..., frames, columns) to x (..., columns, frames), of the type of the frames."""
        return ((values - _row(self.mean, values)) / _row(self.std, values)).transpose(-1, -2)


@dataclass(frozen=True, kw_only=True)
class Poses:
    """Poses of a skeleton, see the module.

    Args:
        tokens: frame: x is (channels, frames); joint: x is (6, frames, 1 + joints), a token for the root's way, and one for
            each joint that moves.
        skeleton: fitted to the data.
        mean, std: of each channel; fitted to the data.
        centre, reach: of each joint that moves, the mean rotation (w, x, y, z) and the greatest angle from it; fitted.
        low, high: least and greatest value of the channels of the root's way; fitted.
        touching: the joints that touch the ground; fitted.
        ground: the height below which feet are hardly ever; fitted, as what follows.
        contact_height: the height below which a foot may stand.
        contact_speed: the horizontal speed that 90 % of feet below it do not exceed.
    """

    kind: Literal["poses"] = "poses"
    tokens: Literal["frame", "joint"] = "frame"
    skeleton: Skeleton | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    centre: tuple[tuple[float, ...], ...] = ()
    reach: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    touching: tuple[int, ...] = ()
    ground: float = 0.0
    contact_height: float = 0.0
    contact_speed: float = 0.0

    @property
    def known(self) -> Skeleton:
        """The skeleton of a fitted codec."""
        assert self.skeleton is not None, "the modality of a run is fitted"
        return self.skeleton

    @property
    def feet(self) -> tuple[int, ...]:
        """The joints that touch the ground."""
        return self.touching or self.known.feet()

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the root's way, then of each joint that moves."""
        return (ROOT, *(WIDTHS[self.known.kinds[i]] for i in self.known.moving))

    @property
    def channels(self) -> int:
        return sum(self.widths) if self.tokens == "frame" else 6

    @property
    def space(self) -> tuple[int, ...]:
        """Sizes of x besides channels and frames."""
        return () if self.tokens == "frame" else (len(self.widths),)

    def fitted(self, clips: Sequence[Tensor], rate: float) -> "Poses":
        """With the statistics of clips (frames, 3 + 4 m)."""
        rows = [self.raw(values.double(), rate) for values in clips]
        frames = torch.cat(rows)
        std = frames.std(0)
        size = self.known.height
        least = torch.tensor([LEAST[0] * size, *(LEAST[1] * size,) * 2, *LEAST[2:3], *LEAST[3:] * (len(std) - ROOT)])
        q = torch.cat([self.known.split(values.double())[1] for values in clips])
        centre = torch.stack([_mean_rotation(q[:, i]) for i in range(q.shape[1])])
        reach = rotations.angle_between(centre.expand_as(q), q).amax(0)
        every = torch.cat(list(clips))
        feet = self.known.feet(every[:: 1 + len(every) // RESTED])
        contact = dict(zip(CONTACT, standing(self.known, feet, clips, rate), strict=True))
        return replace(
            self, touching=feet, mean=_rounded(frames.mean(0)), std=_rounded(torch.maximum(std, least.double())),
            centre=tuple(_rounded(row) for row in centre), reach=_rounded(reach), low=_rounded(frames[:, :ROOT].amin(0)),
            high=_rounded(frames[:, :ROOT].amax(0)), **contact,
        )  # fmt: skip

    def raw(self, poses: Tensor, rate: float) -> Tensor:
        """Poses (frames, 3 + 4 m) to channels (frames, c), not standardised. The first frame moves as the second does."""
        skeleton = self.known
        root, q = skeleton.split(poses)
        heading = rotations.heading(q[:, 0])
        turn = torch.remainder(heading[1:] - heading[:-1] + math.pi, 2 * math.pi) - math.pi
        way = rotations.turned((root[1:] - root[:-1])[:, [0, 2]], -heading[:-1])
        moved = torch.cat([way, turn[:, None]], 1) * rate
        moved = torch.cat([moved[:1] if len(moved) else root.new_zeros(1, 3), moved])
        local = torch.cat([rotations.multiply(rotations.yaw(-heading), q[:, 0])[:, None], q[:, 1:]], 1)
        angles, matrices = hinge_angles(skeleton, local), rotations.six(rotations.matrix(local))
        parts = [root[:, 1:2], moved]
        for i, joint in enumerate(skeleton.moving):
            hinge = skeleton.kinds[joint] == "hinge"
            parts.append(torch.stack([angles[:, i].cos(), angles[:, i].sin()], 1) if hinge else matrices[:, i])
        return torch.cat(parts, 1)

    def encode(self, values: Tensor, rate: float) -> Tensor:
        """Poses (frames, 3 + 4 m) to x (channels, frames) or (6, frames, tokens), float32."""
        raw = self.raw(values.double(), rate)
        return self.arranged(((raw - _row(self.mean, raw)) / _row(self.std, raw)).T).float().contiguous()

    def arranged(self, x: Tensor) -> Tensor:
        """Channels (..., c, frames) as x: the same, or a token a joint."""
        if self.tokens == "frame":
            return x
        parts = [F.pad(part, (0, 0, 0, 6 - part.shape[-2])) for part in x.split(self.widths, -2)]
        return torch.stack(parts, -1)

    def flat(self, x: Tensor) -> Tensor:
        """x as channels (..., c, frames): the inverse of `arranged`."""
        if self.tokens == "frame":
            return x
        return torch.cat([x[..., :width, :, i] for i, width in enumerate(self.widths)], -2)

    def channels_of(self, x: Tensor) -> Tensor:
        """x to channels (..., frames, c) in their units."""
        flat = self.flat(x).transpose(-1, -2)
        return flat * _row(self.std, flat) + _row(self.mean, flat)

    def of_channels(self, raw: Tensor) -> Tensor:
        """Channels (..., frames, c) in their units to x: the inverse of `channels_of`."""
        return self.arranged(((raw - _row(self.mean, raw)) / _row(self.std, raw)).transpose(-1, -2))

    def pose(self, x: Tensor, rate: float, *, origin: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The root's positions (b, frames, 3) and rotations (b, frames, m, 3, 3) of x (b, ...), with gradients.

        Args:
            origin: (b, 3), x, z and heading of the first frame; None is 0.
        """
        raw = self.channels_of(x)
        moved = raw[..., 1:ROOT] / rate
        moved = torch.cat([torch.zeros_like(moved[..., :1, :]), moved[..., 1:, :]], -2)
        start = raw.new_zeros(*raw.shape[:-2], 3) if origin is None else origin.to(raw)
        heading = start[..., None, 2] + moved[..., 2].cumsum(-1)
        before = torch.cat([heading[..., :1], heading[..., :-1]], -1)
        flat = start[..., None, :2] + rotations.turned(moved[..., :2], before).cumsum(-2)
        root = torch.stack([flat[..., 0], raw[..., 0], flat[..., 1]], -1)
        local = self._rotations(raw[..., ROOT:])
        turned = rotations.matrix(rotations.yaw(heading)) @ local[..., 0, :, :]
        return root, torch.cat([turned[..., None, :, :], local[..., 1:, :, :]], -3)

    def _rotations(self, numbers: Tensor) -> Tensor:
        """Rotation matrices (..., m, 3, 3) of the channels of joints (..., c - 4)."""
        skeleton = self.known
        kinds = [skeleton.kinds[joint] for joint in skeleton.moving]
        starts = [sum(self.widths[1 : i + 1]) for i in range(len(kinds))]
        balls = [i for i, kind in enumerate(kinds) if kind == "ball"]
        hinges = [i for i, kind in enumerate(kinds) if kind == "hinge"]
        six = numbers[..., [starts[i] + k for i in balls for k in range(6)]].unflatten(-1, (len(balls), 6))
        found = [rotations.matrix_of_six(six)]
        if hinges:
            cos, sin = (numbers[..., [starts[i] + k for i in hinges]] for k in (0, 1))
            axes = torch.tensor([skeleton.axes[skeleton.moving[i]] for i in hinges], dtype=cos.dtype, device=cos.device)
            angle = torch.atan2(sin, cos)
            found.append(rotations.matrix(rotations.about(axes.expand(*angle.shape, 3), angle)))
        order = [*balls, *hinges]
        return torch.cat(found, -3)[..., [order.index(i) for i in range(len(kinds))], :, :]

    def positions(self, x: Tensor, rate: float) -> Tensor:
        """Positions (b, frames, joints, 3) of x (b, ...) with gradients: forward kinematics."""
        return self.known.positions(*self.pose(x, rate))

    def local(self, x: Tensor, rate: float) -> tuple[Tensor, Tensor]:
        """Of x (b, ...), with gradients, in sizes of the skeleton: positions (b, frames, joints, 3) of joints around the
        root's vertical, and how they move from frame to frame over the ground, a second, of the same shape.

        Neither adds up over the frames, unlike `positions`. The first frame does not move."""
        raw, skeleton = self.channels_of(x), self.known
        root = torch.stack([torch.zeros_like(raw[..., 0]), raw[..., 0], torch.zeros_like(raw[..., 0])], -1)
        p = skeleton.positions(root, self._rotations(raw[..., ROOT:]))
        way, turn = raw[..., 1:, 1:3] / rate, raw[..., 1:, 3:4] / rate
        flat = rotations.turned(p[..., 1:, :, [0, 2]], turn.expand(*turn.shape[:-1], len(skeleton))) + way[..., None, :]
        moved = torch.stack([flat[..., 0], p[..., 1:, :, 1], flat[..., 1]], -1) - p[..., :-1, :, :]
        moved = F.pad(moved, (0, 0, 0, 0, 1, 0)) * rate
        return p / skeleton.height, moved / skeleton.height

    def decode(self, x: Tensor, rate: float, *, origin: Tensor | None = None) -> Tensor:
        """x (b, ...) to poses (b, frames, 3 + 4 m) with continuous quaternions; the origin as in `pose`.

        Raises:
            ValueError: x is not finite."""
        require_finite(x)
        root, local = self.pose(x.double(), rate, origin=origin)
        q = rotations.continuous(rotations.quaternion(local).transpose(0, 1)).transpose(0, 1)
        return self.known.join(root, q).float()


AnyCodec = States | Poses


def standing(skeleton: Skeleton, feet: Sequence[int], clips: Sequence[Tensor], rate: float) -> tuple[float, ...]:
    """Ground, height and speed of contact (`Poses`), from clips (frames, 3 + 4 m).

    The ground is the height below which one foot of a thousand is. A foot may stand up to the median height of the lower
    one."""
    heights, lowest, speeds = list[Tensor](), list[Tensor](), list[Tensor]()
    for values in clips:
        p = skeleton.positions_of(values.double())[:, list(feet)]
        heights.append(torch.maximum(p[1:, :, 1], p[:-1, :, 1]).flatten())
        lowest.append(p[..., 1].amin(1))
        speeds.append(((p[1:] - p[:-1])[..., [0, 2]].norm(dim=-1) * rate).flatten())
    height, speed = torch.cat(heights), torch.cat(speeds)
    below = float(torch.cat(lowest).median()) + 1e-3 * skeleton.height
    ground, fast = _quantile(torch.cat(lowest), 0.001), _quantile(speed[height < below], 0.9)
    return tuple(float(f"{v:.6g}") for v in (ground, below, max(fast, 1e-3 * skeleton.height)))


def _quantile(values: Tensor, share: float) -> float:
    ordered = values.sort().values if len(values) else values.new_zeros(1)
    return float(ordered[min(len(ordered) - 1, int(share * len(ordered)))])


def require_finite(x: Tensor) -> None:
    """Check that x is finite. Raises `ValueError` if the model diverged."""
    if not bool(torch.isfinite(x).all()):
        raise ValueError(DIVERGED)


def origin_of(skeleton: Skeleton, pose: Tensor) -> Tensor:
    """x, z and heading (..., 3) of poses (..., 3 + 4 m), float64."""
    root, q = skeleton.split(pose.double())
    return torch.stack([root[..., 0], root[..., 2], rotations.heading(q[..., 0, :])], -1)


def _mean_rotation(q: Tensor) -> Tensor:
    """The rotation (4,) nearest to rotations (n, 4) on average: the principal axis of q q'."""
    axis = torch.linalg.eigh(q.T @ q)[1][:, -1]
    return axis if float(axis[0]) >= 0 else -axis


def _rounded(values: Tensor) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in values.tolist())


def _row(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)
