"""Motions that a request gives: a file, read as the run's motions are."""

import codecs
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from langevin.modalities.motion import rotations
from langevin.modalities.motion.clip import Clip, Unreadable, frames_at, require_duration
from langevin.modalities.motion.files import arrays, bvh, deepmimic
from langevin.modalities.motion.files.bvh import END
from langevin.modalities.motion.skeleton import OFFSETS, Skeleton
from langevin.modalities.paths import regular, some

FORMS = {"skeleton": "BVH, the JSON of DeepMimic, or an .npz with `poses`", "states": "CSV, or an .npz with `states`"}


def read_given(file: str, skeleton: Skeleton | None, columns: tuple[str, ...], *, rate: float) -> Clip:
    """The motion of a file, with the run's skeleton or columns, at its own rate. What it is shows in its first bytes.

    Args:
        rate: of files that do not say theirs.

    Raises:
        ValueError: it cannot be read, or is of another skeleton or of other columns."""
    path = Path(file)
    if not regular(path):
        raise ValueError(f"there is no file {file}")
    try:
        with path.open("rb") as opened:
            head = opened.read(1024).removeprefix(codecs.BOM_UTF8).lstrip()
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read: {error.strerror or error}") from error
    try:
        if skeleton is None:
            return _states(path, columns, rate, archive=head.startswith(b"PK"))
        if head.startswith(b"PK"):
            return _poses(path, skeleton, rate)
        if head[:9].upper() == b"HIERARCHY":
            return fitted_to(bvh.read(path), skeleton)
        if head.startswith(b"{"):
            found = deepmimic.load(path)
            if "Skeleton" in found:
                return fitted_to(deepmimic.motion(found, deepmimic.character(found)), skeleton)
            return deepmimic.motion(found, skeleton)
        raise Unreadable(f"is no motion of a skeleton: give {FORMS['skeleton']}")
    except Unreadable as error:
        raise ValueError(f"{path.name} {error}") from error


def _states(path: Path, columns: tuple[str, ...], rate: float, *, archive: bool) -> Clip:
    clip = arrays.read_npz(path, rate=rate)[0][0] if archive else arrays.read_csv(path, rate=rate)
    if clip.values.shape[1] != len(columns):
        raise Unreadable(
            f"has {clip.values.shape[1]} columns ({some(clip.columns, limit=6)}), and the run has {len(columns)}: "
            f"{some(columns, limit=6)}"
        )
    return replace(clip, columns=columns)


def _poses(path: Path, skeleton: Skeleton, rate: float) -> Clip:
    try:
        with np.load(path, allow_pickle=False) as held:
            values, own = held["poses"], float(held["rate"]) if "rate" in held.files else rate
            if values.ndim == 3 and len(values):
                values = values[0, : arrays.lengths_of(held, values)[0]]
    except Unreadable:
        raise
    except Exception as error:  # of numpy and zipfile, for a damaged or hostile file
        raise Unreadable(f"holds no array 'poses': {error}") from error
    if values.ndim != 2 or values.shape[1] != skeleton.columns or values.dtype.kind != "f" or not len(values):
        raise Unreadable(f"holds poses of shape {values.shape}, and the run's are (frames, {skeleton.columns})")
    if not 1e-6 < own < 1e9:
        raise Unreadable(f"says a rate of {own:g} frames per second")
    if not np.isfinite(values).all():
        raise Unreadable(f"has a number that is not finite in frame {int(np.argwhere(~np.isfinite(values))[0][0])}")
    root, q = skeleton.split(torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)))
    poses = skeleton.join(root, rotations.continuous(rotations.normalised(q)))
    return Clip(values=poses, rate=own, skeleton=skeleton)


def fitted_to(clip: Clip, skeleton: Skeleton) -> Clip:
    """The motion on the run's skeleton, whose joints are found by their names.

    Raises:
        Unreadable: joints are missing, or hang on others, or bones are of another size."""
    own = clip.skeleton
    assert own is not None, "only motions of a skeleton are fitted"
    index = {name.removesuffix(END): i for i, name in reversed(list(enumerate(own.names)))}
    missing = [skeleton.names[j] for j in skeleton.moving if skeleton.names[j] not in index]
    if missing:
        raise Unreadable(
            f"is of another skeleton: it lacks {some(missing, limit=5)}; it has {some(own.names, limit=5)}"
        )
    root, q = own.split(clip.values)
    at = {joint: i for i, joint in enumerate(own.moving)}
    found = list[Tensor]()
    for joint in skeleton.moving:
        other = index[skeleton.names[joint]]
        parent = skeleton.parents[joint]
        if parent >= 0 and own.names[own.parents[other]] != skeleton.names[parent]:
            name, hook = skeleton.names[joint], own.names[own.parents[other]]
            raise Unreadable(
                f"is of another skeleton: {name} hangs on {hook}, and in the run on {skeleton.names[parent]}"
            )
        turned = q[:, at[other]] if other in at else rotations.identity(q).expand(len(q), 4)
        if skeleton.kinds[joint] == "hinge":
            axis = torch.tensor(skeleton.axes[joint]).to(turned).expand(len(q), 3)
            turned = rotations.about(axis, rotations.turn_about(axis, turned))
        found.append(turned)
    _require_size(own, skeleton)
    poses = skeleton.join(root, rotations.continuous(torch.stack(found, 1)))
    return replace(clip, values=poses, skeleton=skeleton)


def _require_size(own: Skeleton, skeleton: Skeleton) -> None:
    """Check that the bones of a file are as long as those of the run. Raises `Unreadable`."""
    names = [name for name in skeleton.names[1:] if name in own.names[1:]]
    if not names:
        return
    a, b = (
        torch.tensor([one.offsets[one.names.index(name)] for name in names], dtype=torch.float64)
        for one in (own, skeleton)
    )
    apart, factor = (a - b).abs().amax(1), float(a.norm(dim=1).sum() / b.norm(dim=1).sum().clamp_min(1e-12))
    if float(apart.max()) <= OFFSETS * skeleton.height:
        return
    if float((a - factor * b).abs().max()) <= OFFSETS * factor * skeleton.height:
        raise Unreadable(
            f"has bones {factor:.3g} times as long as those of the run: multiply its offsets and positions by "
            f"{1 / factor:.3g}, to give it in the run's unit"
        )
    raise Unreadable(
        f"is of another skeleton: its bone to {names[int(apart.argmax())]} differs from that of the run by more than a "
        "fifth of the skeleton: give a motion of the run's skeleton"
    )


def read_path(file: str, *, rate: float) -> Tensor:
    """The way of a root at the run's rate, (frames, 3) float64: x, z and heading; NaN where no heading is given.

    Raises:
        ValueError: the file is none, or lasts less than two frames or more than `LONGEST` seconds."""
    path = Path(file)
    if not regular(path):
        raise ValueError(f"there is no file {file}")
    try:
        names, times, values = arrays.table(path)
    except Unreadable as error:
        raise ValueError(f"{path.name} {error}") from error
    if values.shape[1] not in (2, 3):
        raise ValueError(
            f"{path.name} has the columns {', '.join(names)}: a path is a CSV of time,x,z or time,x,z,heading (radians), "
            "or of x,z per frame"
        )
    if len(values) < 2:
        raise ValueError(f"{path.name} has one place: a path has two or more")
    full = np.concatenate([values, np.full((len(values), 3 - values.shape[1]), np.nan)], 1)
    require_duration(path.name, (len(values) - 1) / rate if times is None else float(times[-1] - times[0]), rate)
    if times is None:
        return torch.from_numpy(full)
    at = np.arange(frames_at(float(times[-1] - times[0]), rate)) / rate + times[0]
    if values.shape[1] == 3:
        full[:, 2] = np.unwrap(full[:, 2])
    return torch.from_numpy(np.stack([np.interp(at, times, full[:, k]) for k in range(3)], 1))
