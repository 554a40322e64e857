"""A source's images before they are decoded: names, labels and captions of all, and how to fetch each one's bytes."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from langevin.modalities.image.decode import Picture, file_bytes, open_picture
from langevin.modalities.image.notes import Notes
from langevin.modalities.paths import some


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """A source's images before they are decoded: lists of equal length, the source's own test part last.

    `fetch(row)` gives an encoded image's bytes or its path. Where `raw` is a shape (channels, h, w), it gives the pixels
    themselves. `labels` are class names; `classes` is their order, where the source gives one. `test_from` is the first
    row of the test part, `files` counts what was found by suffix.
    """

    where: str
    names: list[str]
    fetch: Callable[[int], bytes | Path]
    raw: tuple[int, int, int] | None = None
    size: int | None = None
    channels: int | None = None
    background: tuple[int, int, int] = (255, 255, 255)
    labels: list[str] | None = None
    classes: tuple[str, ...] | None = None
    captions: list[str] | None = None
    forced: tuple[str, ...] = ()
    test_from: int | None = None
    notes: Notes = Notes()
    files: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def train_rows(self) -> range:
        """Rows that are not in the source's own test part."""
        return range(len(self) if self.test_from is None else self.test_from)

    def class_names(self) -> tuple[str, ...]:
        """Every class, in the source's own order, else by number where all are numbers, else by name."""
        if self.classes is not None or self.labels is None:
            return self.classes or ()
        numbers = all(re.fullmatch(r"-?\d{1,18}", name) for name in self.labels)
        return tuple(sorted(set(self.labels), key=lambda name: (int(name) if numbers else 0, name)))

    def picture(self, row: int, *, size: int | None = None) -> tuple[Picture, int]:
        """The opened image and its encoded size in bytes. Raises `Broken` without a name: `names[row]` is better."""
        data = self.fetch(row)
        if self.raw is None:
            content = file_bytes(data)
            return open_picture(content, background=self.background, size=size), len(content)
        assert isinstance(data, bytes)
        channels, height, width = self.raw
        values = np.frombuffer(data, dtype=np.uint8).reshape(self.raw).transpose(1, 2, 0)
        image = Image.fromarray(np.ascontiguousarray(values[:, :, 0] if channels == 1 else values))
        return Picture(image=image, width=width, height=height, mode="grey" if channels == 1 else "RGB"), len(data)

    def decode(self, row: int, shape: tuple[int, int, int]) -> Tensor:
        """One image as `uint8` of this shape."""
        return self.picture(row, size=shape[1])[0].pixels(size=shape[1], channels=shape[0])


def refuse_mostly_broken(table: Table, broken: dict[int, str]) -> None:
    """Raise `ValueError` where more than one image in ten, or every one, is broken; `broken` gives reasons by row."""
    if 10 * len(broken) > len(table) or len(broken) == len(table):
        first = some([f"{table.names[row]} {reason}" for row, reason in broken.items()], limit=5, between="; ")
        raise ValueError(
            f"{table.where}: {len(broken):,} of {len(table):,} images cannot be read, more than one in ten: {first}. "
            "Repair or remove these files and start again"
        )


def threads() -> int:
    """How many threads decode at once."""
    return min(8, os.cpu_count() or 1)
