"""Sliced Wasserstein-1 distance between sets of points, in units of the data."""

from dataclasses import dataclass

from torch import Tensor

from langevin.diffusion.process.sde.mismatch import sliced


@dataclass(frozen=True, kw_only=True)
class Distance:
    """Sliced W1 to the validation points: of each set of samples, and of training points (`floor`, a mean over blocks).

    `count` is the number of points in each set.
    """

    generated: tuple[float, ...]
    floor: float
    count: int


def distance(generated: list[Tensor], train: Tensor, val: Tensor) -> Distance:
    """The distance of each set of samples (n, d) to the validation points, all cut to the same number of points."""
    count = min(len(val), len(train), *(len(one) for one in generated))
    blocks = train[: count * min(8, len(train) // count)].split(count)
    return Distance(
        generated=tuple(sliced(one[:count], val[:count]) for one in generated),
        floor=sum(sliced(block, val[:count]) for block in blocks) / len(blocks),
        count=count,
    )


def coordinates(x: Tensor) -> Tensor:
    """The feature space of points: their coordinates, float64 (n, d)."""
    return x.double().flatten(1)
