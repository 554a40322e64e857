"""Loading images: every file is read once, checked before training, and put into one of two parts.

A source is a frozen configuration, a member of `Source`. `load` makes `Images` of it in four steps:

1. `open_table`: names, labels and captions of every image, and how to fetch its bytes, without decoding.
2. `choose_shape`: one shape (channels, side, side) for all, chosen from the training part, or with `buckets` one of a few
   of its area for each.
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
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import PIL
import torch
from torch import Tensor

from langevin.files import kept_folder, read_regular, write_atomic
from langevin.modalities.image.buckets import Buckets, Size, mean, resized, said, squared
from langevin.modalities.image.cifar10 import open_cifar10
from langevin.modalities.image.data_report import DataReport
from langevin.modalities.image.digits import open_digits
from langevin.modalities.image.folder import open_folder
from langevin.modalities.image.glyphs import open_glyphs
from langevin.modalities.image.labels import relabelled
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
_MUCH = 0.1  # of the images cropped away, from which that is remarked on


@dataclass(frozen=True, kw_only=True, eq=False)
class Images:
    """The training or the held-out part: n images of one `shape` (channels, height, width), in a fixed order.

    Images in buckets have one of several shapes, of about the area of `shape`, which is a square.

    Args:
        classes: class names; empty for none.
        labels: (n,) int64 indices into `classes`; -1 where the class is missing. None without classes.
        captions, names: one text per image.
        notes: findings on the whole source.
        store: the pixels of both parts.
        rows: each image's index in the store.
        sizes: width and height of the images of each bucket; empty without buckets.
        buckets: (n,) int64, the bucket of each image; None without.
        shards, window: (n,) int64, where each image is stored, and what `training.shuffle_window` is at most, see `Table`.
    """

    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    labels: Tensor | None
    captions: tuple[str, ...] | None
    names: tuple[str, ...]
    notes: DataReport
    store: Store
    rows: tuple[int, ...] = field(repr=False)
    sizes: tuple[Size, ...] = ()
    buckets: Tensor | None = None
    shards: Tensor | None = None
    window: int | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: Tensor) -> Tensor:
        """The images at `index` (m,) int64 in [0, n), as uint8 (m, c, h, w), all of `shape`: buckets are stretched to it.

        Raises `IndexError` for an index out of range, `Broken` for a streamed file that can no longer be read.
        """
        if self.buckets is None:
            return self.read_shaped(index)
        out = torch.empty(len(index), *self.shape, dtype=torch.uint8)
        for _, at in self.by_bucket(index):
            out[at] = resized(self.read_shaped(index[at]), self.shape[1])
        return out

    def by_bucket(self, index: Tensor) -> list[tuple[tuple[int, int, int], Tensor]]:
        """The shapes (c, h, w) among the images at `index` (m,), and which of these have each, int64."""
        if self.buckets is None:
            return [(self.shape, torch.arange(len(index)))]
        own = self.buckets[index]
        return [
            ((self.shape[0], self.sizes[i][1], self.sizes[i][0]), (own == i).nonzero()[:, 0])
            for i in own.unique().tolist()
        ]

    def bucket_counts(self) -> tuple[tuple[int, ...], ...]:
        """The number of images of each class in each bucket; empty without classes or buckets."""
        if self.labels is None or self.buckets is None:
            return ()
        both = (self.labels * len(self.sizes) + self.buckets)[self.labels >= 0]
        counts = torch.bincount(both, minlength=len(self.classes) * len(self.sizes)).view(-1, len(self.sizes))
        return tuple(map(tuple, counts.tolist()))

    def read_shaped(self, index: Tensor) -> Tensor:
        """The images at `index` (m,), which are of one bucket, as they are trained on; raises as `read`."""
        if index.ndim != 1 or index.dtype != torch.int64:
            raise ValueError(
                f"Images.read: index is {index.dtype} of shape {tuple(index.shape)}; give int64 of shape (m,)"
            )
        items = index.tolist()
        if items and not 0 <= min(items) <= max(items) < len(self):
            raise IndexError(f"Images.read: index {min(items)}..{max(items)} is outside 0..{len(self) - 1}")
        return self.store.read([self.rows[item] for item in items])

    def expect(self, index: Tensor) -> None:
        """The images at `index` (m,) are read next."""
        self.store.expect([self.rows[item] for item in index.tolist()])

    @property
    def in_memory(self) -> bool:
        """Whether the pixels are in memory rather than decoded at every read."""
        return isinstance(self.store, InMemory)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of names, labels, captions and pixels (file sizes instead, if they are streamed)."""
        labels = None if self.labels is None else self.labels.tolist()
        what = [self.shape, self.classes, labels, self.captions, self.names]
        what += [] if self.buckets is None else [self.sizes, self.buckets.tolist()]
        digest = hashlib.sha256(json.dumps(what).encode())
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
    buckets: Callable[[int], Buckets] | None = None,
    labels: Path | None = None,
) -> tuple[Images, Images]:
    """The training and the held-out part of a source, both checked; every file is decoded once.

    Args:
        held_out: expected fraction of held-out images, in (0, 1), if the source has no test part of its own. Of two or
            more different images at least one is held out, never all.
        seed: of the split.
        memory_limit: bytes; larger data is streamed from disk.
        at_most: largest side that is chosen, if the source states no size.
        progress: called with (done, total) in the calling thread.
        buckets: from the side of the square to the buckets of images of many ratios; None crops all to the square.
        labels: a file of labels, which take the place of the source's own.

    Raises:
        ValueError: there is nothing to load, or more than one image in ten is broken. Minor findings are warnings, and
            in `Images.notes`."""
    if not 0 < held_out < 1:
        raise ValueError(f"load: held_out is {held_out}; use a share between 0 and 1, such as 0.1")
    table = open_table(source)
    if labels is not None:
        table = relabelled(table, labels)
    if buckets is not None and table.raw is not None:
        raise ValueError(
            f"{table.where}: all images are of {table.raw[2]}x{table.raw[1]} pixels: leave data.buckets out"
        )
    shape = choose_shape(table, at_most=at_most)
    among = None if buckets is None else buckets(shape[1])
    in_memory = len(table) * math.prod(shape) <= memory_limit
    pixels = _room(len(table), shape, among) if in_memory else None
    if pixels is not None:
        decoded = _decode_all(table, shape, pixels=pixels, progress=progress, among=among)
    else:
        decoded = _found_before(table, shape, progress=progress, among=among)
    refuse_mostly_broken(table, decoded.broken)
    kept = [row for row in range(len(table)) if row not in decoded.broken]
    train, test, remarks = divide(table, kept, decoded.identities, held_out=held_out, seed=seed)
    notes = _noted(table, decoded.broken, kept, [*remarks, *_ratios(decoded, kept, among)])
    for line in notes.lines():
        warnings.warn(f"{table.where}: {line}", stacklevel=2)
    store: Store
    if pixels is not None:
        store = InMemory(pixels=pixels)
    else:
        shapes = [shape] * len(table)
        if among is not None:
            shapes = [(shape[0], height, width) for width, height in (among.sizes[i] for i in decoded.where)]
        store = Streaming(table=table, shapes=shapes, sizes=decoded.sizes)
    parts = (_images(table, shape, chosen, notes, store) for chosen in (train, test))
    if among is not None:
        where = torch.tensor(decoded.where, dtype=torch.int64)
        parts = (replace(part, sizes=among.sizes, buckets=where[list(part.rows)]) for part in parts)
    first, second = parts
    return first, second


def _room(count: int, shape: tuple[int, int, int], among: Buckets | None) -> Tensor | list[Tensor]:
    """Where the pixels of images are put: a tensor, or one for each image in buckets."""
    if among is None:
        return torch.zeros((count, *shape), dtype=torch.uint8)
    return [torch.zeros(0, dtype=torch.uint8)] * count


def _ratios(decoded: "_Decoded", kept: list[int], among: Buckets | None) -> list[str]:
    """What is to be said of the shapes of images, and of how much of them is cropped."""
    stored = [decoded.stored[row] for row in kept]
    if among is not None:
        return [f"Buckets, with their images and the share of these that is cropped: {said(among.shares(stored))}."]
    share = mean(squared(stored))
    if share < _MUCH:
        return []
    return [
        f"Images of many ratios are cropped to squares, {share:.0%} of them: data.buckets.count=9 keeps their shapes."
    ]


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
    stored: tuple[Size, ...]  # width and height
    where: tuple[int, ...]  # the bucket
    broken: dict[int, str]


def _found_before(
    table: Table, shape: tuple[int, int, int], *, progress: Progress | None, among: Buckets | None
) -> _Decoded:
    """What was found when every row was decoded, of images that do not stay in memory; kept while the disk says the same of
    their files, so that a run resumes without reading all of them."""
    if table.stamp is None:
        return _decode_all(table, shape, pixels=None, progress=progress, among=among)
    key = [1, table.stamp(), shape, table.background, None if among is None else among.sizes, PIL.__version__]
    file = kept_folder("images") / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]}.json"
    decoded = _kept(file, len(table))
    if decoded is None:
        decoded = _decode_all(table, shape, pixels=None, progress=progress, among=among)
        with suppress(OSError):  # a cache that cannot be written is none
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(file, json.dumps(asdict(decoded)).encode())
    return decoded


def _kept(file: Path, count: int) -> _Decoded | None:
    try:
        tree = json.loads(read_regular(file, most=2**33))
        decoded = _Decoded(
            identities=tuple(map(str, tree["identities"])), sizes=tuple(map(int, tree["sizes"])),
            stored=tuple((int(width), int(height)) for width, height in tree["stored"]),
            where=tuple(map(int, tree["where"])), broken={int(row): str(why) for row, why in tree["broken"].items()},
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    lengths = {len(decoded.identities), len(decoded.sizes), len(decoded.stored), len(decoded.where)}
    return decoded if lengths == {count} and all(0 <= row < count for row in decoded.broken) else None


def _decode_all(
    table: Table, shape: tuple[int, int, int], *, pixels: Tensor | list[Tensor] | None, progress: Progress | None,
    among: Buckets | None = None,
) -> _Decoded:  # fmt: skip
    """Decode every row once in several threads, into `pixels` if it is not None."""
    identities, sizes, broken = [""] * len(table), [0] * len(table), dict[int, str]()
    stored, where = [(1, 1)] * len(table), [0] * len(table)
    longest = shape[1] if among is None else max(map(max, among.sizes))

    def chunk(start: int) -> int:
        stop = min(start + _CHUNK, len(table))
        for row in range(start, stop):
            try:
                with table.picture(row, size=longest) as picture:
                    sizes[row], stored[row] = picture.encoded, (picture.width, picture.height)
                    where[row] = 0 if among is None else among.nearest(stored[row])
                    size = shape[1] if among is None else among.sizes[where[row]]
                    values = picture.pixels(size=size, channels=shape[0])
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
    return _Decoded(
        identities=tuple(identities), sizes=tuple(sizes), stored=tuple(stored), where=tuple(where),
        broken=dict(sorted(broken.items())),
    )  # fmt: skip


def _noted(table: Table, broken: dict[int, str], kept: list[int], remarks: list[str]) -> DataReport:
    counts = Counter(table.labels[row] for row in kept) if table.labels is not None else Counter[str | None]()
    return replace(
        table.notes,
        broken=tuple((table.names[row], reason) for row, reason in broken.items()),
        singletons=tuple(name for name in table.class_names() if counts[name] == 1),
        remarks=(*table.notes.remarks, *remarks),
    )


def _images(table: Table, shape: tuple[int, int, int], chosen: list[int], notes: DataReport, store: Store) -> Images:
    classes = table.class_names()
    numbers: dict[str | None, int] = {None: -1} | {name: number for number, name in enumerate(classes)}
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
        shards=None if table.shards is None else torch.tensor([table.shards[row] for row in chosen], dtype=torch.int64),
        window=None if isinstance(store, InMemory) else table.window,
    )
