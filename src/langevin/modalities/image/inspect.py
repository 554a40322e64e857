"""What `inspect` reports of images: counts, sizes, formats, classes, captions, copies and broken files.

Two images are exact duplicates if their stored pixels are equal (`Picture.identity`). They are near duplicates if
their reductions to 8x8 differ by at most 2.5 of 255 levels on average, which survives resizing and compression. Not
all pairs are compared: images are sorted by a 120-bit hash (the luma of each pixel of the reduction against the mean,
and against its right-hand neighbour), in 15 orders that start at different bits, and neighbours in any order that
differ in at most 6 bits are compared. The images of a group are near duplicates of its first. Flat images have no hash
and are left out.
"""

import itertools
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from langevin.modalities.image.buckets import Buckets, mean, said, squared
from langevin.modalities.image.data import Progress, open_table
from langevin.modalities.image.data_report import DataReport
from langevin.modalities.image.decode import Picture
from langevin.modalities.image.shape import choose_shape
from langevin.modalities.image.sources import Folder, resolve
from langevin.modalities.image.table import Table, threads
from langevin.modalities.image.unreadable import Broken
from langevin.modalities.paths import some

_EXAMPLES = 5
_FLAT = 8  # range of luma, of 255, below which an image has no hash
_NEAR_LEVELS, _NEAR_BITS = 2.5, 6
_MUCH = 0.05  # of an image that is cropped away, from which that is reported


@dataclass(frozen=True, kw_only=True)
class Captions:
    """The captions of a source.

    Args:
        count: images with a caption.
        mean_words: words per caption.
        vocabulary: different words.
        missing: images without a caption.
        absent: files that captions describe and that do not exist.
    """

    count: int
    mean_words: float
    vocabulary: int
    examples: tuple[str, ...]
    missing: int
    absent: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """The report on the images at a path. Counts are of images; sizes are (width, height) in pixels.

    Args:
        files: files by suffix.
        found, readable: image files, and those that can be decoded.
        broken: (name, reason) of the others.
        sides: least, median and greatest shorter side.
        sizes: the most common sizes, with counts.
        modes: stored pixel formats, with counts.
        parts, classes: images per part and per class.
        singletons: classes with a single image.
        duplicates: groups of names with equal pixels.
        near_duplicates, near_examples: number of groups of near duplicates, and some of them.
        size, channels: what `load` chooses; None if nothing is readable.
        ratios: least, median and greatest width over height.
        cropped: the mean share of an image that is lost by cropping it to a square.
        buckets: (WIDTHxHEIGHT, images, mean share of them that is cropped) of each bucket that images would be in.
    """

    path: str
    kind: str
    files: dict[str, int]
    found: int
    readable: int
    broken: tuple[tuple[str, str], ...]
    sides: tuple[int, float, int] | None
    sizes: tuple[tuple[tuple[int, int], int], ...]
    modes: dict[str, int]
    animated: int
    parts: dict[str, int]
    classes: dict[str, int]
    singletons: tuple[str, ...]
    captions: Captions | None
    duplicates: tuple[tuple[str, ...], ...]
    near_duplicates: int
    near_examples: tuple[tuple[str, ...], ...]
    size: int | None
    channels: int | None
    ratios: tuple[float, float, float] | None = None
    cropped: float = 0.0
    buckets: tuple[tuple[str, int, float], ...] = ()
    notes: tuple[str, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """The report as dictionaries, tuples, numbers and strings, for `json.dumps`."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The report as text, one line per finding."""
        by_suffix = ", ".join(f"{count:,} {suffix}" for suffix, count in self.files.items())
        lines = [f"{self.path}: {self.readable:,} readable images of {self.found:,} ({by_suffix})"]
        if self.size is not None and self.sides is not None:
            least, median, greatest = self.sides
            sides = f"{least}" if least == greatest else f"{least} to {greatest}, median {median:g}"
            common = some([f"{w}x{h} ({count:,})" for (w, h), count in self.sizes])
            lines.append(f"Shorter side: {sides} pixels. Sizes: {common}")
            colour = "grey" if self.channels == 1 else "colour"
            lines.append(f"Trained at {self.size}x{self.size} in {colour} by default")
            lines += self._shapes()
        lines.append(
            "Stored as: " + (", ".join(f"{mode} ({count:,})" for mode, count in self.modes.items()) or "nothing")
        )
        if self.animated:
            lines.append(f"Animated: {self.animated:,}; the first frame is taken")
        if len(self.parts) > 1:
            lines.append("Parts: " + ", ".join(f"{name} {count:,}" for name, count in self.parts.items()))
        lines += self._described()
        if self.duplicates:
            lines.append(f"Exact copies: {len(self.duplicates):,} groups ({_groups(self.duplicates, ' = ')})")
        if self.near_duplicates:
            lines.append(f"Near copies: {self.near_duplicates:,} groups ({_groups(self.near_examples, ' ~ ')})")
        if self.broken:
            broken = some([f"{name} {reason}" for name, reason in self.broken], limit=_EXAMPLES, between="; ")
            lines.append(f"Cannot be read: {len(self.broken):,} ({broken})")
        return lines + list(self.notes)

    def _shapes(self) -> list[str]:
        """Lines on ratios, if images lose much when they are cropped to squares."""
        if self.ratios is None or self.cropped < _MUCH:
            return []
        low, middle, high = self.ratios
        return [
            f"Ratios of width to height: {low:.2f} to {high:.2f}, median {middle:.2f}. Cropped to squares "
            f"{self.cropped:.1%} of an image is lost on average",
            f"In buckets, by data.buckets.count={Buckets.count}, with images and what is lost: {said(self.buckets)}",
        ]

    def _described(self) -> list[str]:
        """Lines on classes and captions."""
        lines = []
        if self.classes:
            counts = some([f"{name} {count:,}" for name, count in self.classes.items()], limit=10)
            lines.append(f"Classes: {len(self.classes):,} ({counts})")
        if self.singletons:
            lines.append(f"Classes with a single image: {len(self.singletons):,} ({some(self.singletons)})")
        if self.captions is not None:
            captions = self.captions
            examples = some([repr(text) for text in captions.examples])
            words = f"{captions.mean_words:.1f} words each, {captions.vocabulary:,} different words"
            lines.append(f"Captions: {captions.count:,}, {words} ({examples})")
            if captions.missing:
                lines.append(f"Images without a caption: {captions.missing:,}")
            if captions.absent:
                lines.append(f"Captions of files that do not exist: {len(captions.absent):,} ({some(captions.absent)})")
        if not self.classes and self.captions is None:
            lines.append("No classes and no captions")
        return lines


def inspect(path: Path, *, size: int | None = None, progress: Progress | None = None) -> Inspection:
    """Decode every image at a path (a folder, Parquet or CIFAR-10) and report on them, including broken files.

    `size` is the side in pixels to train at (None: chosen by `choose_shape`); `progress(done, total)` is called in the
    calling thread. Raises `ValueError` if the path does not exist or has no image files.
    """
    source = resolve(Folder(path=str(path), size=size))
    table = open_table(source)
    try:
        shape = choose_shape(table)
    except ValueError:  # no image can be read, which the report says
        shape = None
    looks, broken = _look_at_all(table, shape[1] if shape else 8, progress)
    readable = sorted(looks)
    counts = Counter(looks[row].size for row in readable)  # in the order of rows, not of threads
    shorter = [min(look.size) for look in looks.values()]
    classes = _classes(table, readable)
    duplicates, near = _copies(table, looks)
    stored = [looks[row].size for row in readable]
    ratios = sorted(width / height for width, height in stored)
    return Inspection(
        path=str(path),
        kind=source.kind,
        files=dict(table.files),
        found=len(table),
        readable=len(readable),
        broken=tuple((table.names[row], reason) for row, reason in sorted(broken.items())),
        sides=(min(shorter), float(statistics.median(shorter)), max(shorter)) if shorter else None,
        sizes=tuple(counts.most_common(10)),
        modes=dict(Counter(looks[row].mode for row in readable).most_common()),
        animated=sum(look.animated for look in looks.values()),
        parts=_parts(table, readable),
        classes=classes,
        singletons=tuple(name for name, count in classes.items() if count == 1),
        captions=_captions(table, readable),
        duplicates=duplicates,
        near_duplicates=len(near),
        near_examples=near[:_EXAMPLES],
        size=shape[1] if shape and readable else None,
        channels=shape[0] if shape and readable else None,
        ratios=(ratios[0], statistics.median(ratios), ratios[-1]) if ratios else None,
        cropped=mean(squared(stored)),
        buckets=Buckets().of_side(shape[1]).shares(stored) if shape and stored else (),
        notes=tuple(_other(table.notes)),
    )


@dataclass(frozen=True, kw_only=True)
class _Look:
    size: tuple[int, int]
    mode: str
    animated: bool
    identity: str
    portrait: Tensor | None


def _look_at_all(table: Table, size: int, progress: Progress | None) -> tuple[dict[int, _Look], dict[int, str]]:
    looks, broken = dict[int, _Look](), dict[int, str]()

    def look(row: int) -> None:
        try:
            with table.picture(row, size=size) as picture:
                looks[row] = _Look(
                    size=(picture.width, picture.height),
                    mode=picture.mode,
                    animated=picture.animated,
                    identity=picture.identity(),
                    portrait=_portrait(picture),
                )
        except Broken as error:
            broken[row] = error.reason

    with ThreadPoolExecutor(threads()) as pool:
        for done, _ in enumerate(pool.map(look, range(len(table))), start=1):
            if progress is not None and (done % 64 == 0 or done == len(table)):
                progress(done, len(table))
    return looks, broken


def _portrait(picture: Picture) -> Tensor | None:
    """The image reduced to 8x8, (3, 8, 8) int16; None if it is flat."""
    small = picture.pixels(size=8, channels=3).to(torch.int16)
    luma = small.sum(0)
    return small if luma.max() - luma.min() >= 3 * _FLAT else None


def _bits(portrait: Tensor) -> int:
    """64 bits of average hash and 56 of difference hash."""
    luma = portrait.sum(0).double()
    bits = [*(luma > luma.mean()).flatten().tolist(), *(luma[:, :-1] > luma[:, 1:]).flatten().tolist()]
    return int("".join("01"[bit] for bit in bits), 2)


def _near(portraits: dict[int, Tensor]) -> list[list[int]]:
    """Groups of two or more rows with nearly equal reductions."""
    hashes = {row: _bits(portrait) for row, portrait in portraits.items()}
    group = {row: row for row in portraits}

    def first(row: int) -> int:
        while group[row] != row:
            group[row] = row = group[group[row]]
        return row

    for turn in range(0, 120, 8):
        order = sorted(hashes, key=lambda row: (hashes[row] >> turn | hashes[row] << (120 - turn)) % 2**120)
        for one, other in itertools.pairwise(order):
            if (hashes[one] ^ hashes[other]).bit_count() > _NEAR_BITS:
                continue
            low, high = sorted((first(one), first(other)))
            if (portraits[low] - portraits[high]).abs().double().mean() <= _NEAR_LEVELS:
                group[high] = low
    groups: dict[int, list[int]] = defaultdict(list)
    for row in sorted(group):
        groups[first(row)].append(row)
    return [rows for rows in groups.values() if len(rows) > 1]


def _copies(table: Table, looks: dict[int, _Look]) -> tuple[tuple[tuple[str, ...], ...], tuple[tuple[str, ...], ...]]:
    """Groups of names with equal pixels, and groups of near duplicates with one name per different image."""
    equal: dict[str, list[int]] = defaultdict(list)
    for row in sorted(looks):
        equal[looks[row].identity].append(row)
    firsts = {group[0]: looks[group[0]].portrait for group in equal.values()}
    near = _near({row: portrait for row, portrait in firsts.items() if portrait is not None})

    def named(groups: Iterable[list[int]]) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(table.names[row] for row in group) for group in groups if len(group) > 1)

    return named(equal.values()), named(near)


def _classes(table: Table, readable: list[int]) -> dict[str, int]:
    counts = Counter(table.labels[row] for row in readable) if table.labels is not None else Counter[str | None]()
    return {name: counts[name] for name in table.class_names()}


def _parts(table: Table, readable: list[int]) -> dict[str, int]:
    if table.test_from is None:
        return {"all": len(readable)}
    train = sum(row in table.train_rows for row in readable)
    return {"train": train, "held_out": len(readable) - train}


def _captions(table: Table, readable: list[int]) -> Captions | None:
    if table.captions is None:
        return None
    texts = [table.captions[row] for row in readable if table.captions[row]]
    words = [re.findall(r"\w+", text.lower()) for text in texts]
    return Captions(
        count=len(texts),
        mean_words=sum(map(len, words)) / max(len(words), 1),
        vocabulary=len({word for text in words for word in text}),
        examples=tuple(dict.fromkeys(texts[i * len(texts) // _EXAMPLES] for i in range(_EXAMPLES)) if texts else ()),
        missing=len(readable) - len(texts),
        absent=table.notes.absent,
    )


def _other(notes: DataReport) -> list[str]:
    """The notes that have no line of their own in the report."""
    return DataReport(
        captions_unreadable=notes.captions_unreadable, records_unreadable=notes.records_unreadable,
        without_label=notes.without_label, remarks=notes.remarks,
    ).lines()  # fmt: skip


def _groups(groups: tuple[tuple[str, ...], ...], sign: str) -> str:
    return some([sign.join(group[:3]) for group in groups], between="; ")
