"""One process or many: `torchrun` sets RANK and WORLD_SIZE, and each process takes its share of every global batch.

Randomness and data order belong to rows of the global batch, not to processes, so a step is the same sum of gradients
at any world size (to rounding).
"""

import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class World:
    """This process among `size`."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0

    def rows(self, batch: int) -> Tensor:
        """This rank's rows of a global batch."""
        return torch.arange(self.rank, batch, self.size)

    def sum(self, tensors: list[Tensor]) -> None:
        """Add up each tensor over all ranks, in place, as one transfer."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([t.reshape(-1).float() for t in tensors])
        dist.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def share(self, thing: Any) -> Any:
        """The first rank's `thing` (a small Python object), on all ranks."""
        if self.size == 1:
            return thing
        box = [thing]
        dist.broadcast_object_list(box)
        return box[0]

    def agree(self, thing: Any) -> bool:
        """Whether all ranks have an equal `thing` (a small Python object); the answer is the same on all."""
        if self.size == 1:
            return True
        things: list[Any] = [None] * self.size
        dist.all_gather_object(things, thing)
        return all(other == things[0] for other in things)

    def wait(self) -> None:
        """Until all ranks are here."""
        if self.size > 1:
            dist.barrier()


def join_world() -> World:
    """The world that `torchrun` describes in the environment; alone if it does not."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World()
    if not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    return World(rank=dist.get_rank(), size=size)
