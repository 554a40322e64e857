"""The root's way through given places: what is missing between two of them is shared by the steps between.

Of all corrections of the velocities, those of equal steps are the least in squares.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.modalities.motion import rotations
from langevin.modalities.motion.codec import ROOT, Poses
from langevin.modalities.motion.projector.space import Space


@dataclass(frozen=True, kw_only=True, eq=False)
class Way:
    """Motions whose root is where it is to be at some frames.

    Args:
        places: (frames, 3) float64, x, z and heading; NaN where they are free. The first frame is the origin of the motion,
            so its place is not NaN.
        fixed: (frames,) bool, frames that are given: a step between two of them stays.
    """

    places: Tensor
    fixed: Tensor
    kind: str = "way"
    below: float = math.inf

    def project(self, x: Tensor, space: Space) -> Tensor:
        codec = space.codec
        assert isinstance(codec, Poses), "only a skeleton has a way"
        raw = codec.channels_of(x)
        places, fixed = self.places.to(raw), self.fixed.to(x.device)
        free = ~(fixed[1:] & fixed[:-1])  # of the steps 1 ..
        heading = _through(raw[..., 1:, 3:4] / space.rate, places[:, 2:], free)
        before = places[0, 2] + torch.cat([torch.zeros_like(heading[:, :1]), heading.cumsum(1)[:, :-1]], 1)[..., 0]
        ways = rotations.turned(raw[..., 1:, 1:3] / space.rate, before)
        ways = _through(ways, places[:, :2], free)
        ways = rotations.turned(ways, -before)
        moved = torch.cat([ways, heading], -1) * space.rate
        head = torch.cat([raw[..., :1, 1:ROOT], moved], 1)
        return codec.of_channels(torch.cat([raw[..., :1], head, raw[..., ROOT:]], -1))


def _through(steps: Tensor, places: Tensor, free: Tensor) -> Tensor:
    """Steps (b, frames - 1, k), changed where `free` (frames - 1,) so that they lead through places (frames, k)."""
    known = (~places.isnan().any(1)).nonzero()[:, 0].tolist()
    parts = list(steps.unbind(1))
    for a, b in zip(known[:-1], known[1:], strict=True):
        between = [i for i in range(a, b) if bool(free[i])]
        if not between:
            continue
        missing = places[b] - places[a] - torch.stack(parts[a:b], 1).sum(1)
        if missing.shape[1] == 1:  # of a heading, whole turns do not matter
            missing = torch.remainder(missing + math.pi, 2 * math.pi) - math.pi
        for i in between:
            parts[i] = parts[i] + missing / len(between)
    return torch.stack(parts, 1)
