"""The options of a dataset file of another trainer as changes of a recipe, with what is carried over and what is not."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langevin.modalities.dataset_files.subsets import DatasetFile, read

_QUIET = {
    "cache_latents",
    "cache_latents_to_disk",
    "skip_cache_check",
    "validation_split",
    "cache_info",
}  # of no meaning here
_COUNT, _MAX_RATIO = 9, 2.0  # of kohya's buckets, whose number follows from their steps


@dataclass(frozen=True, kw_only=True)
class Imported:
    """Changes of a recipe, key.key=value, and a sentence about each option."""

    changes: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()


def imported(path: Path, known: Collection[str]) -> Imported:
    """The options of a dataset file.

    Args:
        known: the options that the data has here, such as `size`; others are not carried over.

    Raises:
        ValueError: it is none, or an option has a value that it cannot have."""
    file = read(path)
    found = dict(file.options)
    changes = [*_size(file, found), *_buckets(file, found)]
    if (flip := _one(found, "flip_aug")) is not None:
        changes.append((f"data.flip={str(bool(flip)).lower()}", "flip_aug"))
    if (batch := _one(found, "batch_size")) is not None:
        changes.append((f"training.batch={_number(file, 'batch_size', batch)}", "batch_size"))
    for change, name in changes:
        if change.startswith("data.") and change.split("=")[0].split(".")[1] not in known:
            found |= dict.fromkeys(name.split(", "), ())
    changes = [(change, name) for change, name in changes if not set(name.split(", ")) & set(found)]
    lines = [f"{path.name}, of {file.of}: {_folders(file)}"]
    lines += [f"{name} is carried over: {change}" for change, name in changes]
    lines += [f"{name} differs between folders, and the first value is taken" for name in _varied(file, changes)]
    left = [name for name in found if name not in _QUIET]
    if left:
        lines.append(f"not carried over, as there is nothing like it here: {', '.join(sorted(left))}")
    return Imported(changes=tuple(change for change, _ in changes), lines=(*lines, *file.remarks))


def _folders(file: DatasetFile) -> str:
    count, repeats = len(file.subsets), {subset.repeats for subset in file.subsets}
    seen = f", seen {' and '.join(f'{n}x' for n in sorted(repeats))}" if repeats != {1} else ""
    return f"{count:,} {'folder' if count == 1 else 'folders'}{seen}"


def _varied(file: DatasetFile, changes: list[tuple[str, str]]) -> list[str]:
    names = {part for _, name in changes for part in name.split(", ")}
    return sorted(name for name in names if len(file.options.get(name, ())) > 1)


def _one(found: dict[str, tuple[Any, ...]], name: str) -> Any:
    """The first value of an option, which is taken out of those found."""
    return next((value for value in found.pop(name, ()) if value is not None), None)


def _number(file: DatasetFile, name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 10**6:
        raise ValueError(f"{file.path}: {name} is a positive number, got {value!r}")
    return value


def _side(file: DatasetFile, name: str, value: Any) -> int:
    """The side of a square of the area of a resolution: a number, or width and height."""
    if isinstance(value, list) and len(value) == 2:
        width, height = (_number(file, name, side) for side in value)
        return round(math.sqrt(width * height))
    return _number(file, name, value[0] if isinstance(value, list) and len(value) == 1 else value)


def _size(file: DatasetFile, found: dict[str, tuple[Any, ...]]) -> list[tuple[str, str]]:
    name = "resolution" if file.of == "kohya" else "resolutions"
    value = _one(found, name)
    if value is None:
        return []
    if name == "resolutions":
        if not isinstance(value, list) or not value:
            raise ValueError(f"{file.path}: resolutions is a list of numbers, got {value!r}")
        sides = [_side(file, name, side) for side in value]
        more = f", the largest of {sides}" if len(set(sides)) > 1 else ""
        return [(f"data.size={max(sides)}", f"resolutions{more}")]
    return [(f"data.size={_side(file, name, value)}", name)]


def _buckets(file: DatasetFile, found: dict[str, tuple[Any, ...]]) -> list[tuple[str, str]]:
    wanted = _one(found, "enable_bucket" if file.of == "kohya" else "enable_ar_bucket")
    if not wanted:
        for name in ("min_bucket_reso", "max_bucket_reso", "bucket_reso_steps", "min_ar", "max_ar", "num_ar_buckets"):
            found.pop(name, None)
        return []
    return _of_sides(file, found) if file.of == "kohya" else _of_ratios(file, found)


def _of_sides(file: DatasetFile, found: dict[str, tuple[Any, ...]]) -> list[tuple[str, str]]:
    """Buckets whose sides are within a range: the longest has the ratio of the largest side to what the area leaves."""
    side = _side(file, "resolution", next(iter(file.options.get("resolution", (512,)))) or 512)
    ratios = list[float]()
    for name in ("max_bucket_reso", "min_bucket_reso"):
        if (value := _one(found, name)) is not None:
            ratio = (_number(file, name, value) / side) ** 2
            ratios.append(max(ratio, 1 / ratio))
    steps = _one(found, "bucket_reso_steps")
    ratio = min(16.0, max(1.05, min(ratios))) if ratios else _MAX_RATIO
    changes = [
        (f"data.buckets.count={_COUNT}", "enable_bucket"),
        (f"data.buckets.max_ratio={ratio:g}", "max_bucket_reso"),
    ]
    if steps is not None and side % _number(file, "bucket_reso_steps", steps) == 0:
        changes.append((f"data.buckets.multiple={steps}", "bucket_reso_steps"))
    elif steps is not None:
        found["bucket_reso_steps"] = (steps,)
    return changes if ratios else [changes[0], *changes[2:]]


def _of_ratios(file: DatasetFile, found: dict[str, tuple[Any, ...]]) -> list[tuple[str, str]]:
    count, least, most = (_one(found, name) for name in ("num_ar_buckets", "min_ar", "max_ar"))
    count = _COUNT if count is None else _number(file, "num_ar_buckets", count)
    changes = [(f"data.buckets.count={min(99, max(3, count + (count % 2 == 0)))}", "enable_ar_bucket, num_ar_buckets")]
    ratios = {name: value for name, value in (("min_ar", least), ("max_ar", most)) if value is not None}
    for name, value in ratios.items():
        if not isinstance(value, int | float) or not 0 < value < math.inf:
            raise ValueError(f"{file.path}: {name} is a positive number, got {value!r}")
    if ratios:
        widest = max(max(value, 1 / value) for value in ratios.values())
        changes.append((f"data.buckets.max_ratio={min(16.0, max(1.05, widest)):g}", ", ".join(ratios)))
    return changes
