"""What projectors know of x."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from langevin.modalities.motion.codec import AnyCodec
from langevin.modalities.motion.systems import AnySystem


@dataclass(frozen=True, kw_only=True, eq=False)
class Space:
    """What is known of b motions x (b, channels, frames, ...).

    Args:
        codec: the map between frames and x.
        rate: frames per second.
        system: whose trajectories they are; None of other motions.
        inside: (b, frames) bool, the frames that are data.
        given: (b, frames) bool, the frames that must stay as they are.
    """

    codec: AnyCodec
    rate: float
    system: AnySystem | None
    inside: Tensor
    given: Tensor

    def select(self, index: Tensor) -> "Space":
        """Of some of the motions."""
        return Space(
            codec=self.codec, rate=self.rate, system=self.system, inside=self.inside[index], given=self.given[index]
        )


class Projector(Protocol):
    """A map of motions to near ones that obey something."""

    @property
    def kind(self) -> str:
        """Its name."""
        ...

    @property
    def below(self) -> float:
        """The noise level sigma / alpha up to which the estimate is projected."""
        ...

    def project(self, x: Tensor, space: Space) -> Tensor:
        """x (b, channels, frames, ...) that obeys; every motion by itself, and given frames stay."""
        ...


def require_below(below: float) -> None:
    """Check a noise level. Raises `ValueError`."""
    if not below > 0:
        raise ValueError(f"a projector's `below` is a noise level sigma / alpha above 0, got {below}")


def kept(x: Tensor, new: Tensor, space: Space) -> Tensor:
    """`new`, but x where frames are given, or no data."""
    free = space.inside & ~space.given
    return torch.where(free.view(len(x), 1, -1, *(1,) * (x.ndim - 3)), new, x)
