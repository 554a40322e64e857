"""Sources of images: what is on disk, read once, checked before training, and told apart into two parts.

A source is a frozen configuration: `Digits`, `Folder`, `Parquet` or `Cifar10`. `load` makes `Images` of it in four steps:

1. `open_table`: names, labels and captions of every image, and how to fetch its bytes; nothing is decoded.
2. `choose_shape`: one shape (channels, side, side) for all, from the training part alone.
3. every image is decoded once. What cannot be decoded is named and set aside; more than one in ten is an error, raised
   before any training. Decoded pixels are kept where they fit the memory limit, else decoded again whenever asked for.
4. `divide`: the training part and the held-out part.
"""

import hashlib
import json
import math
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from langevin.modalities.image.cifar10 import open_cifar10
from langevin.modalities.image.damage import Broken
from langevin.modalities.image.digits import open_digits
from langevin.modalities.image.folder import open_folder
from langevin.modalities.image.notes import Notes
from langevin.modalities.image.parquet import open_parquet
from langevin.modalities.image.shape import choose_shape
from langevin.modalities.image.sources import Cifar10, Digits, Folder, Parquet, Source, resolve
from langevin.modalities.image.split import divide
from langevin.modalities.image.store import InMemory, Store, Streaming
from langevin.modalities.image.table import Table, refuse_mostly_broken, threads

__all__ = [
    "Cifar10",
    "Digits",
    "Folder",
    "Images",
    "InMemory",
    "Notes",
    "Parquet",
    "Progress",
    "Source",
    "load",
    "load_parts",
    "open_table",
]

Progress = Callable[[int, int], None]
_CHUNK = 64  # images decoded by a thread at a time


@dataclass(frozen=True, kw_only=True, eq=False)
class Images:
    """One part of a source: `len(images)` pictures of one `shape` (channels, height, width), in a fixed order.

    `classes` are the class names (empty: none), `labels` their numbers, int64 (n,), `captions` and `names` a text each,
    `notes` what was found in the whole source.
    """

    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    labels: Tensor | None
    captions: tuple[str, ...] | None
    names: tuple[str, ...]
    notes: Notes
    store: Store
    rows: tuple[int, ...] = field(repr=False)  # each image's place in the store

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: Tensor) -> Tensor:
        """The pictures at `index`, int64 (m,), each in 0..n-1, as `uint8` (m, c, h, w).

        Raises `IndexError` out of range, and `Broken` with the name where a streamed file can no longer be read.
        """
        if index.ndim != 1 or index.dtype != torch.int64:
            raise ValueError(
                f"Images.read: index is {index.dtype} of shape {tuple(index.shape)}; give int64 of shape (m,)"
            )
        places = index.tolist()
        if places and not 0 <= min(places) <= max(places) < len(self):
            raise IndexError(f"Images.read: index {min(places)}..{max(places)} is outside 0..{len(self) - 1}")
        return self.store.read([self.rows[place] for place in places])

    @property
    def in_memory(self) -> bool:
        """Whether the pixels are held in memory, and not decoded at each read."""
        return isinstance(self.store, InMemory)

    @cached_property
    def fingerprint(self) -> str:
        """sha256, in hexadecimal, of names, labels, captions and pixels (streamed: the files' sizes instead of pixels)."""
        labels = None if self.labels is None else self.labels.tolist()
        digest = hashlib.sha256(json.dumps([self.shape, self.classes, labels, self.captions, self.names]).encode())
        self.store.tell(digest, self.rows)
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
    """One part of a source, see `load_parts`; who needs both parts asks there and has every file decoded once."""
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
    """The training part and the held-out part of a source, both checked; every file is decoded once here.

    `held_out` is the expected share of held-out images, 0 < share < 1, where the source has no test part of its own; of
    two or more different images at least one is held out, never all. `memory_limit` is in bytes: pixels that need more
    are streamed from disk. `at_most` bounds the side that is chosen where the source names no size. `progress(done,
    total)` is called in the calling thread. What is odd is in `Images.notes`, and warned of. Raises `ValueError` where
    there is nothing to load, or more than one image in ten is broken.
    """
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


def open_table(source: Source) -> Table:
    """What a source holds, before any image is decoded. Raises `ValueError` where it holds none, or is not there."""
    match resolve(source):
        case Digits():
            return open_digits()
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
    """Decode every row once by several threads, into `pixels` where there is room; the order of rows is kept."""
    identities, sizes, broken = [""] * len(table), [0] * len(table), dict[int, str]()

    def chunk(start: int) -> int:
        stop = min(start + _CHUNK, len(table))
        for row in range(start, stop):
            try:
                picture, sizes[row] = table.picture(row, size=shape[1])
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


def _noted(table: Table, broken: dict[int, str], kept: list[int], remarks: list[str]) -> Notes:
    counts = Counter(table.labels[row] for row in kept) if table.labels is not None else Counter[str]()
    return replace(
        table.notes,
        broken=tuple((table.names[row], reason) for row, reason in broken.items()),
        singletons=tuple(name for name in table.class_names() if counts[name] == 1),
        remarks=(*table.notes.remarks, *remarks),
    )


def _images(table: Table, shape: tuple[int, int, int], chosen: list[int], notes: Notes, store: Store) -> Images:
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
