"""Room in memory for decoding: a thread takes what its image may need, and waits while others hold too much of it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Room:
    """`limit` bytes shared by all threads. More than `limit` is given to one thread alone."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._free = limit
        self._changed = threading.Condition()
        self._holders: set[int] = set()

    @contextmanager
    def taken(self, amount: int) -> Iterator[None]:
        """Hold `amount` bytes; inside, the same thread gets more without waiting, so it never waits for itself."""
        thread, amount = threading.get_ident(), min(amount, self.limit)
        if thread in self._holders:
            yield
            return
        with self._changed:
            self._changed.wait_for(lambda: self._free >= amount)
            self._free -= amount
            self._holders.add(thread)
        try:
            yield
        finally:
            with self._changed:
                self._free += amount
                self._holders.discard(thread)
                self._changed.notify_all()


ROOM = Room(5 * 2**28)  # 1.3 GB
