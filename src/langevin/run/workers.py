"""Several processes of this machine that make the samples of one request, and what is shown meanwhile.

They share nothing but the folder, like processes of several machines. One that is killed leaves its shard to the others.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import torch

from langevin.run.bulk import Bulk
from langevin.run.display import duration
from langevin.run.drawer import LISTED, Drawer, work
from langevin.run.shards import Shard
from langevin.training.machine import out_of_memory

POLL = 0.3  # seconds between two looks at the workers
EXPECTED = (ValueError, OSError)


def usual_workers(threads: int = 1) -> int:
    """One for each accelerator, or for each `threads` CPU cores that this process may use."""
    if torch.cuda.is_available():
        return torch.cuda.device_count()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // threads)


@dataclass(kw_only=True)
class Rate:
    """What is shown of the progress of some shards: how many samples there are, how many come in a second, what is left.

    Args:
        update: shows a text.
    """

    bulk: Bulk
    shards: Sequence[Shard]
    update: Callable[[str], None]
    begin: float = field(default_factory=time.perf_counter)
    before: int | None = None  # samples that were there at the beginning
    _next: float = 0.0  # time of the next look at the folder
    _done: int = 0

    @property
    def total(self) -> int:
        return sum(map(len, self.shards))

    def done(self) -> int:
        """Samples of shards that are done. The more shards, the less often they are looked at."""
        if time.perf_counter() >= self._next:
            self._done = self.total - sum(map(len, self.bulk.folder.missing(self.shards)))
            self._next = time.perf_counter() + len(self.shards) / LISTED
        return self._done

    def show(self, done: int | None = None) -> None:
        """Show that so many samples are there, or those of shards that are done."""
        done = self.done() if done is None else done
        if self.before is None:
            self.before = done
        new, seconds = done - self.before, time.perf_counter() - self.begin
        rate = (
            f"  {new / seconds:.3g} samples/s  {duration((self.total - done) * seconds / new)} left" if new > 0 else ""
        )
        self.update(f"{done:,}/{self.total:,} samples{rate}")


def work_here(
    bulk: Bulk, shards: Sequence[Shard], *, workers: int, say: Callable[[str], None], update: Callable[[str], None],
    drawer: Drawer | None = None,
) -> None:  # fmt: skip
    """Make all of the shards with so many processes of this machine; one is this process, which may have a `drawer`.

    Raises:
        ValueError: the options do not fit the run, or all workers were killed.
        OSError: a shard could not be written."""
    rate = Rate(bulk=bulk, shards=shards, update=update)
    rate.show()
    assert rate.before is not None
    if workers == 1:
        before = rate.before
        work(bulk, shards, drawer=drawer, say=say, progress=lambda drawn: rate.show(before + drawn))
        return
    with _started(bulk, shards, workers) as running:
        while any(worker.running for worker in running):
            for worker in running:
                worker.look(say)
            rate.show()
            time.sleep(POLL)
        for worker in running:
            worker.look(say)
    if bulk.folder.missing(shards):
        raise ValueError(
            "all workers were lost, perhaps for their memory: the same command goes on; give fewer --workers or a "
            "smaller --batch"
        )


@dataclass(kw_only=True, eq=False)
class _Worker:
    """A process that was started, seen from the one that started it."""

    number: int
    process: Any
    connection: Connection
    running: bool = True

    def look(self, say: Callable[[str], None]) -> None:
        """Pass on what it says. Raises its error."""
        with suppress(EOFError, OSError):
            while self.connection.poll():
                kind, thing = self.connection.recv()
                if kind == "error":
                    raise ValueError(thing)
                if self.number == 0:  # the others say the same
                    say(thing)
        if self.running and self.process.exitcode is not None:
            self.running = False
            if code := self.process.exitcode:
                how = f"was killed (signal {-code})" if code < 0 else f"ended with exit status {code}"
                say(f"worker {self.number} {how}: another one makes what it was making")


@contextmanager
def _started(bulk: Bulk, shards: Sequence[Shard], workers: int) -> Iterator[list[_Worker]]:
    """Workers that run; they are ended with the block."""
    context = multiprocessing.get_context("spawn")
    running = list[_Worker]()
    try:
        for number in range(workers):
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_worker, args=(bulk, list(shards), number, workers, sender), daemon=True)
            process.start()
            sender.close()
            running.append(_Worker(number=number, process=process, connection=receiver))
        yield running
    finally:
        for worker in running:
            worker.process.terminate()
        for worker in running:
            worker.process.join()


def _worker(bulk: Bulk, shards: Sequence[Shard], number: int, workers: int, sender: Connection) -> None:
    """What a process does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)  # so that it leaves no half-written files and no lease
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())
    try:
        work(bulk, shards, first=number / workers, say=lambda line: sender.send(("line", line)))
    except KeyboardInterrupt:
        os._exit(130)
    except Exception as error:
        short = out_of_memory(error)
        if not short and not isinstance(error, EXPECTED):
            raise
        with suppress(OSError):
            sender.send(("error", "out of memory: give a smaller --batch" if short else str(error)))
        os._exit(1)


def _end_with_parent() -> None:
    """Interrupt this process when the one that started it is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
