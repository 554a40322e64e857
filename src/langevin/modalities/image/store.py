"""Access to pixels: all in memory, or decoded when they are read, and ahead of that."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from langevin.modalities.ahead import LIMIT, ReadAhead
from langevin.modalities.image.table import Table
from langevin.modalities.image.unreadable import Broken


class Store(Protocol):
    """Access to the pixels of a table by row."""

    def read(self, rows: Sequence[int]) -> Tensor:
        """The images as uint8 (n, c, h, w); all of one shape."""
        ...

    def expect(self, rows: Sequence[int]) -> None:
        """Rows that will be read next."""
        ...

    def update_digest(self, digest: Any, rows: Sequence[int]) -> None:
        """Feed what identifies the images into a hash of `hashlib`."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class InMemory:
    """A store that holds every image in one `uint8` tensor, or in one each where shapes differ."""

    pixels: Tensor | Sequence[Tensor]

    def read(self, rows: Sequence[int]) -> Tensor:
        if isinstance(self.pixels, Tensor):
            return self.pixels[torch.as_tensor(rows, dtype=torch.int64)]
        return torch.stack([self.pixels[row] for row in rows])

    def expect(self, rows: Sequence[int]) -> None:
        """Nothing is to be done."""

    def update_digest(self, digest: Any, rows: Sequence[int]) -> None:
        each = 1024 if isinstance(self.pixels, Tensor) else 1
        for start in range(0, len(rows), each):
            digest.update(self.read(rows[start : start + each]).numpy().tobytes())


@dataclass(frozen=True, kw_only=True, eq=False)
class Streaming:
    """A store that decodes images at every read, in several threads, and ahead of that where it is told what comes next.

    Args:
        shapes: of each row.
        sizes: bytes of each encoded image.
        limit: bytes of images that are decoded and were not read yet.
        workers: threads; None is as many as there are cores, at most 8. Their number changes no bit.
    """

    table: Table
    shapes: Sequence[tuple[int, int, int]]
    sizes: tuple[int, ...]
    limit: int = LIMIT
    workers: int | None = None

    @cached_property
    def ahead(self) -> ReadAhead:
        """The images that wait."""
        return ReadAhead(
            self._decoded, size=lambda row: math.prod(self.shapes[row]), limit=self.limit, workers=self.workers
        )

    def read(self, rows: Sequence[int]) -> Tensor:
        if not rows:
            return torch.empty((0, *self.shapes[0]), dtype=torch.uint8)
        return torch.stack(self.ahead.take(rows))

    def expect(self, rows: Sequence[int]) -> None:
        self.ahead.want(rows)

    def _decoded(self, row: int) -> Tensor:
        try:
            return self.table.decode(row, self.shapes[row])
        except Broken as error:
            raise Broken(
                f"could be read when the data were loaded and cannot be read now: it {error.reason}. Restore the "
                "file and resume",
                self.table.names[row],
            ) from error

    def update_digest(self, digest: Any, rows: Sequence[int]) -> None:
        digest.update(json.dumps([self.sizes[row] for row in rows]).encode())
