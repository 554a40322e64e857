"""The images of a source before they are decoded: names, labels, captions, and how to fetch the bytes."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from langevin.modalities.image.data_report import DataReport
from langevin.modalities.image.decode import ALONE_ABOVE, Picture, opened
from langevin.modalities.image.memory import ROOM
from langevin.modalities.paths import some


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """The images of a source before they are decoded, one row per image, the source's own test part last.

    Args:
        where: the source, for messages.
        fetch: maps a row to an encoded image's bytes or path, or to its raw pixels if `raw` is set.
        encoded: the number of those bytes, known before they are fetched.
        raw: shape (channels, h, w) of raw pixels; None for encoded images.
        size, channels, background: as in `sources.Folder`.
        labels: a class name per row, None where it is missing; no list where all are.
        classes: the order of class names, if the source has one.
        forced: captions whose images are held out.
        test_from: first row of the test part; None without one.
        files: number of files by suffix.
        shards: which shard or row group each row is stored in; None where all are files.
        stamp: a hash of what the disk says of the files, without reading them; None where that is not known.
        window: rows among which an epoch may be shuffled, where others would be read again and again; None for all.
    """

    where: str
    names: list[str]
    fetch: Callable[[int], bytes | Path]
    encoded: Callable[[int], int] | None = None
    raw: tuple[int, int, int] | None = None
    size: int | None = None
    channels: int | None = None
    background: tuple[int, int, int] = (255, 255, 255)
    labels: Sequence[str | None] | None = None
    classes: tuple[str, ...] | None = None
    captions: list[str] | None = None
    forced: tuple[str, ...] = ()
    test_from: int | None = None
    notes: DataReport = DataReport()
    files: dict[str, int] = field(default_factory=dict)
    shards: Sequence[int] | None = None
    window: int | None = None
    stamp: Callable[[], str] | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def train_rows(self) -> range:
        """The rows before the source's own test part."""
        return range(len(self) if self.test_from is None else self.test_from)

    def class_names(self) -> tuple[str, ...]:
        """All classes, in the source's order, else sorted by number if all are integers, else by name."""
        if self.classes is not None or self.labels is None:
            return self.classes or ()
        names = {name for name in self.labels if name is not None}
        numbers = all(re.fullmatch(r"-?\d{1,18}", name) for name in names)
        return tuple(sorted(names, key=lambda name: (int(name) if numbers else 0, name)))

    def room(self, row: int) -> AbstractContextManager[None]:
        """Room in memory for the bytes of an encoded image, if they are many."""
        large = self.encoded is not None and self.encoded(row) > ALONE_ABOVE
        return ROOM.taken(ROOM.limit) if large else nullcontext()

    @contextmanager
    def picture(self, row: int, *, size: int | None = None) -> Iterator[Picture]:
        """The decoded image; room in memory for it is held until the block ends.

        Raises `Broken` without a name; use `names[row]`."""
        if self.raw is None:
            with self.room(row), opened(self.fetch(row), background=self.background, size=size) as picture:
                yield picture
            return
        data = self.fetch(row)
        assert isinstance(data, bytes)
        channels, height, width = self.raw
        values = np.frombuffer(data, dtype=np.uint8).reshape(self.raw).transpose(1, 2, 0)
        image = Image.fromarray(np.ascontiguousarray(values[:, :, 0] if channels == 1 else values))
        mode = "grey" if channels == 1 else "RGB"
        yield Picture(image=image, width=width, height=height, mode=mode, encoded=len(data))

    def decode(self, row: int, shape: tuple[int, int, int]) -> Tensor:
        """One image as uint8 of this shape."""
        with self.picture(row, size=max(shape[1:])) as picture:
            return picture.pixels(size=(shape[2], shape[1]), channels=shape[0])


def refuse_mostly_broken(table: Table, broken: dict[int, str]) -> None:
    """Raise `ValueError` if more than one image in ten, or every one, is broken; `broken` has the reasons by row."""
    if 10 * len(broken) > len(table) or len(broken) == len(table):
        first = some([f"{table.names[row]} {reason}" for row, reason in broken.items()], limit=5, between="; ")
        raise ValueError(
            f"{table.where}: {len(broken):,} of {len(table):,} images cannot be read, more than one in ten: {first}. "
            "Repair or remove these files and start again"
        )


def threads() -> int:
    """Number of threads that decode."""
    return min(8, os.cpu_count() or 1)
