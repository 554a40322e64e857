"""Many encoded images that came out of one big file, kept to be read by number."""

import tempfile
import threading


class Spool:
    """Byte strings one after another, in memory while they are few and in an unnamed temporary file beyond."""

    def __init__(self, limit: int = 2**29) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=limit)  # noqa: SIM115 - closed with its last reader
        self._ends = [0]
        self._lock = threading.Lock()

    def append(self, data: bytes) -> None:
        self._file.write(data)
        self._ends.append(self._ends[-1] + len(data))

    def read(self, row: int) -> bytes:
        start, end = self._ends[row], self._ends[row + 1]
        with self._lock:
            self._file.seek(start)
            return self._file.read(end - start)
