"""The one shape that all images of a source are brought to, chosen from its training part alone where it is not told."""

import contextlib
import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from langevin.modalities.image.damage import Broken
from langevin.modalities.image.decode import stored_size
from langevin.modalities.image.table import Table, refuse_mostly_broken, threads

SIDES = (8, 16, 28, 32, 64, 96, 128, 256)
_GREY_SAMPLE = 200  # images looked at to tell grey from colour
_SIZE_SAMPLE = 2000  # headers looked at to choose a size


def choose_shape(table: Table, *, at_most: int = 32) -> tuple[int, int, int]:
    """The shape (channels, side, side) of every image, from up to 2,000 images evenly spaced over the training part.

    Broken files have no say in it. Raises `ValueError` where no file can be read.
    """
    if table.raw is not None:
        return table.raw
    size = table.size
    if size is None:
        with ThreadPoolExecutor(threads()) as pool:
            looked_at = _spread(table.train_rows, _SIZE_SAMPLE)
            sizes = [found for found in pool.map(partial(_size_of, table), looked_at) if found]
        if not sizes:
            refuse_mostly_broken(table, {row: _why_broken(table, row) for row in table.train_rows})
        size = choose_size(sizes, at_most=at_most)
    return table.channels or _channels(table, size), size, size


def choose_size(sizes: Sequence[tuple[int, int]], *, at_most: int = 32) -> int:
    """The side in pixels to train at, for pictures of these (width, height).

    Equal squares of at most 64 pixels keep their size where `at_most` allows it. Otherwise it is the largest of 8, 16,
    28, 32, 64, 96, 128 and 256 that is neither above the median shorter side nor above `at_most` (8 where none is).
    Raises `ValueError` where there is no picture.
    """
    if not sizes:
        raise ValueError("choose_size: there is no readable image to choose a size for; check the files or set `size`")
    shorter = [min(size) for size in sizes]
    if len(set(sizes)) == 1 and len(set(sizes[0])) == 1 and shorter[0] <= min(64, at_most):
        return shorter[0]
    bound = min(statistics.median(shorter), at_most)
    return max((side for side in SIDES if side <= bound), default=SIDES[0])


def _size_of(table: Table, row: int) -> tuple[int, int] | None:
    try:
        return stored_size(table.fetch(row))
    except Broken:
        return None


def _why_broken(table: Table, row: int) -> str:
    try:
        table.picture(row, size=8)
    except Broken as error:
        return error.reason
    return "cannot be read"


def _channels(table: Table, size: int) -> int:
    """1 where up to 200 images, evenly spaced over the training part, show equal red, green and blue everywhere."""
    for row in _spread(table.train_rows, _GREY_SAMPLE):
        with contextlib.suppress(Broken):
            colours = table.decode(row, (3, size, size))
            if not (colours == colours[:1]).all():
                return 3
    return 1


def _spread(among: range, count: int) -> list[int]:
    """Up to `count` rows, evenly spaced."""
    return sorted({among[place * len(among) // count] for place in range(count)}) if among else []
