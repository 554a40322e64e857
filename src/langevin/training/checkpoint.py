"""Atomic, verified checkpoints.

A checkpoint is a directory of safetensors and JSON. It is written under a temporary name and flushed to the disk. A
manifest with the size and SHA-256 of every file comes last. Then the directory is renamed into place. Reading verifies the
manifest. A checkpoint that is damaged or cannot be read is reported and skipped for the one before it.
"""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from langevin.files import explain, flush, read_regular, remove, replace, temporary_of
from langevin.training.assembled import SHARD, assembled

FORMAT = 1
BEST = "best"  # folder of the checkpoint of the least held-out loss
_MOST = 2**26  # bytes of a JSON file
_STEP = re.compile(r"step-[0-9]{1,18}")

Groups = Mapping[str, Mapping[str, Tensor]]


class Damaged(ValueError):
    """A checkpoint that does not agree with its manifest."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What was saved: named groups of tensors, and a small JSON state."""

    path: Path
    groups: dict[str, dict[str, Tensor]]
    state: dict[str, Any]


def save(root: Path, step: int, groups: Groups, state: Mapping[str, Any]) -> Path:
    """Write `root/step-XXXXXXXX`.

    Raises:
        ValueError: a tensor holds a number that is not finite (nothing is written).
        OSError: the disk is full or not writable, with what to do; earlier checkpoints are untouched.
    """
    require_finite(step, groups)
    root.mkdir(parents=True, exist_ok=True)
    final = root / f"step-{step:08d}"
    temporary = temporary_of(final)
    size = sum(t.numel() * t.element_size() for tensors in groups.values() for t in tensors.values())
    try:
        _require_space(root, size)
        temporary.mkdir()
        for group, tensors in groups.items():
            ready = {name: t.detach().to("cpu").contiguous() for name, t in tensors.items()}
            save_file(ready, temporary / f"{group}.safetensors")
        complete(temporary, final, step, state)
    except (OSError, SafetensorError) as error:
        raise explain(error, final, size=size, run=root.parent) from error
    finally:
        remove(temporary)
    return final


def require_finite(step: int, groups: Groups) -> None:
    """Check that all numbers of a checkpoint are finite.

    Raises:
        ValueError: one is not."""
    for group, tensors in groups.items():
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise ValueError(f"not saving step {step}: '{name}' of {group} holds numbers that are not finite")


def complete(
    temporary: Path, final: Path, step: int, state: Mapping[str, Any], *,
    sealed: Mapping[str, Mapping[str, Any]] | None = None, shapes: Mapping[str, list[int]] | None = None,
) -> None:  # fmt: skip
    """Make a checkpoint of a folder of tensors: its state, a manifest of all files, and its name at last.

    Args:
        sealed: what `seal` gave of files that other ranks have written and flushed.
        shapes: of whole tensors that are in parts, by "group/name".

    Raises:
        OSError: the disk is full or not writable, or a file that another rank has written is not there."""
    sealed = sealed or {}
    for name, about in sealed.items():
        if not (temporary / name).is_file() or (temporary / name).stat().st_size != about["bytes"]:
            raise OSError(
                errno.ENOENT, f"{name}, which a rank has written, is not there: all ranks need one folder of the run"
            )
    (temporary / "state.json").write_text(json.dumps(dict(state), indent=1))
    readable = (temporary / "state.json").stat().st_mode
    files = dict[str, Mapping[str, Any]]()
    for file in sorted(temporary.iterdir()):
        os.chmod(file, readable)  # safetensors makes its files private
        files[file.name] = sealed.get(file.name) or seal(file)
    about = {"format": FORMAT, "step": step, "files": files}
    about |= {"shapes": dict(shapes)} if shapes is not None else {}
    (temporary / "manifest.json").write_text(json.dumps(about, indent=1))
    flush(temporary / "manifest.json")
    flush(temporary)
    _put(temporary, final, files)
    flush(final.parent)


def seal(file: Path) -> dict[str, Any]:
    """Flush a file to the disk; what a manifest says of it: its size, and its SHA-256.

    Raises:
        OSError: it cannot be read, or the disk is full."""
    about = {"bytes": file.stat().st_size, "sha256": _digest(file)}
    flush(file)
    return about


def load(path: Path, *, only: tuple[str, ...] | None = None) -> Checkpoint:
    """Read and verify one checkpoint.

    Args:
        only: names of the groups to read; all are verified.

    Raises:
        Damaged: a file is missing, truncated, altered or cannot be read, or its format is not that of this version.
    """
    manifest = _verified(path)
    files, shapes = manifest["files"], manifest.get("shapes")
    names = [n.removesuffix(".safetensors") for n in files if n.endswith(".safetensors")]
    shards = [name for name in names if name.startswith(SHARD)]
    try:
        if shards:
            if not isinstance(shapes, dict | None):
                raise ValueError("its manifest does not list the shapes of tensors")
            groups = assembled([path / f"{name}.safetensors" for name in sorted(shards)], shapes=shapes, only=only)
        else:
            groups = {n: load_file(path / f"{n}.safetensors") for n in names if only is None or n in only}
        state = json.loads(read_regular(path / "state.json", most=_MOST))
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:  # RecursionError is a RuntimeError
        raise Damaged(f"{path}: cannot be read: {error}") from error
    if not isinstance(state, dict) or not isinstance(state.get("step"), int):
        raise Damaged(f"{path}/state.json: does not state the step")
    return Checkpoint(path=path, groups=groups, state=state)


def identity(root: Path) -> str:
    """SHA-256 of the newest complete checkpoint, by its manifest, and of that in `BEST` if there is one, in hexadecimal.

    Raises:
        ValueError: there is none."""
    newest, best = (next(filter(is_complete, steps(folder)), None) for folder in (root, root / BEST))
    if newest is not None:
        return hashlib.sha256(
            b"".join((path / "manifest.json").read_bytes() for path in (newest, best) if path is not None)
        ).hexdigest()
    raise ValueError(f"there is no complete checkpoint in {root}")


def published(root: Path) -> str | None:
    """SHA-256 of the file of weights of a run that has these alone, as one that was pulled has: it is that of the file that
    was published. None for other runs."""
    newest = next(filter(is_complete, steps(root)), None)
    files = _verified(newest)["files"] if newest is not None and not steps(root / BEST) else {}
    return files["model.safetensors"]["sha256"] if files.keys() == {"model.safetensors", "state.json"} else None


def _verified(path: Path) -> dict[str, Any]:
    """The manifest, after checking that all of its files exist and match it."""
    try:
        manifest = json.loads(read_regular(path / "manifest.json", most=_MOST))
        written = manifest["format"]
        files = manifest["files"] if written == FORMAT else {}
        stated = {name: (about["bytes"], about["sha256"]) for name, about in files.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Damaged(f"{path}: no readable manifest.json ({error!r})") from error
    if written != FORMAT:
        raise Damaged(f"{path}: written in format {written}, this version reads format {FORMAT}")
    for name in ("state.json", *stated):
        file = path / name
        if Path(name).name != name:
            raise Damaged(f"{path}/manifest.json: names a file outside the checkpoint")
        try:
            if name not in stated or not file.is_file():
                raise Damaged(f"{file}: missing")
            size, digest = stated[name]
            if file.stat().st_size != size:
                raise Damaged(f"{file}: {file.stat().st_size} bytes, its manifest says {size}")
            if _digest(file) != digest:
                raise Damaged(f"{file}: its contents do not match its manifest")
        except OSError as error:
            raise Damaged(f"{file}: cannot be read: {error.strerror or error}") from error
    return manifest


def _put(temporary: Path, final: Path, files: Mapping[str, Any]) -> None:
    """Rename into place. If an equal complete checkpoint is there already, it stays."""
    if os.path.lexists(final):
        try:
            if _verified(final)["files"] == files and not final.is_symlink():
                return
        except Damaged:
            pass
        trash = temporary_of(final)
        replace(final, trash)
        replace(temporary, final)
        remove(trash)
    else:
        replace(temporary, final)


def steps(root: Path) -> list[Path]:
    """The checkpoints under `root`, newest first, complete or damaged."""
    try:
        names = os.listdir(root)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted((root / name for name in names if _STEP.fullmatch(name)), reverse=True)


def load_latest(root: Path, *, only: tuple[str, ...] | None = None) -> tuple[Checkpoint | None, list[str]]:
    """The newest complete checkpoint (None if there is none), and a message for each damaged one that was skipped."""
    complaints: list[str] = []
    for _ in range(10):
        listed, complaints = steps(root), []
        for path in listed:
            try:
                return load(path, only=only), complaints
            except Damaged as error:
                if os.path.lexists(path):
                    complaints.append(f"skipped a damaged checkpoint: {error}")
        if all(map(os.path.lexists, listed)):
            break  # else a running training has pruned some of them while they were read, and written newer ones
    return None, complaints


def step_of(path: Path) -> int:
    """The training step of a checkpoint directory, from its name."""
    return int(path.name.removeprefix("step-"))


def is_complete(path: Path) -> bool:
    """Whether a checkpoint agrees with its manifest."""
    try:
        _verified(path)
    except Damaged:
        return False
    return True


def prune(root: Path, *, keep: int, step: int, eval_steps: Collection[int] = ()) -> None:
    """Remove old checkpoints, and incomplete files of killed processes.

    Of the checkpoints up to `step`, the `keep` newest and the two newest at `eval_steps` stay. Later ones stay too: the
    run will reach their steps again."""
    past = [p for p in steps(root) if step_of(p) <= step]
    kept = {*past[:keep], *[p for p in past if step_of(p) in eval_steps][:2]}
    for old in past:
        if old not in kept:
            _remove(old)
    for rest in root.glob(".*.tmp"):
        remove(rest)


def remove_after(root: Path, step: int) -> None:
    """Remove checkpoints of later steps."""
    for path in steps(root):
        if step_of(path) > step:
            _remove(path)


def _remove(path: Path) -> None:
    """Remove atomically: rename first, so that a kill leaves no partial checkpoint."""
    trash = temporary_of(path)
    replace(path, trash)
    remove(trash)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _require_space(root: Path, size: int) -> None:
    free = shutil.disk_usage(root).free
    if free < size + (1 << 20):
        raise OSError(errno.ENOSPC, f"{free / 1e6:.1f} MB free, {(size + (1 << 20)) / 1e6:.1f} MB needed")
