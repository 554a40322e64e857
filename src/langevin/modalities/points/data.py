"""Points drawn from a known distribution or read from a file, split into a training and a validation part."""

import hashlib
import math
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Literal

import numpy as np
import torch
from torch import Tensor

from langevin.diffusion.chain.densities import THREE_BUMPS, Mixture
from langevin.diffusion.noise import SampleNoise, mix
from langevin.modalities.paths import regular
from langevin.modalities.remarks import Remarks

DistributionName = Literal["two_bumps", "mixture", "ring", "spirals", "blob"]
WIDEST = 64  # largest dimension of points in a file
LARGEST_UNPACKED = 2**28  # bytes of an array in an .npz file that is packed by more than 100 times


@dataclass(frozen=True, kw_only=True, eq=False)
class PointSet:
    """The training or the validation part: `values` (n, d) float32."""

    values: Tensor
    notes: Remarks = Remarks()

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
        """SHA-256 of the values, in hexadecimal."""
        return hashlib.sha256(self.values.contiguous().numpy().tobytes()).hexdigest()


SUFFIXES = (".npy", ".npz", ".csv")


def drawn_parts(name: DistributionName, *, count: int, seed: int, val_fraction: float) -> tuple[PointSet, PointSet]:
    """`count` points of a known distribution; the last `val_fraction` of them are the validation part."""
    every = draw(name, count, seed=seed)
    cut = min(max(1, round(len(every) * (1 - val_fraction))), len(every) - 1)
    return PointSet(values=every[:cut]), PointSet(values=every[cut:])


def load_parts(path: Path, *, val_fraction: float) -> tuple[PointSet, PointSet]:
    """The points in a file, one per row; a hash of the row decides its part, so duplicates stay together.

    Raises:
        ValueError: the file is missing, or does not hold 16 or more rows of finite numbers."""
    every = _read(path)
    if bool((every == every[:1]).all()):
        raise ValueError(f"{path}: all {len(every):,} points are the same: nothing to learn")
    position = np.array([int(hashlib.sha256(row.numpy().tobytes()).hexdigest()[:8], 16) / 2**32 for row in every])
    out = torch.from_numpy(position < val_fraction)
    if not bool(out.any()) or bool(out.all()):
        raise ValueError(f"{path} has {len(every)} points, too few that differ for a validation part: give more")
    return PointSet(values=every[~out]), PointSet(values=every[out])


def _read(path: Path) -> Tensor:
    if path.suffix not in SUFFIXES:
        raise ValueError(f"points are read from a .npy, .npz or .csv file, got '{path}'")
    if not regular(path):
        what = "is not a regular file" if path.exists() else "does not exist"
        raise ValueError(f"there is no file of points at {path}: it {what}")
    try:
        _refuse_bombs(path)
        if path.suffix == ".csv":
            values = np.loadtxt(path, delimiter=",", ndmin=2)
        else:
            loaded = np.load(path, allow_pickle=False)
            names = None if isinstance(loaded, np.ndarray) else list(loaded.files)
            if names == []:
                raise ValueError("it holds no array")
            if names and "points" not in names and len(names) > 1:
                raise ValueError(f"it holds {', '.join(names)}: name the array of points 'points'")
            values = loaded[("points" if "points" in names else names[0])] if names else loaded
    except Exception as error:  # of numpy, zipfile and the codecs, for a damaged or hostile file
        raise ValueError(f"{path} is not readable as points: {error}") from error
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or not 1 <= values.shape[1] <= WIDEST or len(values) < 16 or values.dtype.kind not in "fiu":
        raise ValueError(
            f"{path} holds {values.dtype} of shape {values.shape}: it should be 16 or more rows of 1 to {WIDEST} numbers"
        )
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(values, dtype=np.float32)
    if not np.isfinite(values).all():
        row = int(np.argwhere(~np.isfinite(values))[0][0])
        raise ValueError(f"{path}: row {row} holds a number that is not finite in float32")
    return torch.from_numpy(values)


def _refuse_bombs(path: Path) -> None:
    """Raise `ValueError` for a .npy or .npz file that says it holds far more than it does, before it is unpacked."""
    if path.suffix == ".npz":
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.file_size > max(LARGEST_UNPACKED, 100 * member.compress_size):
                    raise ValueError(f"{member.filename} in it unpacks to {member.file_size:,} bytes: too many")
                with archive.open(member) as file:
                    _fits(file, member.file_size)
    elif path.suffix == ".npy":
        with path.open("rb") as file:
            _fits(file, path.stat().st_size)


def _fits(file: IO[bytes], size: int) -> None:
    try:
        version = np.lib.format.read_magic(file)
    except ValueError:  # no array, as a note in an archive
        return
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if math.prod(shape) * dtype.itemsize > size:
        raise ValueError(f"it is cut short: an array of shape {shape} does not fit into {size:,} bytes")


# ------------------------------------------------------------------------------------------------------- distributions


def draw(name: DistributionName, count: int, *, seed: int = 0) -> Tensor:
    """`count` points of a known distribution, (count, d) float32; point i is a function of (seed, i)."""
    rows = torch.arange(count)
    noise = SampleNoise(seeds=mix(torch.full_like(rows, seed), rows), steps=torch.zeros_like(rows))
    u = noise.fork(1).uniform(torch.empty(count, 1))
    z = noise.normal(torch.empty(count, 2, dtype=torch.float64))
    return _DRAWS[name](u, z).float()


def _two_bumps(u: Tensor, z: Tensor) -> Tensor:
    return torch.where(u < 0.25, -2 + 0.25 * z[:, :1], 0.3 + 0.2 * z[:, :1])


def _mixture(u: Tensor, z: Tensor) -> Tensor:
    edges = torch.tensor(THREE_BUMPS.weights, dtype=torch.float64).cumsum(0)
    k = torch.searchsorted(edges, u[:, 0]).clamp_max(len(edges) - 1)
    means, stds = (torch.tensor(v, dtype=torch.float64) for v in (THREE_BUMPS.means, THREE_BUMPS.stds))
    return means[k] + stds[k, None] * z


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


_DRAWS: Mapping[DistributionName, Callable[[Tensor, Tensor], Tensor]] = {
    "two_bumps": _two_bumps, "mixture": _mixture, "ring": _ring, "spirals": _spirals, "blob": _blob,
}  # fmt: skip


def log_density(name: DistributionName, x: Tensor) -> Tensor | None:
    """ln p (n,) of points (n, d), or None for a distribution without a closed form."""
    mixture = _MIXTURES.get(name)
    return None if mixture is None else mixture.log_density(x)


_MIXTURES: Mapping[DistributionName, Mixture] = {
    "two_bumps": Mixture(means=((-2.0,), (0.3,)), stds=(0.25, 0.2), weights=(0.25, 0.75)),
    "mixture": THREE_BUMPS,
    "blob": Mixture(means=((1.0, 0.0),), stds=(0.3,), weights=(1.0,)),
}
