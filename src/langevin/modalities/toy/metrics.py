"""How far two clouds of points are apart, in their own units."""

from dataclasses import dataclass

from torch import Tensor

from langevin.diffusion.process.drift.gap import sliced


@dataclass(frozen=True, kw_only=True)
class Distance:
    """Sliced W1 of samples to held-out points, and of as many training points: the floor that chance sets (a mean)."""

    generated: tuple[float, ...]
    floor: float
    count: int


def distance(generated: list[Tensor], train: Tensor, held_out: Tensor) -> Distance:
    """Of each set of samples (n, d) to the held-out points, at equal counts."""
    count = min(len(held_out), len(train), *(len(one) for one in generated))
    blocks = train[: count * min(8, len(train) // count)].split(count)
    return Distance(
        generated=tuple(sliced(one[:count], held_out[:count]) for one in generated),
        floor=sum(sliced(block, held_out[:count]) for block in blocks) / len(blocks),
        count=count,
    )


def coordinates(x: Tensor) -> Tensor:
    """Points as features: themselves."""
    return x.double().flatten(1)
