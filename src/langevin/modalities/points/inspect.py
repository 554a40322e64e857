"""What `inspect` reports of points."""

import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from langevin.modalities.paths import regular
from langevin.modalities.points.data import PointSet


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """Counts, and (minimum, mean, maximum, standard deviation) of each coordinate."""

    path: str
    points: int
    parts: dict[str, int]
    coordinates: tuple[tuple[float, float, float, float], ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        shown = [
            f"Coordinate {i}: {low:.4g} to {high:.4g}, mean {mean:.4g}, standard deviation {std:.4g}"
            for i, (low, mean, high, std) in enumerate(self.coordinates[:8])
        ]
        more = len(self.coordinates) - len(shown)
        size = f"{self.path}: {self.points:,} points of {len(self.coordinates)} coordinates"
        return [size, *shown, *([f"and {more} more coordinates"] if more else [])]


def inspect(parts: tuple[PointSet, PointSet], path: str) -> Inspection:
    """The report on both parts together."""
    x = torch.cat([part.values for part in parts]).double()
    columns = zip(x.amin(0).tolist(), x.mean(0).tolist(), x.amax(0).tolist(), x.std(0).tolist(), strict=True)
    counts = {name: len(part) for name, part in zip(("train", "validation"), parts, strict=True)}
    return Inspection(path=path, points=len(x), parts=counts, coordinates=tuple(columns))


def holds_sequences(path: Path) -> bool:
    """Whether an .npz has an array of three axes and none of two, by the headers of its arrays."""
    axes = list[int]()
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                with archive.open(member) as file:
                    one = np.lib.format.read_magic(file) == (1, 0)
                    read = np.lib.format.read_array_header_1_0 if one else np.lib.format.read_array_header_2_0
                    axes.append(len(read(file)[0]))
    except Exception:  # of zipfile and numpy: the reader says what is wrong
        return False
    return 3 in axes and 2 not in axes


def looks_like_numbers(path: Path) -> bool:
    """Whether the first lines of a .csv file are numbers."""
    try:
        return regular(path) and np.loadtxt(path, delimiter=",", ndmin=2, max_rows=8).size > 0
    except (ValueError, OSError):
        return False
