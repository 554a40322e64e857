"""The shape that all images of a source are resized to; if not given, it is chosen from the training part."""

import contextlib
import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from langevin.modalities.image.decode import stored_size
from langevin.modalities.image.table import Table, refuse_mostly_broken, threads
from langevin.modalities.image.unreadable import Broken

SIDES = (8, 16, 28, 32, 64, 96, 128, 256)
_GREY_SAMPLE = 200  # images checked for colour
_RUNS = 8  # places of large Parquet files at which images are checked
_SIZE_SAMPLE = 2000  # headers read to choose a size


def choose_shape(table: Table, *, at_most: int = 32) -> tuple[int, int, int]:
    """The shape (channels, side, side) of every image, from up to 2,000 images evenly spaced over the training part.

    Broken files are ignored. Raises `ValueError` if no file can be read.
    """
    if table.raw is not None:
        return table.raw
    size = table.size
    if size is None:
        with ThreadPoolExecutor(threads()) as pool:
            rows = _spread(table, _SIZE_SAMPLE)
            sizes = [stored for stored in pool.map(partial(_size_of, table), rows) if stored]
        if not sizes:
            refuse_mostly_broken(table, {row: _why_broken(table, row) for row in table.train_rows})
        size = choose_size(sizes, at_most=at_most)
    return table.channels or _channels(table, size), size, size


def choose_size(sizes: Sequence[tuple[int, int]], *, at_most: int = 32) -> int:
    """The side in pixels to train at, for images of these (width, height).

    Equal squares of at most 64 pixels keep their size if `at_most` allows it. Otherwise it is the largest of 8, 16, 28,
    32, 64, 96, 128 and 256 that exceeds neither the median shorter side nor `at_most`, and at least 8. Raises
    `ValueError` if there are no images.
    """
    if not sizes:
        raise ValueError("choose_size: there is no readable image to choose a size for; check the files or set `size`")
    shorter = [min(size) for size in sizes]
    if len(set(sizes)) == 1 and len(set(sizes[0])) == 1 and shorter[0] <= min(64, at_most):
        return shorter[0]
    bound = min(statistics.median(shorter), at_most)
    return max((side for side in SIDES if side <= bound), default=SIDES[0])


def patch_for(side: int) -> int:
    """The patch size that divides the side into about 8 patches, and into 4 or more unless it is 1."""
    fitting = [p for p in range(1, 33) if side % p == 0 and (side >= 4 * p or p == 1)]
    return min(fitting, key=lambda p: (abs(side / p - 8), p))


def _size_of(table: Table, row: int) -> tuple[int, int] | None:
    try:
        with table.room(row):
            return stored_size(table.fetch(row))
    except Broken:
        return None


def _why_broken(table: Table, row: int) -> str:
    try:
        table.decode(row, (3, 8, 8))
    except Broken as error:
        return error.reason
    return "cannot be read"


def _channels(table: Table, size: int) -> int:
    """1 if red, green and blue are equal in all of up to 200 images of the training part, else 3."""
    for row in _spread(table, _GREY_SAMPLE):
        with contextlib.suppress(Broken):
            colours = table.decode(row, (3, size, size))
            if not (colours == colours[:1]).all():
                return 3
    return 1


def _spread(table: Table, count: int) -> list[int]:
    """Up to `count` rows of the training part, evenly spaced; of row groups, which are read whole, in a few runs."""
    among = table.train_rows
    if table.window is not None:
        starts = [i * len(among) // _RUNS for i in range(_RUNS)]
        return sorted({among[start + k] for start in starts for k in range(count // _RUNS) if start + k < len(among)})
    return sorted({among[i * len(among) // count] for i in range(count)}) if among else []
