"""Reading ahead: items are decoded in threads before they are asked for, in bounded memory.

Which items come next is a function of the step, so the reader is told and nothing is guessed. What is not there when it is
asked for is read then. So the number of threads, and whether anything was read ahead, changes no bit.
"""

import atexit
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Any
from weakref import WeakSet, finalize

LIMIT = 2**28  # bytes of items that are read and were not asked for


_READING = WeakSet["ReadAhead"]()


class ReadAhead:
    """Items by number, read in `workers` threads.

    Args:
        read: an item, a pure function of its number; its errors are raised where the item is taken.
        size: bytes of an item when it is read.
        limit: bytes of items that wait; further ones are not read ahead.
    """

    def __init__(
        self, read: Callable[[int], Any], *, size: Callable[[int], int], limit: int = LIMIT, workers: int | None = None
    ) -> None:
        self.read, self.size, self.limit = read, size, limit
        self.workers = workers or min(8, os.cpu_count() or 1)
        self.held = self.most = 0  # bytes that wait, and the most that ever did
        self._waiting = OrderedDict[int, Future[Any]]()
        self._lock = threading.Lock()

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="reader")
        _READING.add(self)
        finalize(self, pool.shutdown, wait=False, cancel_futures=True)
        return pool

    def want(self, items: Sequence[int]) -> None:
        """Begin to read items, in this order, as far as they fit; what waits and is not among them is let go."""
        with self._lock:
            wanted = dict.fromkeys(items)
            for item in [item for item in self._waiting if item not in wanted]:
                self._let_go(item).cancel()
            for item in wanted:
                if item in self._waiting:
                    continue
                if self.held + self.size(item) > self.limit:
                    return
                self._waiting[item] = self._pool.submit(self.read, item)
                self.held += self.size(item)
                self.most = max(self.most, self.held)

    def take(self, items: Sequence[int]) -> list[Any]:
        """The items of these numbers, which no longer wait then. Raises as `read`."""
        with self._lock:
            known = {item: self._let_go(item) for item in dict.fromkeys(items) if item in self._waiting}
            futures = [known.get(item) or known.setdefault(item, self._pool.submit(self.read, item)) for item in items]
        return [future.result() for future in futures]

    def close(self) -> None:
        """Read nothing more; what is being read is not waited for."""
        if "_pool" in self.__dict__:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _let_go(self, item: int) -> "Future[Any]":
        self.held -= self.size(item)
        return self._waiting.pop(item)


def _close_all() -> None:
    for reader in list(_READING):
        reader.close()


getattr(threading, "_register_atexit", atexit.register)(_close_all)  # before the interpreter waits for threads
