"""The cells of a column of Parquet files by row, read a row group at a time, in bounded memory.

A cell cannot be sought in a Parquet file: its row group is unpacked. So row groups are kept while there is room, and
data that is read in shuffle windows finds nearly all of its cells among them.
"""

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIMIT = 2**29  # bytes of row groups that are kept


@dataclass(frozen=True, kw_only=True)
class Group:
    """A row group of a file, with its number of rows, and the bytes of the column when they are unpacked."""

    file: Path
    number: int
    rows: int
    unpacked: int


class RowGroups:
    """The cells of row groups, by row.

    Args:
        groups: in the order of their rows.
        load: the cells of a group; its errors are raised where a cell is read.
        limit: bytes of groups that are kept, besides one that is read.
    """

    def __init__(self, groups: Sequence[Group], load: Callable[[Group], list[Any]], *, limit: int = LIMIT) -> None:
        self.groups, self.load, self.limit = groups, load, limit
        self.held = self.most = self.loaded = (
            0  # bytes that are kept, the most that ever were, and groups that were read
        )
        self._starts = [0]
        for group in groups:
            self._starts.append(self._starts[-1] + group.rows)
        self._kept = OrderedDict[int, Future[list[Any]]]()
        self._lock = threading.Lock()

    @property
    def shards(self) -> list[int]:
        """The number of the group that each row is in."""
        return [number for number, group in enumerate(self.groups) for _ in range(group.rows)]

    @property
    def window(self) -> int:
        """Rows that half of the limit holds, on average: what a window needs at a time then is kept."""
        bytes_a_row = max(1.0, sum(group.unpacked for group in self.groups) / max(1, self._starts[-1]))
        return max(1, int(self.limit / 2 / bytes_a_row))

    def read(self, row: int) -> Any:
        """A cell. Raises as `load`."""
        number = bisect_right(self._starts, row) - 1
        with self._lock:
            future = self._kept.get(number)
            own = future is None
            if future is None:
                future = self._kept[number] = Future()
                self._make_room(self.groups[number].unpacked)
            self._kept.move_to_end(number)
        if own:
            try:
                future.set_result(self.load(self.groups[number]))
            except BaseException as error:
                with self._lock:  # so that it is tried again
                    if self._kept.get(number) is future:
                        del self._kept[number]
                        self.held -= self.groups[number].unpacked
                future.set_exception(error)
        return future.result()[row - self._starts[number]]

    def _make_room(self, size: int) -> None:
        """Let the groups go that were read longest ago, until one of that size fits; it is the last of those kept."""
        while self.held + size > self.limit and len(self._kept) > 1:
            number, _ = self._kept.popitem(last=False)
            self.held -= self.groups[number].unpacked
        self.held += size
        self.most, self.loaded = max(self.most, self.held), self.loaded + 1
