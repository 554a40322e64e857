"""Reading ahead: items are decoded in threads before they are asked for, in bounded memory.

Which items come next is a function of the step, so the reader is told and nothing is guessed. What is not there when it is
asked for is read then. So the number of threads, and whether anything was read ahead, changes no bit.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Any

LIMIT = 2**28  # bytes of items that are read and were not asked for


class ReadAhead:
    """Items by row, read in `workers` threads.

    Args:
        read: an item, a pure function of its row; its errors are raised where the item is taken.
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
        return ThreadPoolExecutor(self.workers, thread_name_prefix="reader")

    def want(self, rows: Sequence[int]) -> None:
        """Begin to read rows, in this order, as far as they fit; what waits and is not among them is let go."""
        with self._lock:
            wanted = dict.fromkeys(rows)
            for row in [row for row in self._waiting if row not in wanted]:
                self._let_go(row).cancel()
            for row in wanted:
                if row in self._waiting:
                    continue
                if self.held + self.size(row) > self.limit:
                    return
                self._waiting[row] = self._pool.submit(self.read, row)
                self.held += self.size(row)
                self.most = max(self.most, self.held)

    def take(self, rows: Sequence[int]) -> list[Any]:
        """The items of rows, which no longer wait then. Raises as `read`."""
        with self._lock:
            known = {row: self._let_go(row) for row in dict.fromkeys(rows) if row in self._waiting}
            futures = [known.get(row) or known.setdefault(row, self._pool.submit(self.read, row)) for row in rows]
        return [future.result() for future in futures]

    def _let_go(self, row: int) -> "Future[Any]":
        self.held -= self.size(row)
        return self._waiting.pop(row)
