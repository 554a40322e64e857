"""How a run is laid out over its ranks: replicas of all weights, weights in shards, or replicas of shards."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

ROOM = 0.5  # of a device's memory that weights, gradients, optimizer and EMAs may take; activations have the rest


@dataclass(frozen=True, kw_only=True)
class Parallel:
    """The layout of a run over ranks: `data` copies of weights that are in `shard` parts each.

    Args:
        data: copies; None is as many as there are ranks for.
        shard: ranks that hold one copy of the weights, gradients, optimizer state and EMAs together ("ZeRO: Memory
            Optimizations Toward Training Trillion Parameter Models", 2019, arXiv 1910.02054); auto is 1 where these
            fit into half of a rank's memory, else the least number with which they fit.
    """

    data: int | None = None
    shard: int | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        for name, value in (("data", self.data), ("shard", self.shard)):
            if isinstance(value, int) and not 1 <= value <= 10**6:
                raise ValueError(f"training.parallel.{name} is a number of ranks, at least 1, got {value}")


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """`data` replicas of `shard` parts; ranks of one replica are neighbours."""

    data: int = 1
    shard: int = 1

    def __str__(self) -> str:
        copies = f"{self.data} {'copy' if self.data == 1 else 'copies'} of the weights"
        return copies if self.shard == 1 else f"{copies}, each in {self.shard} parts"


WHOLE = Mesh()  # of a run on one rank


def bytes_per_weight(*, moments: int, emas: int) -> int:
    """Bytes that a float32 weight takes in training: itself, its gradient, and what is kept of it.

    Args:
        moments: tensors of the optimizer as large as the weights: 2 of AdamW, 1 of Muon.
        emas: EMAs."""
    return 4 * (2 + moments + emas)


def mesh_of(parallel: Parallel, *, size: int, needed: float, memory: float | None) -> Mesh:
    """The layout of a new run over `size` ranks.

    Args:
        needed: bytes that one whole copy takes in training.
        memory: bytes of a rank; None if unknown, which is taken to suffice.

    Raises:
        ValueError: the numbers do not give `size`, or no number of shards suffices."""
    shard = parallel.shard
    if shard == "auto":
        divisors = [n for n in range(1, size + 1) if size % n == 0 and parallel.data in (None, size // n)]
        fitting = [n for n in divisors if memory is None or needed / n <= ROOM * memory]
        if not divisors:
            raise ValueError(
                f"training.parallel.data={parallel.data} does not divide {size} ranks: start a multiple of "
                f"{parallel.data}, or leave it out"
            )
        if not fitting and size > 1:
            raise ValueError(
                f"weights, gradients, optimizer and EMAs take {needed / 1e9:,.1f} GB, and {max(divisors)} parts of it do "
                f"not fit into half of {(memory or 0) / 1e9:,.1f} GB a rank: start more ranks, or set "
                "training.parallel.shard yourself"
            )
        shard = fitting[0] if fitting else 1  # one rank alone is not refused: its estimate is no measurement
    data = max(1, size // shard) if parallel.data is None else parallel.data
    if data * shard != size:
        raise ValueError(
            f"training.parallel asks for {data} x {shard} ranks (data x shard), and there are {size}: start as many, or "
            f"set training.parallel.shard to a divisor of {size} and leave data out"
        )
    return Mesh(data=data, shard=shard)


def mesh_again(parallel: Parallel, *, size: int, needed: float, memory: float | None) -> Mesh:
    """The layout of a resumed run, whose number of ranks may be another than the recipe says: as many parts as that says
    where it divides the ranks, else one copy over all of them."""
    if isinstance(parallel.shard, int):
        shard = size if size % parallel.shard else parallel.shard
        return Mesh(data=size // shard, shard=shard)
    return mesh_of(Parallel(), size=size, needed=needed, memory=memory)


def size_of(tensors: Mapping[str, Tensor]) -> int:
    """Numbers in all tensors together."""
    return sum(tensor.numel() for tensor in tensors.values())
