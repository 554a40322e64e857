"""Points: drawn from a law that is known, or read from a file of numbers; a training and a held-out part."""

import hashlib
import math
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from langevin.diffusion.noise import RowNoise, mix

LawName = Literal["two_bumps", "mixture", "ring", "spirals", "blob"]
WIDEST = 64  # numbers a row that a file of points may have


@dataclass(frozen=True, kw_only=True)
class Toy:
    """`count` points of a named law; point i is a function of (seed, i)."""

    kind: Literal["toy"] = "toy"
    law: LawName = "mixture"
    count: int = 20_000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 16 <= self.count <= 10_000_000:
            raise ValueError(f"data.count is the number of points, 16 to 10 million, got {self.count}")


@dataclass(frozen=True, kw_only=True)
class PointFile:
    """Numbers in a .npy, .npz (its only array, or `points`) or .csv file: one row a point."""

    kind: Literal["points"] = "points"
    path: str

    def __post_init__(self) -> None:
        if Path(self.path).suffix not in (".npy", ".npz", ".csv"):
            raise ValueError(f"data.path should be a .npy, .npz or .csv file of points, got '{self.path}'")


Source = Toy | PointFile


@dataclass(frozen=True, kw_only=True)
class Notes:
    """What a reader of the points should know."""

    remarks: tuple[str, ...] = ()
    broken: tuple[tuple[str, str], ...] = ()

    def lines(self) -> list[str]:
        return list(self.remarks)


@dataclass(frozen=True, kw_only=True, eq=False)
class Points:
    """One part of a source: float32 rows (n, d)."""

    values: Tensor
    notes: Notes = Notes()
    classes: tuple[str, ...] = ()
    labels: Tensor | None = None
    captions: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape[1:])

    def read(self, index: Tensor) -> Tensor:
        """The points at `index` (m,) int64, (m, d)."""
        return self.values[index]

    @cached_property
    def fingerprint(self) -> str:
        """sha256, in hexadecimal."""
        return hashlib.sha256(self.values.contiguous().numpy().tobytes()).hexdigest()


def load_parts(source: Source, *, held_out: float) -> tuple[Points, Points]:
    """The training and the held-out part; of a law the last points are held out, of a file a part by hash of the row.

    Raises:
        ValueError: a file that is not there, or holds no finite numbers of one width."""
    if isinstance(source, Toy):
        every = draw(source.law, source.count, seed=source.seed)
        cut = round(len(every) * (1 - held_out))
        return Points(values=every[:cut]), Points(values=every[cut:])
    every = _read(Path(source.path))
    marks = np.array([int(hashlib.sha256(row.numpy().tobytes()).hexdigest()[:8], 16) / 2**32 for row in every])
    out = torch.from_numpy(marks < held_out)
    if not bool(out.any()) or bool(out.all()):
        raise ValueError(f"{source.path} has {len(every)} points, too few to hold some out: give more")
    return Points(values=every[~out]), Points(values=every[out])


def _read(path: Path) -> Tensor:
    if not path.is_file():
        raise ValueError(f"there is no file of points at {path}")
    try:
        if path.suffix == ".csv":
            values = np.loadtxt(path, delimiter=",", ndmin=2)
        else:
            loaded = np.load(path, allow_pickle=False)
            names = [] if isinstance(loaded, np.ndarray) else list(loaded.files)
            if names and "points" not in names and len(names) > 1:
                raise ValueError(f"it holds {', '.join(names)}: name the array of points 'points'")
            values = loaded[("points" if "points" in names else names[0])] if names else loaded
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not readable as points: {error}") from error
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or not 1 <= values.shape[1] <= WIDEST or len(values) < 16 or values.dtype.kind not in "fiu":
        raise ValueError(
            f"{path} holds {values.dtype} of shape {values.shape}: it should be 16 or more rows of 1 to {WIDEST} numbers"
        )
    if not np.isfinite(values).all():
        raise ValueError(
            f"{path}: row {int(np.argwhere(~np.isfinite(values))[0][0])} holds a number that is not finite"
        )
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


# ---------------------------------------------------------------------------------------------------------------- laws

CENTRES = ((-1.5, 0.9), (1.4, 1.1), (0.2, -1.4))
WIDTHS, WEIGHTS = (0.3, 0.4, 0.25), (0.3, 0.4, 0.3)


def draw(law: LawName, count: int, *, seed: int = 0) -> Tensor:
    """(count, d) float32."""
    rows = torch.arange(count)
    noise = RowNoise(seeds=mix(torch.full_like(rows, seed), rows), steps=torch.zeros_like(rows))
    u = noise.fork(1).uniform(torch.empty(count, 1))
    z = noise.normal(torch.empty(count, 2, dtype=torch.float64))
    return _DRAWS[law](u, z).float()


def _two_bumps(u: Tensor, z: Tensor) -> Tensor:
    return torch.where(u < 0.25, -2 + 0.25 * z[:, :1], 0.3 + 0.2 * z[:, :1])


def _mixture(u: Tensor, z: Tensor) -> Tensor:
    edges = torch.tensor(WEIGHTS, dtype=torch.float64).cumsum(0)
    k = torch.searchsorted(edges, u[:, 0]).clamp_max(len(WEIGHTS) - 1)
    return torch.tensor(CENTRES, dtype=torch.float64)[k] + torch.tensor(WIDTHS, dtype=torch.float64)[k, None] * z


def _ring(u: Tensor, z: Tensor) -> Tensor:
    angle, radius = 2 * math.pi * u[:, 0], 1.5 + 0.1 * z[:, 0]
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1)


def _spirals(u: Tensor, z: Tensor) -> Tensor:
    arm = (u[:, 0] * 2).floor()
    along = (u[:, 0] * 2 - arm).sqrt()
    angle = 3 * math.pi * along + math.pi * arm
    return 2 * along[:, None] * torch.stack([angle.cos(), angle.sin()], 1) + 0.06 * z


def _blob(u: Tensor, z: Tensor) -> Tensor:
    return torch.tensor([1.0, 0.0], dtype=torch.float64) + 0.3 * z


_DRAWS: Mapping[LawName, Callable[[Tensor, Tensor], Tensor]] = {
    "two_bumps": _two_bumps, "mixture": _mixture, "ring": _ring, "spirals": _spirals, "blob": _blob,
}  # fmt: skip


def log_density(law: LawName, x: Tensor) -> Tensor | None:
    """ln p (n,) at points (n, d), where it has a closed form; else None."""
    centres: tuple[tuple[float, ...], ...]
    if law == "two_bumps":
        centres, widths, weights = ((-2.0,), (0.3,)), (0.25, 0.2), (0.25, 0.75)
    elif law == "mixture":
        centres, widths, weights = CENTRES, WIDTHS, WEIGHTS
    elif law == "blob":
        centres, widths, weights = ((1.0, 0.0),), (0.3,), (1.0,)
    else:
        return None
    m, s, w = (torch.tensor(v, dtype=torch.float64) for v in (centres, widths, weights))
    far = (x.double()[:, None] - m).square().sum(-1) / (s * s)
    return (w.log() - 0.5 * far - x.shape[1] * (s.log() + 0.5 * math.log(2 * math.pi))).logsumexp(1)
