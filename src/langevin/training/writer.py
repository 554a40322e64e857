"""Who writes the checkpoints of a run: the first rank, or all ranks their parts in the background."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import torch.distributed as dist

from langevin.files import explain, remove, temporary_of
from langevin.training import checkpoint
from langevin.training.assembled import bytes_of
from langevin.training.distributed import World
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
        self._group: Any = dist.new_group(backend="gloo")  # the background has transfers of its own
        self._thread = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None

    @property
    def failed(self) -> bool:
        pending = self._pending
        return pending is not None and pending.done() and pending.exception() is not None

    def save(self, root: Path, *, then: Callable[[], None], whole: bool) -> None:
        self.settle()
        state, step = self.state, self.state.step
        checkpoint.require_finite(step, state.groups())
        if whole:
            groups = state.whole_groups()
            if self.world.first:
                checkpoint.save(root, step, groups, state.counters())
                then()
            self.world.barrier()
            return
        final = root / f"step-{step:08d}"
        temporary = Path(self.world.broadcast(str(temporary_of(final))))
        counters, size = state.counters(), bytes_of(state.groups())
        written = self._begin(temporary)
        from torch.distributed.checkpoint import CheckpointException

        def finish() -> None:
            try:
                written.result()
                if self.world.first:
                    checkpoint.complete(temporary, final, step, counters)
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

    def _begin(self, folder: Path) -> Any:
        """Copy this rank's parts, and begin to write them."""
        from torch.distributed.checkpoint import HuggingFaceStorageWriter, async_save

        groups = by_parameter(self.state.groups(), lambda key, part: self.placement.spread(key, part.detach()))
        flat = {f"{group}/{name}": tensor for group, tensors in groups.items() for name, tensor in tensors.items()}
        number = {group: i for i, group in enumerate(groups, 1)}
        writer = HuggingFaceStorageWriter(
            str(folder), fqn_to_index_mapping={key: number[key.split("/", 1)[0]] for key in flat}, save_distributed=True
        )
        return async_save(flat, storage_writer=writer, process_group=self._group)

    def settle(self) -> None:
        pending, self._pending = self._pending, None
        error = None if pending is None else pending.exception()
        if self.world.any(error is not None):  # else the others would wait for the one that has failed
            raise error or OSError("another rank could not write its part of a checkpoint")
