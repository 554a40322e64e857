"""Atomic, verified checkpoints.

A checkpoint is a directory of safetensors and JSON. It is written under a temporary name and flushed to the disk. A
manifest with the size and SHA-256 of every file comes last. Then the directory is renamed into place, and `latest` names
it. Reading verifies the manifest. A damaged checkpoint is reported and skipped for the one before it.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

FORMAT = 1
WINDOWS = os.name == "nt"

Groups = Mapping[str, Mapping[str, Tensor]]


class Damaged(ValueError):
    """A checkpoint that does not agree with its manifest."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What was saved: named groups of tensors, and a small JSON state."""

    path: Path
    groups: dict[str, dict[str, Tensor]]
    state: dict[str, Any]


def write_atomic(path: Path, data: bytes) -> None:
    """Replace a file atomically: after a crash it holds the old content or the new.

    Raises:
        OSError: the disk is full or not writable, with what to do."""
    temporary = path.with_name(f".{path.name}.tmp")  # one name, so that a killed process's leftover is overwritten
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise explain(error, path) from error


def save(root: Path, step: int, groups: Groups, state: Mapping[str, Any]) -> Path:
    """Write `root/step-XXXXXXXX` and point `latest` at it.

    Raises:
        ValueError: a tensor holds a number that is not finite (nothing is written).
        OSError: the disk is full or not writable, with what to do; earlier checkpoints are untouched.
    """
    for group, tensors in groups.items():
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise ValueError(f"not saving step {step}: '{name}' of {group} holds numbers that are not finite")
    root.mkdir(parents=True, exist_ok=True)
    final, temporary = root / f"step-{step:08d}", root / f".writing-{step:08d}-{os.getpid()}"
    size = sum(t.numel() * t.element_size() for tensors in groups.values() for t in tensors.values())
    try:
        _require_space(root, size)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        for group, tensors in groups.items():
            ready = {name: t.detach().to("cpu").contiguous() for name, t in tensors.items()}
            save_file(ready, temporary / f"{group}.safetensors")
        (temporary / "state.json").write_text(json.dumps(dict(state), indent=1))
        files = {f.name: {"bytes": f.stat().st_size, "sha256": _digest(f)} for f in sorted(temporary.iterdir())}
        for name in files:
            _flush(temporary / name)
        (temporary / "manifest.json").write_text(json.dumps({"format": FORMAT, "step": step, "files": files}, indent=1))
        _flush(temporary / "manifest.json")
        _flush(temporary)
        _put(temporary, final, files)
        _flush(root)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise explain(error, final, size) from error
    write_atomic(root / "latest", final.name.encode())
    return final


def load(path: Path, *, only: tuple[str, ...] | None = None) -> Checkpoint:
    """Read and verify one checkpoint.

    Args:
        only: names of the groups to read; all are verified.

    Raises:
        Damaged: a file is missing, truncated or altered, or its format is not that of this version.
    """
    files = _verified(path)
    names = [n.removesuffix(".safetensors") for n in files if n.endswith(".safetensors")]
    try:
        groups = {n: load_file(path / f"{n}.safetensors") for n in names if only is None or n in only}
        return Checkpoint(path=path, groups=groups, state=json.loads((path / "state.json").read_text()))
    except FileNotFoundError as error:  # a running training has just pruned it
        raise Damaged(f"{path}: removed while it was read") from error


def _verified(path: Path) -> dict[str, Any]:
    """The manifest's files, after checking that all exist and match it."""
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        written = manifest["format"]
        files = manifest["files"] if written == FORMAT else {}
        stated = {name: (about["bytes"], about["sha256"]) for name, about in files.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise Damaged(f"{path}: no readable manifest.json ({error!r})") from error
    if written != FORMAT:
        raise Damaged(f"{path}: written in format {written}, this version reads format {FORMAT}")
    for name in ("state.json", *stated):
        file = path / name
        if name not in stated or not file.is_file():
            raise Damaged(f"{file}: missing")
        size, digest = stated[name]
        if file.stat().st_size != size:
            raise Damaged(f"{file}: {file.stat().st_size} bytes, its manifest says {size}")
        if _digest(file) != digest:
            raise Damaged(f"{file}: its contents do not match its manifest")
    return files


def _put(temporary: Path, final: Path, files: dict[str, Any]) -> None:
    """Rename into place. If an equal complete checkpoint is there already, it stays."""
    if final.exists():
        try:
            if _verified(final) == files:
                shutil.rmtree(temporary)
                return
        except Damaged:
            pass
        trash = final.with_name(f".old-{final.name}")
        shutil.rmtree(trash, ignore_errors=True)
        os.replace(final, trash)
        os.replace(temporary, final)
        shutil.rmtree(trash, ignore_errors=True)
    else:
        os.replace(temporary, final)


def steps(root: Path) -> list[Path]:
    """The checkpoints under `root`, newest first, complete or damaged."""
    return sorted((p for p in root.glob("step-*") if p.is_dir() and p.name[5:].isdigit()), reverse=True)


def load_latest(root: Path, *, only: tuple[str, ...] | None = None) -> tuple[Checkpoint | None, list[str]]:
    """The newest complete checkpoint (None if there is none), and a message for each damaged one that was skipped."""
    complaints: list[str] = []
    for path in steps(root):
        try:
            return load(path, only=only), complaints
        except Damaged as error:
            complaints.append(f"skipped a damaged checkpoint: {error}")
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
    for rest in (*root.glob(".writing-*"), *root.glob(".old-*"), *root.glob(".*.tmp")):
        shutil.rmtree(rest, ignore_errors=True) if rest.is_dir() else rest.unlink(missing_ok=True)


def remove_after(root: Path, step: int) -> None:
    """Remove checkpoints of later steps."""
    for path in steps(root):
        if step_of(path) > step:
            _remove(path)


def _remove(path: Path) -> None:
    """Remove atomically: rename first, so that a kill leaves no partial checkpoint."""
    trash = path.with_name(f".old-{path.name}")
    os.replace(path, trash)
    shutil.rmtree(trash, ignore_errors=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """Flush a file, or a folder's directory entries, to the disk. Windows cannot flush folders and does not need to."""
    folder = path.is_dir()
    if folder and WINDOWS:
        return
    handle = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _require_space(root: Path, size: int) -> None:
    free = shutil.disk_usage(root).free
    if free < size + (1 << 20):
        raise OSError(errno.ENOSPC, f"{free / 1e6:.0f} MB free, {size / 1e6:.0f} MB needed")


def explain(error: Exception, path: Path, size: int = 0) -> OSError:
    """An OSError whose message says what failed and, if the disk is full, what to do."""
    full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
    if not full:
        return OSError(getattr(error, "errno", None) or errno.EIO, f"could not write {path}: {error}")
    needed = f" ({size / 1e6:.0f} MB)" if size else ""
    return OSError(
        errno.ENOSPC,
        f"disk full while writing {path}{needed}: {error}. To go on, free some disk space and repeat the command; "
        "`langevin resume` continues a training run from its checkpoints, which are intact",
    )
