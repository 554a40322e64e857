"""Where pixels are kept: all of them in memory, or decoded again whenever they are asked for."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from langevin.modalities.image.damage import Broken
from langevin.modalities.image.table import Table, threads


class Store(Protocol):
    """Where the pixels are: rows of it are given as `uint8` (n, c, h, w), and told to a digest."""

    def read(self, rows: Sequence[int]) -> Tensor: ...

    def tell(self, digest: Any, rows: Sequence[int]) -> None: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class InMemory:
    """A store that holds every image as one `uint8` tensor."""

    pixels: Tensor

    def read(self, rows: Sequence[int]) -> Tensor:
        return self.pixels[torch.as_tensor(rows, dtype=torch.int64)]

    def tell(self, digest: Any, rows: Sequence[int]) -> None:
        for start in range(0, len(rows), 1024):
            digest.update(self.read(rows[start : start + 1024]).numpy().tobytes())


@dataclass(frozen=True, kw_only=True, eq=False)
class Streaming:
    """A store that decodes images whenever they are asked for, by a few threads that live as long as one read."""

    table: Table
    shape: tuple[int, int, int]
    sizes: tuple[int, ...]  # bytes of each encoded image

    def read(self, rows: Sequence[int]) -> Tensor:
        out = torch.empty((len(rows), *self.shape), dtype=torch.uint8)

        def one(place: int) -> None:
            try:
                out[place] = self.table.decode(rows[place], self.shape)
            except Broken as error:
                raise Broken(
                    f"could be read when the data were loaded and cannot any more: it {error.reason}. Put the file back as "
                    "it was and resume",
                    self.table.names[rows[place]],
                ) from error

        with ThreadPoolExecutor(threads()) as pool:
            for _ in pool.map(one, range(len(rows))):
                pass
        return out

    def tell(self, digest: Any, rows: Sequence[int]) -> None:
        digest.update(json.dumps([self.sizes[row] for row in rows]).encode())
