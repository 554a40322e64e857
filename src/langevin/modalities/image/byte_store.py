"""Encoded images from one big file, to be read by index."""

import tempfile
import threading


class ByteStore:
    """Byte strings by index, in memory up to `limit` bytes and beyond that in an unnamed temporary file."""

    def __init__(self, limit: int = 2**28) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=limit)  # noqa: SIM115 - closed with its last reader
        self._ends = [0]
        self._lock = threading.Lock()

    def append(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            where = tempfile.gettempdir()
            raise ValueError(
                f"{where} has no room for the images ({error.strerror}): set TMPDIR to a larger one"
            ) from error
        self._ends.append(self._ends[-1] + len(data))

    def size(self, row: int) -> int:
        """Bytes of one string."""
        return self._ends[row + 1] - self._ends[row]

    def read(self, row: int) -> bytes:
        start, end = self._ends[row], self._ends[row + 1]
        with self._lock:
            self._file.seek(start)
            return self._file.read(end - start)
