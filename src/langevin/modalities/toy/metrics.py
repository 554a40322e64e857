"""How far two clouds of points are apart, in their own units."""

from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.diffusion.process.drift.gap import sliced


@dataclass(frozen=True, kw_only=True)
class Distance:
    """Sliced W1 of samples to held-out points, and of as many training points: the floor that chance sets."""

    generated: tuple[float, ...]
    floor: float
    count: int


def distance(generated: list[Tensor], train: Tensor, held_out: Tensor) -> Distance:
    """Of each set of samples (n, d) to the held-out points, at equal counts."""
    count = min(len(held_out), len(train), *(len(one) for one in generated))
    spread = torch.arange(count) * len(train) // count
    return Distance(
        generated=tuple(sliced(one[:count], held_out[:count]) for one in generated),
        floor=sliced(train[spread], held_out[:count]),
        count=count,
    )


def coordinates(x: Tensor) -> Tensor:
    """Points as features: themselves."""
    return x.double().flatten(1)
