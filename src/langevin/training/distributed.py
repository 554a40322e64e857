"""One process or several: `torchrun` sets RANK and WORLD_SIZE, and each process takes its share of every global batch.

Randomness and data order belong to the samples of the global batch and not to processes, so a step sums the same
gradients at any world size (up to rounding).
"""

import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class World:
    """The rank of this process, and the number of processes."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and reports progress."""
        return self.rank == 0

    def own_samples(self, batch: int) -> Tensor:
        """Indices of this rank's samples in a global batch of size `batch`, int64."""
        return torch.arange(self.rank, batch, self.size)

    def all_reduce(self, tensors: list[Tensor]) -> None:
        """Sum each tensor over all ranks, in place, in one transfer."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([t.reshape(-1).float() for t in tensors])
        dist.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def broadcast(self, thing: Any) -> Any:
        """The first rank's `thing` (a small Python object), on every rank."""
        if self.size == 1:
            return thing
        box = [thing]
        dist.broadcast_object_list(box)
        return box[0]

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank; every rank gets the same result."""
        if self.size == 1:
            return flag
        count = torch.tensor(float(flag), device="cuda" if dist.get_backend() == "nccl" else "cpu")
        dist.all_reduce(count)
        return bool(count > 0)

    def all_equal(self, thing: Any) -> bool:
        """Whether all ranks have an equal `thing` (a small Python object); every rank gets the same result."""
        if self.size == 1:
            return True
        things: list[Any] = [None] * self.size
        dist.all_gather_object(things, thing)
        return all(other == things[0] for other in things)

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.size > 1:
            dist.barrier()


ALONE = World()


def join_world() -> World:
    """Join the processes that `torchrun` started; a world of one outside of torchrun."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World()
    if not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    return World(rank=dist.get_rank(), size=size)
