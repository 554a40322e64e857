"""Feet, joints and smoothness of motions of a skeleton.

The thresholds of contact are of the training data (`codec.Poses`): 90 % of its feet that are low enough to stand move no
faster than `contact_speed`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.modalities.motion.codec import Poses

MEANING = {
    "foot skate": "share of frames of contact in which the foot moves faster than {speed:.3g} a second",
    "penetration": "mean depth of feet below the ground at {ground:.3g}",
    "float": "mean height of the lower foot above {height:.3g}, up to which feet stand",
    "jerk": "mean third derivative of the joints' positions",
    "bone-length error": "greatest difference of a bone from its length; 0 by forward kinematics",
}


@dataclass(frozen=True, kw_only=True)
class Skeletal:
    """Measurements of motions, in the units of their files and seconds."""

    foot_skate: float
    penetration: float
    float_: float
    jerk: float
    bone_error: float

    def by_name(self) -> dict[str, float]:
        """The numbers by the names of `MEANING`."""
        values = (self.foot_skate, self.penetration, self.float_, self.jerk, self.bone_error)
        return dict(zip(MEANING, values, strict=True))


def measured(codec: Poses, motions: Sequence[Tensor], rate: float) -> Skeletal:
    """Measurements of motions (frames, 3 + 4 m)."""
    skeleton, feet = codec.known, list(codec.feet)
    skates, depths, floats, jerks, error = list[Tensor](), list[Tensor](), list[Tensor](), list[Tensor](), 0.0
    lengths = skeleton.lengths()
    for values in motions:
        p = skeleton.positions_of(values.double())
        low = p[:, feet, 1]
        speed = (p[1:] - p[:-1])[:, feet][..., [0, 2]].norm(dim=-1) * rate
        contact = torch.maximum(low[1:], low[:-1]) < codec.contact_height
        skates.append((speed > codec.contact_speed)[contact].double())
        depths.append((codec.ground - low).clamp_min(0).flatten())
        floats.append((low.amin(1) - codec.contact_height).clamp_min(0))
        if len(p) > 3:
            jerks.append(((p[3:] - 3 * p[2:-1] + 3 * p[1:-2] - p[:-3]) * rate**3).norm(dim=-1).flatten())
        bones = (p - p[:, [max(0, parent) for parent in skeleton.parents]]).norm(dim=-1)
        error = max(error, float((bones - lengths).abs().max()))
    return Skeletal(
        foot_skate=_mean(skates), penetration=_mean(depths), float_=_mean(floats), jerk=_mean(jerks),
        bone_error=error if error > 1e-9 * skeleton.height else 0.0,
    )  # fmt: skip


def _mean(parts: Sequence[Tensor]) -> float:
    values = torch.cat(list(parts)) if parts else torch.zeros(1)
    return float(values.mean()) if len(values) else 0.0


def meaning_of(name: str, codec: Poses) -> str:
    """What a measurement means, with its thresholds."""
    return MEANING[name].format(speed=codec.contact_speed, ground=codec.ground, height=codec.contact_height)


def position_error(codec: Poses, drawn: Tensor, real: Tensor, at: Tensor) -> float:
    """Mean distance of the joints of two motions (frames, 3 + 4 m) at frames `at` (frames,) bool."""
    a, b = (codec.known.positions_of(values.double())[at] for values in (drawn, real))
    return float((a - b).norm(dim=-1).mean())
