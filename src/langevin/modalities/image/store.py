"""Access to pixels: all in memory, or decoded at every read."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from langevin.modalities.image.table import Table, threads
from langevin.modalities.image.unreadable import Broken


class Store(Protocol):
    """Access to the pixels of a table by row."""

    def read(self, rows: Sequence[int]) -> Tensor:
        """The images as uint8 (n, c, h, w); all of one shape."""
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

    def update_digest(self, digest: Any, rows: Sequence[int]) -> None:
        each = 1024 if isinstance(self.pixels, Tensor) else 1
        for start in range(0, len(rows), each):
            digest.update(self.read(rows[start : start + each]).numpy().tobytes())


@dataclass(frozen=True, kw_only=True, eq=False)
class Streaming:
    """A store that decodes images at every read, in several threads."""

    table: Table
    shapes: Sequence[tuple[int, int, int]]  # of each row
    sizes: tuple[int, ...]  # bytes of each encoded image

    def read(self, rows: Sequence[int]) -> Tensor:
        out = torch.empty((len(rows), *(self.shapes[rows[0]] if rows else self.shapes[0])), dtype=torch.uint8)

        def one(i: int) -> None:
            try:
                out[i] = self.table.decode(rows[i], self.shapes[rows[i]])
            except Broken as error:
                raise Broken(
                    f"could be read when the data were loaded and cannot be read now: it {error.reason}. Restore the "
                    "file and resume",
                    self.table.names[rows[i]],
                ) from error

        with ThreadPoolExecutor(threads()) as pool:
            for _ in pool.map(one, range(len(rows))):
                pass
        return out

    def update_digest(self, digest: Any, rows: Sequence[int]) -> None:
        digest.update(json.dumps([self.sizes[row] for row in rows]).encode())
