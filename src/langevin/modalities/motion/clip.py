"""A recorded or generated motion, and the errors of files that hold none."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from langevin.modalities.motion import rotations
from langevin.modalities.motion.skeleton import Skeleton

LONGEST = 600.0  # seconds of a motion that is made


class Unreadable(ValueError):
    """Why a file cannot be read, as the end of a sentence that begins with its name."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """One motion.

    Args:
        values: (frames, columns) float32: poses of a skeleton, or states.
        rate: frames per second.
        skeleton: None for states.
        columns: names of the columns of states; empty for poses.
        loop: whether the last frame is followed by the first.
        remarks: what was mended in reading.
    """

    values: Tensor
    rate: float
    skeleton: Skeleton | None = None
    columns: tuple[str, ...] = ()
    loop: bool = False
    remarks: tuple[str, ...] = ()

    @property
    def frames(self) -> int:
        return len(self.values)

    @property
    def seconds(self) -> float:
        return (self.frames - 1) / self.rate

    def resampled(self, rate: float) -> "Clip":
        """At another rate, from the first frame on: lines between states and positions, slerp between rotations."""
        if abs(rate - self.rate) < 1e-6 * rate:
            return self
        times = torch.arange(self.frames, dtype=torch.float64) / self.rate
        return replace(self, values=interpolated(self.values, times, uniform_times(self.seconds, rate)), rate=rate)


def uniform_times(seconds: float, rate: float) -> Tensor:
    """Times (n,) of frames at a rate, of which the last is at most a twentieth of a frame after `seconds`, float64."""
    return torch.arange(frames_at(seconds, rate), dtype=torch.float64) / rate


def frames_at(seconds: float, rate: float) -> int:
    """The frames of `uniform_times`."""
    return math.floor(seconds * rate + 0.05) + 1


def require_duration(name: str, seconds: float, rate: float, *, frames: int = 0) -> None:
    """Check that a given motion has two frames or more at a rate, and no more than `LONGEST` seconds or `frames`.

    Raises:
        ValueError: it has not."""
    if frames_at(seconds, rate) < 2:
        raise ValueError(
            f"{name} lasts {seconds:g} seconds, which is less than two frames at {rate:g} a second: give more"
        )
    if seconds > max(LONGEST, frames / rate):
        raise ValueError(
            f"{name} lasts {seconds:,.0f} seconds, and at most {LONGEST:g} are made: cut it; times are seconds"
        )


def interpolated(values: Tensor, times: Tensor, at: Tensor, *, skeleton: bool | None = None) -> Tensor:
    """Frames (n, columns) at rising times (n,), at other times (m,) within them: (m, columns).

    Args:
        skeleton: whether columns after the third are quaternions; None decides by their number.
    """
    if len(values) == 1:
        return values.expand(len(at), -1).clone()
    poses = skeleton if skeleton is not None else values.shape[1] > 3 and values.shape[1] % 4 == 3
    after = torch.searchsorted(times.contiguous(), at.contiguous(), right=True).clamp(1, len(times) - 1)
    before = after - 1
    gap = (times[after] - times[before]).clamp_min(1e-12)
    u = ((at - times[before]) / gap).clamp(0, 1)
    line = torch.lerp(values[before].double(), values[after].double(), u[:, None])
    if poses:
        p, q = (values[i, 3:].double().unflatten(1, (-1, 4)) for i in (before, after))
        turned = rotations.continuous(rotations.slerp(p, q, u[:, None].expand(p.shape[:2])))
        line = torch.cat([line[:, :3], turned.flatten(1)], 1)
    return line.to(values.dtype)


def repeated(clip: Clip, frames: int) -> Clip:
    """A cyclic clip, repeated until it has `frames` or more: each round goes on where the one before ended."""
    if not clip.loop or clip.frames < 3 or clip.frames >= frames:
        return clip
    if clip.skeleton is None:
        return replace(clip, values=clip.values.repeat(-(-frames // clip.frames), 1))
    once = clip.values.double()
    root, q = clip.skeleton.split(once)
    angle = rotations.heading(rotations.multiply(q[-1, 0], rotations.inverse(q[0, 0])))
    parts = [once]
    while sum(map(len, parts)) < frames:
        turn, last = len(parts) * angle, parts[-1][-1]
        flat = rotations.turned((root[1:] - root[0])[:, [0, 2]], turn.expand(len(root) - 1))
        moved = torch.stack([flat[:, 0] + last[0], root[1:, 1], flat[:, 1] + last[2]], 1)
        turned = rotations.multiply(rotations.yaw(turn), q[1:, 0])
        parts.append(clip.skeleton.join(moved, torch.cat([turned[:, None], q[1:, 1:]], 1)))
    values = torch.cat(parts)
    head, rest = values[:, :3], values[:, 3:].unflatten(1, (-1, 4))
    return replace(clip, values=torch.cat([head, rotations.continuous(rest).flatten(1)], 1).float())
