"""Values within those of the training data."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from langevin.modalities.motion.codec import ROOT, Poses
from langevin.modalities.motion.projector.space import Space, kept, require_below


@dataclass(frozen=True, kw_only=True)
class Range:
    """States, or the height and the velocities of a skeleton's root, within the range of the training data.

    Args:
        below: the noise level sigma / alpha up to which the estimate is projected.
        margin: by which the range is wider on either side, of its width.
    """

    kind: Literal["range"] = "range"
    below: float = 1.0
    margin: float = 0.02

    def __post_init__(self) -> None:
        require_below(self.below)
        if not 0 <= self.margin <= 10:
            raise ValueError(f"a projector's margin is 0 to 10, got {self.margin}")

    def project(self, x: Tensor, space: Space) -> Tensor:
        codec = space.codec
        low, high = (torch.tensor(v, dtype=x.dtype, device=x.device) for v in (codec.low, codec.high))
        room = self.margin * (high - low)
        if not isinstance(codec, Poses):
            return kept(x, codec.of_states(codec.states(x).clamp(low - room, high + room)), space)
        raw = codec.channels_of(x)
        way = raw[..., :ROOT].clamp(low - room, high + room)
        return kept(x, codec.of_channels(torch.cat([way, raw[..., ROOT:]], -1)), space)
