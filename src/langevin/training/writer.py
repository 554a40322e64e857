"""Who writes the checkpoints of a run: the first rank, or all ranks their parts in the background."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import torch.distributed as dist

from langevin.files import explain, remove, temporary_of
from langevin.training import checkpoint
from langevin.training.assembled import SHARD, bytes_of
from langevin.training.distributed import World, transfer_limit
from langevin.training.loop import TrainingState, by_parameter
from langevin.training.placement import Sharded


class Writer(Protocol):
    """Writes the state of a run under `root`. All ranks that take part call each method, at the same steps."""

    @property
    def failed(self) -> bool:
        """Whether `settle` would raise."""
        ...

    def save(self, root: Path, *, then: Callable[[], None], whole: bool) -> None:
        """Write a checkpoint of the current state; `then` is called on the first rank when it is complete.

        Args:
            whole: whether the file of a group must hold whole tensors, and be complete on return.

        Raises:
            ValueError: a number is not finite.
            OSError: the disk is full or not writable, with what to do; earlier checkpoints are untouched."""
        ...

    def settle(self) -> None:
        """Wait for a checkpoint that is being written.

        Raises:
            OSError: see `save`."""
        ...


def writer_of(state: TrainingState, world: World) -> "Writer":
    """The writer for the placement of a state."""
    return ShardWriter(state, state.placement, world) if isinstance(state.placement, Sharded) else FirstWriter(state)


class FirstWriter:
    """The first rank writes all tensors before it goes on."""

    def __init__(self, state: TrainingState) -> None:
        self.state = state

    @property
    def failed(self) -> bool:
        return False

    def save(self, root: Path, *, then: Callable[[], None], whole: bool) -> None:
        checkpoint.save(root, self.state.step, self.state.groups(), self.state.counters())
        then()

    def settle(self) -> None:
        pass


class ShardWriter:
    """Each rank writes its parts from a copy in main memory, while training goes on; the first completes the checkpoint by
    its manifest when all of them are flushed. One checkpoint is written at a time.

    All ranks see one file system."""

    def __init__(self, state: TrainingState, placement: Sharded, world: World) -> None:
        self.state, self.placement, self.world = state, placement, world
        self._group: Any = dist.new_group(
            backend="gloo", timeout=transfer_limit()
        )  # the background has its own transfers
        self._thread = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None

    @property
    def failed(self) -> bool:
        pending = self._pending
        return pending is not None and pending.done() and pending.exception() is not None

    def save(self, root: Path, *, then: Callable[[], None], whole: bool) -> None:
        self.settle()
        state, step = self.state, self.state.step
        self._require_finite(step)
        if whole:
            groups = state.whole_groups(keep=self.world.first)
            if self.world.first:
                checkpoint.save(root, step, groups, state.counters())
                then()
            self.world.barrier()
            return
        final = root / f"step-{step:08d}"
        temporary = Path(self.world.broadcast(str(temporary_of(final))))
        counters, size = state.counters(), bytes_of(state.groups())
        written, shapes = self._begin(temporary)
        from torch.distributed.checkpoint import CheckpointException

        def finish() -> None:
            try:
                written.result()
                sealed = self._sealed(temporary)
                if self.world.first:
                    checkpoint.complete(temporary, final, step, counters, sealed=sealed, shapes=shapes)
                    then()
            except CheckpointException as error:
                rank, (cause, _) = next(iter(error.failures.items()))
                if isinstance(cause, OSError):
                    raise explain(cause, final, size=size, run=root.parent) from error
                raise OSError(f"{final}: rank {rank} could not write its part: {cause}") from error
            except OSError as error:
                raise explain(error, final, size=size, run=root.parent) from error
            finally:
                if self.world.first:
                    remove(temporary)

        self._pending = self._thread.submit(finish)

    def _require_finite(self, step: int) -> None:
        """Check the parts of all ranks. Raises `ValueError` on each of them if a number is not finite."""
        error = None
        try:
            checkpoint.require_finite(step, self.state.groups())
        except ValueError as found:
            error = found
        if not self.placement.holds(self.world, error is None):
            raise error or ValueError(f"not saving step {step}: another rank holds numbers that are not finite")

    def _sealed(self, folder: Path) -> dict[str, dict[str, Any]]:
        """What a manifest says of the files of all ranks, each of which hashes and flushes its own.

        Raises:
            OSError: on every rank: one could not."""
        own: dict[str, dict[str, Any]] | OSError
        try:
            own = {file.name: checkpoint.seal(file) for file in folder.glob(f"{SHARD}{self.world.rank + 1:05d}-*")}
        except OSError as error:
            own = error
        everyone: list[Any] = [None] * self.world.size
        dist.all_gather_object(everyone, own, group=self._group)
        for found in everyone:
            if isinstance(found, OSError):
                raise found
        return {name: about for found in everyone for name, about in found.items()}

    def _begin(self, folder: Path) -> tuple[Any, dict[str, list[int]]]:
        """Copy this rank's parts, and begin to write them; also the shapes of all whole tensors."""
        from torch.distributed.checkpoint import HuggingFaceStorageWriter, async_save

        groups = by_parameter(self.state.groups(), lambda key, part: self.placement.dtensor(key, part.detach()))
        flat = {f"{group}/{name}": tensor for group, tensors in groups.items() for name, tensor in tensors.items()}
        number = {group: i for i, group in enumerate(groups, 1)}
        writer = HuggingFaceStorageWriter(
            str(folder), fqn_to_index_mapping={key: number[key.split("/", 1)[0]] for key in flat}, save_distributed=True
        )
        shapes = {key: list(tensor.shape) for key, tensor in flat.items()}
        return async_save(flat, storage_writer=writer, process_group=self._group), shapes

    def settle(self) -> None:
        pending, self._pending = self._pending, None
        error = None if pending is None else pending.exception()
        if self.world.any(error is not None):  # else the others would wait for the one that has failed
            raise error or OSError("another rank could not write its part of a checkpoint")
