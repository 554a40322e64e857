"""The root's way through given targets: what is missing between two is shared by the steps between.

Of all corrections of the velocities, those of equal steps are the least in squares. Before the first target the motion is
free, and where it begins follows from that target.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from langevin.modalities.motion import rotations
from langevin.modalities.motion.codec import ROOT, Poses
from langevin.modalities.motion.projector.space import Space


@dataclass(frozen=True, kw_only=True, eq=False)
class Way:
    """Motions whose root is where it is to be at some frames.

    Args:
        targets: (frames, 3) float64, x, z and heading; NaN where they are free.
        fixed: (frames,) bool, frames that are given: a step between two of them stays.
    """

    targets: Tensor
    fixed: Tensor
    kind: str = "way"
    below: float = math.inf

    @property
    def known(self) -> list[int]:
        """The frames with a place."""
        return (~self.targets.isnan().any(1)).nonzero()[:, 0].tolist()

    def project(self, x: Tensor, space: Space) -> Tensor:
        codec, known = space.codec, self.known
        assert isinstance(codec, Poses), "only a skeleton has a way"
        if len(known) < 2:
            return x
        raw = codec.channels_of(x)
        targets, fixed = self.targets.to(raw), self.fixed.to(x.device)
        free = ~(fixed[1:] & fixed[:-1])  # of the steps 1 ..
        first = known[0]
        turns = _through(raw[..., 1:, 3:4] / space.rate, targets[None, :, 2:], known, free)
        heading = torch.cat([torch.zeros_like(turns[:, :1]), turns.cumsum(1)], 1)[..., 0]  # (b, frames), from 0
        before = heading[:, :-1]
        ways = rotations.turned(raw[..., 1:, 1:3] / space.rate, before)
        along = rotations.turned(
            (targets[:, :2] - targets[first, :2]).expand(len(x), -1, -1),
            (heading[:, first] - targets[first, 2])[:, None].expand(-1, len(targets)),
        )
        ways = rotations.turned(_through(ways, along, known, free), -before)
        moved = torch.cat([ways, turns], -1) * space.rate
        head = torch.cat([raw[..., :1, 1:ROOT], moved], 1)
        return codec.of_channels(torch.cat([raw[..., :1], head, raw[..., ROOT:]], -1))

    def origins(self, codec: Poses, x: Tensor, rate: float) -> Tensor:
        """Where motions x (b, ...) begin, (b, 3), so that they are at the first target when they should be."""
        first, raw = self.known[0], codec.channels_of(x.double())
        turns = raw[:, 1 : first + 1, 3] / rate
        heading = torch.cat([torch.zeros_like(turns[:, :1]), turns.cumsum(1)[:, :-1]], 1) if first else turns
        way = rotations.turned(raw[:, 1 : first + 1, 1:3] / rate, heading).sum(1)  # of a motion that begins at 0
        target = self.targets[first].to(raw)
        start = target[2] - turns.sum(1)
        return torch.cat([target[:2] - rotations.turned(way, start), start[:, None]], 1)


def _through(steps: Tensor, targets: Tensor, known: list[int], free: Tensor) -> Tensor:
    """Steps (b, frames - 1, k), changed where `free` (frames - 1,) to lead through targets (b or 1, frames, k)."""
    parts = list(steps.unbind(1))
    for a, b in pairwise(known):
        between = [i for i in range(a, b) if bool(free[i])]
        if not between:
            continue
        missing = targets[:, b] - targets[:, a] - torch.stack(parts[a:b], 1).sum(1)
        if missing.shape[1] == 1:  # of a heading, whole turns do not matter
            missing = torch.remainder(missing + math.pi, 2 * math.pi) - math.pi
        for i in between:
            parts[i] = parts[i] + missing / len(between)
    return torch.stack(parts, 1)
