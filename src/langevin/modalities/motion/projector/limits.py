"""Joints that turn no further than in the training data."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from langevin.modalities.motion import rotations
from langevin.modalities.motion.codec import ROOT, Poses
from langevin.modalities.motion.projector.space import Space, kept, require_below


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Every joint but the root within the greatest angle, in the training data, from its mean rotation.

    Args:
        below: the noise level sigma / alpha up to which the estimate is projected.
        margin: by which the angle may be exceeded, in radians.
    """

    kind: Literal["limits"] = "limits"
    below: float = 1.0
    margin: float = 0.05

    def __post_init__(self) -> None:
        require_below(self.below)
        if not 0 <= self.margin <= 3:
            raise ValueError(f"a projector's margin is 0 to 3 radians, got {self.margin}")

    def project(self, x: Tensor, space: Space) -> Tensor:
        codec = space.codec
        if not isinstance(codec, Poses):
            raise ValueError("the projector limits is for skeletons: states have no joints")
        raw = codec.channels_of(x)
        parts = list(raw[..., ROOT:].split(codec.widths[1:], -1))
        for i, joint in enumerate(codec.known.moving):
            if i == 0:
                continue
            centre = torch.tensor(codec.centre[i], dtype=x.dtype, device=x.device)
            most = codec.reach[i] + self.margin
            if codec.known.kinds[joint] == "hinge":
                axis = torch.tensor(codec.known.axes[joint], dtype=x.dtype, device=x.device)
                parts[i] = _hinge(parts[i], float(rotations.turn_about(axis, centre)), most)
            else:
                parts[i] = _ball(parts[i], centre, most)
        return kept(x, codec.of_channels(torch.cat([raw[..., :ROOT], *parts], -1)), space)


def _hinge(numbers: Tensor, centre: float, most: float) -> Tensor:
    """cos and sin (..., 2) of an angle at most `most` from the centre."""
    angle = torch.atan2(numbers[..., 1], numbers[..., 0])
    off = torch.remainder(angle - centre + torch.pi, 2 * torch.pi) - torch.pi
    inside = centre + off.clamp(-most, most)
    return torch.where((off.abs() > most)[..., None], torch.stack([inside.cos(), inside.sin()], -1), numbers)


def _ball(numbers: Tensor, centre: Tensor, most: float) -> Tensor:
    """Six numbers (..., 6) of a rotation at most `most` from the centre."""
    q = rotations.quaternion(rotations.matrix_of_six(numbers))
    angle = rotations.angle_between(centre.expand_as(q), q)
    near = rotations.slerp(centre.expand_as(q), q, (most / angle.clamp_min(1e-6)).clamp_max(1))
    return torch.where((angle > most)[..., None], rotations.six(rotations.matrix(near)), numbers)
