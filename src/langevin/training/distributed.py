"""One process or several: a launcher sets RANK and WORLD_SIZE, and each process takes its share of every global batch.

Randomness and data order belong to the samples of the global batch and not to processes, so a step sums the same
gradients at any world size (up to rounding).
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

ASSEMBLE, TRANSFER = "LANGEVIN_ASSEMBLE_SECONDS", "LANGEVIN_TRANSFER_SECONDS"  # how long ranks wait for each other
WAITS = "waits"  # what a sign of life then says
BEATS = "LANGEVIN_RANKS"  # folder in which a supervisor looks for signs of life


@dataclass(frozen=True, kw_only=True)
class World:
    """The rank of this process, and the number of processes.

    Args:
        beats: the file whose time says when this rank last had its share of a step; None keeps none.
    """

    rank: int = 0
    size: int = 1
    beats: Path | None = None

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and reports progress."""
        return self.rank == 0

    def own_samples(self, batch: int) -> Tensor:
        """Indices of this rank's samples in a global batch of size `batch`, int64."""
        return torch.arange(self.rank, batch, self.size)

    def beat(self, *, waits: bool = False) -> None:
        """Say that this rank is at work, or that it has done its share of a step and waits for the others."""
        if self.beats is not None:
            with suppress(OSError):  # a full disk ends no step
                self.beats.write_text(WAITS if waits else "works")

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

    def gathered(self, thing: Any) -> list[Any]:
        """Every rank's `thing` (a small Python object), by rank, on every rank."""
        things: list[Any] = [thing] * self.size
        if self.size > 1:
            dist.all_gather_object(things, thing)
        return things

    def all_equal(self, thing: Any) -> bool:
        """Whether all ranks have an equal `thing` (a small Python object); every rank gets the same result."""
        things = self.gathered(thing)
        return all(other == things[0] for other in things)

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.size > 1:
            dist.barrier()


ALONE = World()


def join_world() -> World:
    """The world of the processes that a launcher started; of one where none did. A process group that is there is used.

    Raises:
        ValueError: the processes did not find each other in time, a port is in use, or there are too few devices."""
    if dist.is_initialized():
        return _world(dist.get_rank(), dist.get_world_size())
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return ALONE
    local, cuda = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.is_available()
    if cuda and local >= torch.cuda.device_count():
        raise ValueError(
            f"rank {os.environ.get('RANK')} is number {local} on its machine, which has {torch.cuda.device_count()} GPUs: "
            "start as many ranks as there are"
        )
    if cuda:
        torch.cuda.set_device(local)
    _assemble("nccl" if cuda else "gloo", size)
    return _world(dist.get_rank(), size)


def _world(rank: int, size: int) -> World:
    folder = os.environ.get(BEATS)
    return World(rank=rank, size=size, beats=Path(folder) / f"beat-{rank}" if folder else None)


def transfer_limit() -> timedelta:
    """How long a transfer may take, which every process group is made with."""
    return timedelta(seconds=float(os.environ.get(TRANSFER, "3600")))


def _assemble(backend: str, size: int) -> None:
    """Find the other processes and make a process group.

    Raises:
        ValueError: see `join_world`."""
    host, port = os.environ.get("MASTER_ADDR", ""), os.environ.get("MASTER_PORT", "")
    patience = float(os.environ.get(ASSEMBLE, "600"))
    try:
        store, rank, _ = next(dist.rendezvous("env://", timeout=timedelta(seconds=patience)))
        dist.init_process_group(
            backend, store=store, rank=rank, world_size=size,
            timeout=transfer_limit(),
        )  # fmt: skip
    except (dist.DistNetworkError, dist.DistStoreError) as error:
        text = str(error)
        if "EADDRINUSE" in text or "already in use" in text:
            raise ValueError(
                f"port {port} of {host} is in use, so the ranks cannot meet there: set MASTER_PORT (torchrun "
                "--master-port) to another one, the same for all ranks"
            ) from error
        raise ValueError(
            f"rank {os.environ.get('RANK')}: {size} ranks did not meet at {host}:{port} within {patience:g} s "
            f"({text.splitlines()[0][:200]}): start all of them with one MASTER_ADDR, MASTER_PORT and WORLD_SIZE "
            f"({ASSEMBLE} waits longer)"
        ) from error
