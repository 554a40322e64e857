"""States as numbers: a CSV file with a frame per line, or NPZ archives of one or many trajectories of equal length.

CSV: a heading of names, of which a first one `time`, `t` or `seconds` is the time of each frame; or numbers alone. NPZ: the
array `states` (n, frames, columns) or (frames, columns), or the only array; with it, if they are there, `rate` (frames per
second), `columns`, `actions` (a name per trajectory) and `length` (whole numbers, the frames of each, zeros after them).
"""

import csv
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from langevin.modalities.content import opened, opened_text, size_of
from langevin.modalities.motion.clip import Clip, Unreadable
from langevin.modalities.paths import regular

TIME = ("time", "t", "seconds")
LARGEST_CSV = 1 << 28  # bytes of a file
LARGEST_UNPACKED = 1 << 31  # bytes of an array
WIDEST = 512  # columns of a state
UNEVEN = 0.01  # by which the steps of times may differ, of their median
RATE = 1.0  # frames per second, where nothing says it


def read_csv(path: Path, *, rate: float | None = None) -> Clip:
    """The states of a CSV file.

    Args:
        rate: frames per second, if the file has no times.

    Raises:
        Unreadable: it holds no states, with the line and column of what is wrong."""
    names, times, values = table(path)
    if times is not None:
        rate = rate_of(times)
    return Clip(values=torch.from_numpy(values.astype(np.float32)), rate=rate or RATE, columns=names)


def table(path: Path) -> tuple[tuple[str, ...], np.ndarray | None, np.ndarray]:
    """Names of columns, times (frames,) if there are some, and the other numbers (frames, columns), float64.

    Raises:
        Unreadable: see `read_csv`."""
    if not regular(path) or size_of(path) > LARGEST_CSV:
        raise Unreadable("is no regular file of less than 256 MB")
    try:
        with opened_text(path, newline="") as file:
            lines = [(i, row) for i, row in enumerate(csv.reader(file), 1) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Unreadable(f"cannot be read as CSV: {error}") from error
    if not lines:
        raise Unreadable("is empty")
    head = [cell.strip() for cell in lines[0][1]]
    named = not all(_is_number(cell) for cell in head)
    rows = lines[1:] if named else lines
    if not rows:
        raise Unreadable("has a heading and no numbers")
    numbers = np.array([_numbers(line, row, len(head)) for line, row in rows], dtype=np.float64)
    with np.errstate(over="ignore"):
        if not np.isfinite(numbers.astype(np.float32)).all():
            raise Unreadable("holds numbers that are too large for float32")
    names = tuple(head) if named else tuple(f"x{i}" for i in range(len(head)))
    if named and names[0].lower() in TIME:
        return names[1:], _rising(numbers[:, 0]), _some(numbers[:, 1:])
    return names, None, _some(numbers)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _numbers(line: int, row: list[str], count: int) -> list[float]:
    if len(row) != count:
        raise Unreadable(f"has {len(row)} cells in line {line}, and {count} in the first one")
    found = list[float]()
    for column, cell in enumerate(row, 1):
        value = float(cell) if _is_number(cell) else math.nan
        if not math.isfinite(value):
            raise Unreadable(f"has '{cell[:40]}' in line {line}, column {column}, which is no finite number")
        found.append(value)
    return found


def _some(numbers: np.ndarray) -> np.ndarray:
    if not 1 <= numbers.shape[1] <= WIDEST:
        raise Unreadable(f"has {numbers.shape[1]} columns besides the time: a state has 1 to {WIDEST}")
    return numbers


def _rising(times: np.ndarray) -> np.ndarray:
    back = np.flatnonzero(np.diff(times) <= 0)
    if len(back):
        raise Unreadable(f"has times that do not rise: {times[back[0]]:g}, then {times[back[0] + 1]:g}")
    return times


def rate_of(times: np.ndarray) -> float:
    """Frames per second of evenly spaced times. Raises `Unreadable` for times that are not."""
    if len(times) < 2:
        return RATE
    steps = np.diff(times)
    step = float(np.median(steps))
    if float(np.abs(steps - step).max()) > UNEVEN * step + 1e-9:
        raise Unreadable(
            f"has times that are not evenly spaced, {steps.min():g} to {steps.max():g} apart: resample it to one rate"
        )
    return 1 / step


def read_npz(path: Path, *, rate: float | None = None) -> list[tuple[Clip, str | None]]:
    """The trajectories of an archive, each with its action if it has one. Raises `Unreadable`."""
    try:
        with opened(path) as file, zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                if member.file_size > LARGEST_UNPACKED:
                    raise Unreadable(f"holds {member.filename}, which unpacks to {member.file_size:,} bytes")
        with opened(path) as file, np.load(file, allow_pickle=False) as held:
            values, facts = _states(held), {n: held[n] for n in ("rate", "columns", "actions") if n in held.files}
            lengths = lengths_of(held, values)
    except Unreadable:
        raise
    except Exception as error:  # of numpy, zipfile and the codecs, for a damaged or hostile file
        raise Unreadable(f"cannot be read as an archive of arrays: {error}") from error
    if "rate" in facts:
        rate = float(np.asarray(facts["rate"]).reshape(-1)[0])
    if rate is not None and not 1e-6 < rate < 1e9:
        raise Unreadable(f"says a rate of {rate:g} frames per second")
    names = tuple(map(str, facts["columns"].tolist())) if "columns" in facts else ()
    if len(names) != values.shape[2]:
        names = tuple(f"x{i}" for i in range(values.shape[2]))
    actions: list[str | None] = list(map(str, facts["actions"].tolist())) if "actions" in facts else []
    if len(actions) != len(values):
        actions = [None] * len(values)
    return [
        (Clip(values=torch.from_numpy(one[:length]), rate=rate or RATE, columns=names), action)
        for one, length, action in zip(values, lengths, actions, strict=True)
    ]


def lengths_of(held: Any, values: np.ndarray) -> list[int]:
    """The frames of each motion of an archive, values (n, frames, columns): whole numbers in its array `length`, else all.

    Raises:
        Unreadable: some are none of 1 to the frames that are there."""
    n, frames = values.shape[:2]
    lengths = held["length"] if "length" in held.files else np.zeros(0)
    if lengths.dtype.kind not in "iu" or lengths.shape != (n,):
        return [frames] * n
    if not ((lengths >= 1) & (lengths <= frames)).all():
        raise Unreadable(
            f"says lengths of {lengths.min()} to {lengths.max()}, and holds {frames} frames of each motion"
        )
    return [int(length) for length in lengths]


def _states(held: Any) -> np.ndarray:
    names = [name for name in held.files if name == "states"] or [
        name for name in held.files if held[name].dtype.kind in "fiu" and held[name].ndim in (2, 3)
    ]
    if len(names) != 1:
        raise Unreadable(f"holds the arrays {', '.join(held.files) or 'none'}: name the states 'states'")
    values = held[names[0]]
    if values.dtype.kind not in "fiu" or values.ndim not in (2, 3) or 0 in values.shape:
        raise Unreadable(f"holds {values.dtype} of shape {values.shape}: states are (n, frames, columns) numbers")
    values = values[None] if values.ndim == 2 else values
    if values.shape[2] > WIDEST:
        raise Unreadable(f"has states of {values.shape[2]} columns, and at most {WIDEST} are read")
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(values, dtype=np.float32)
    if not np.isfinite(values).all():
        n, frame, column = np.argwhere(~np.isfinite(values))[0]
        raise Unreadable(f"has a number that is not finite in trajectory {n}, frame {frame}, column {column}")
    return values


def holds_trajectories(path: Path) -> bool:
    """Whether an archive has an array of three axes, by the headers of its arrays."""
    try:
        with opened(path) as whole, zipfile.ZipFile(whole) as archive:
            for member in archive.infolist():
                with archive.open(member) as file:
                    version = np.lib.format.read_magic(file)
                    one = version == (1, 0)
                    read = np.lib.format.read_array_header_1_0 if one else np.lib.format.read_array_header_2_0
                    if len(read(file)[0]) == 3:
                        return True
    except Exception:  # of zipfile and numpy, for a file that is none
        return False
    return False
