"""Loading images: every file is read once, checked before training, and put into one of two parts.

A source is a frozen configuration, a member of `Source`. `load` makes `Images` of it in four steps:

1. `open_table`: names, labels and captions of every image, and how to fetch its bytes, without decoding.
2. `choose_shape`: one shape (channels, side, side) for all, chosen from the training part.
3. every image is decoded once. What cannot be decoded is reported and left out; more than one in ten is an error,
   raised before training. Decoded pixels are kept if they fit the memory limit, else images are decoded at every read.
4. `divide`: the training part and the held-out part.
"""

import hashlib
import json
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from langevin.modalities.image.cifar10 import open_cifar10
from langevin.modalities.image.data_report import DataReport
from langevin.modalities.image.digits import open_digits
from langevin.modalities.image.folder import open_folder
from langevin.modalities.image.glyphs import open_glyphs
from langevin.modalities.image.parquet import open_parquet
from langevin.modalities.image.shape import choose_shape
from langevin.modalities.image.sources import Cifar10, Digits, Folder, Glyphs, Parquet, Source, resolve
from langevin.modalities.image.split import divide
from langevin.modalities.image.store import InMemory, Store, Streaming
from langevin.modalities.image.table import Table, refuse_mostly_broken, threads
from langevin.modalities.image.unreadable import Broken

__all__ = [
    "Cifar10",
    "DataReport",
    "Digits",
    "Folder",
    "Glyphs",
    "Images",
    "InMemory",
    "Parquet",
    "Progress",
    "Source",
    "load",
    "load_parts",
    "open_table",
    "quiet",
]

Progress = Callable[[int, int], None]
_CHUNK = 64  # images per task of a thread


@dataclass(frozen=True, kw_only=True, eq=False)
class Images:
    """The training or the held-out part: n images of one `shape` (channels, height, width), in a fixed order.

    Args:
        classes: class names; empty for none.
        labels: (n,) int64 indices into `classes`.
        captions, names: one text per image.
        notes: findings on the whole source.
        store: the pixels of both parts.
        rows: each image's index in the store.
    """

    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    labels: Tensor | None
    captions: tuple[str, ...] | None
    names: tuple[str, ...]
    notes: DataReport
    store: Store
    rows: tuple[int, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: Tensor) -> Tensor:
        """The images at `index` (m,) int64 in [0, n), as uint8 (m, c, h, w).

        Raises `IndexError` for an index out of range, `Broken` for a streamed file that can no longer be read.
        """
        if index.ndim != 1 or index.dtype != torch.int64:
            raise ValueError(
                f"Images.read: index is {index.dtype} of shape {tuple(index.shape)}; give int64 of shape (m,)"
            )
        items = index.tolist()
        if items and not 0 <= min(items) <= max(items) < len(self):
            raise IndexError(f"Images.read: index {min(items)}..{max(items)} is outside 0..{len(self) - 1}")
        return self.store.read([self.rows[item] for item in items])

    @property
    def in_memory(self) -> bool:
        """Whether the pixels are in memory rather than decoded at every read."""
        return isinstance(self.store, InMemory)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of names, labels, captions and pixels (file sizes instead, if they are streamed)."""
        labels = None if self.labels is None else self.labels.tolist()
        digest = hashlib.sha256(json.dumps([self.shape, self.classes, labels, self.captions, self.names]).encode())
        self.store.update_digest(digest, self.rows)
        return digest.hexdigest()


def load(
    source: Source,
    *,
    split: Literal["train", "held_out"],
    held_out: float = 0.1,
    seed: int = 0,
    memory_limit: int = 2 * 2**30,
    at_most: int = 32,
    progress: Progress | None = None,
) -> Images:
    """One part of a source. For both parts call `load_parts`, which decodes every file only once."""
    if split not in ("train", "held_out"):
        raise ValueError(f"load: split is {split!r}; use 'train' or 'held_out'")
    parts = load_parts(
        source, held_out=held_out, seed=seed, memory_limit=memory_limit, at_most=at_most, progress=progress
    )
    return parts[0] if split == "train" else parts[1]


def load_parts(
    source: Source,
    *,
    held_out: float = 0.1,
    seed: int = 0,
    memory_limit: int = 2 * 2**30,
    at_most: int = 32,
    progress: Progress | None = None,
) -> tuple[Images, Images]:
    """The training and the held-out part of a source, both checked; every file is decoded once.

    Args:
        held_out: expected fraction of held-out images, in (0, 1), if the source has no test part of its own. Of two or
            more different images at least one is held out, never all.
        seed: of the split.
        memory_limit: bytes; larger data is streamed from disk.
        at_most: largest side that is chosen, if the source states no size.
        progress: called with (done, total) in the calling thread.

    Raises:
        ValueError: there is nothing to load, or more than one image in ten is broken. Minor findings are warnings, and
            in `Images.notes`."""
    if not 0 < held_out < 1:
        raise ValueError(f"load: held_out is {held_out}; use a share between 0 and 1, such as 0.1")
    table = open_table(source)
    shape = choose_shape(table, at_most=at_most)
    in_memory = len(table) * math.prod(shape) <= memory_limit
    pixels = torch.zeros((len(table), *shape), dtype=torch.uint8) if in_memory else None
    decoded = _decode_all(table, shape, pixels=pixels, progress=progress)
    refuse_mostly_broken(table, decoded.broken)
    kept = [row for row in range(len(table)) if row not in decoded.broken]
    train, test, remarks = divide(table, kept, decoded.identities, held_out=held_out, seed=seed)
    notes = _noted(table, decoded.broken, kept, remarks)
    for line in notes.lines():
        warnings.warn(f"{table.where}: {line}", stacklevel=2)
    store: Store = (
        Streaming(table=table, shape=shape, sizes=decoded.sizes) if pixels is None else InMemory(pixels=pixels)
    )
    return _images(table, shape, train, notes, store), _images(table, shape, test, notes, store)


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress warnings; the same sentences are in `Images.notes`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def open_table(source: Source) -> Table:
    """The images of a source, not decoded. Raises `ValueError` if the source is missing or has no images."""
    match resolve(source):
        case Digits():
            return open_digits()
        case Glyphs():
            return open_glyphs()
        case Folder() as folder:
            return open_folder(folder)
        case Parquet() as parquet:
            return open_parquet(parquet)
        case Cifar10() as cifar10:
            return open_cifar10(cifar10)


@dataclass(frozen=True, kw_only=True)
class _Decoded:
    identities: tuple[str, ...]
    sizes: tuple[int, ...]
    broken: dict[int, str]


def _decode_all(
    table: Table, shape: tuple[int, int, int], *, pixels: Tensor | None, progress: Progress | None
) -> _Decoded:
    """Decode every row once in several threads, into `pixels` if it is not None."""
    identities, sizes, broken = [""] * len(table), [0] * len(table), dict[int, str]()

    def chunk(start: int) -> int:
        stop = min(start + _CHUNK, len(table))
        for row in range(start, stop):
            try:
                with table.picture(row, size=shape[1]) as picture:
                    sizes[row] = picture.encoded
                    values = picture.pixels(size=shape[1], channels=shape[0])
                    identities[row] = picture.identity()
                if pixels is not None:
                    pixels[row] = values
            except Broken as error:
                broken[row] = error.reason
        return stop

    with ThreadPoolExecutor(threads()) as pool:
        for done in pool.map(chunk, range(0, len(table), _CHUNK)):
            if progress is not None:
                progress(done, len(table))
    return _Decoded(identities=tuple(identities), sizes=tuple(sizes), broken=dict(sorted(broken.items())))


def _noted(table: Table, broken: dict[int, str], kept: list[int], remarks: list[str]) -> DataReport:
    counts = Counter(table.labels[row] for row in kept) if table.labels is not None else Counter[str]()
    return replace(
        table.notes,
        broken=tuple((table.names[row], reason) for row, reason in broken.items()),
        singletons=tuple(name for name in table.class_names() if counts[name] == 1),
        remarks=(*table.notes.remarks, *remarks),
    )


def _images(table: Table, shape: tuple[int, int, int], chosen: list[int], notes: DataReport, store: Store) -> Images:
    classes = table.class_names()
    numbers = {name: number for number, name in enumerate(classes)}
    labels, captions = table.labels, table.captions
    return Images(
        shape=shape,
        classes=classes,
        labels=None if labels is None else torch.tensor([numbers[labels[row]] for row in chosen], dtype=torch.int64),
        captions=None if captions is None else tuple(captions[row] for row in chosen),
        names=tuple(table.names[row] for row in chosen),
        notes=notes,
        store=store,
        rows=tuple(chosen),
    )
