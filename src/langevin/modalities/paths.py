"""Paths on disk, and errors that name the nearest path that exists."""

import difflib
import hashlib
import json
import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from langevin.modalities.content import entries, exists, files_at, is_file_in_shard, is_whole, size_of
from langevin.modalities.shards.folder import MANIFEST, Shards, shards_at
from langevin.modalities.shards.index import SUFFIX as INDEX
from langevin.modalities.shards.shard import Member, Shard

# beginnings of the names of files that describe the others
ABOUT = ("readme", "license", "licence", "copying", "notice", "changelog", "authors", "citation")


def existing_path(path: str, what: str) -> Path:
    """The path, expanded; `what` is the noun for the error.

    Raises:
        ValueError: nothing is there; the message names the most similar path, or the nearest parent that exists."""
    wanted = Path(path).expanduser()
    try:
        if exists(wanted):
            return wanted
        parent = wanted.parent
        if not parent.is_dir():
            above = next(folder for folder in parent.absolute().parents if folder.is_dir())
            raise ValueError(f"There is no {what} {wanted}: not even {parent} exists; {above} does")
        hint = did_you_mean(wanted.name, [entry.name for entry in list_entries(parent)], parent)
    except PermissionError as error:
        raise ValueError(f"{wanted} may not be looked at: permission denied; check its rights") from error
    raise ValueError(f"There is no {what} {wanted}{hint}")


def regular(path: Path) -> bool:
    """Whether the path, links followed, is a regular file: no FIFO, socket or device, which could be read without end.

    Files in shards are; a shard itself is a folder, and so is a dataset file of another trainer."""
    try:
        return stat.S_ISREG(path.stat().st_mode) and not is_whole(path)
    except (OSError, ValueError):
        return is_file_in_shard(path)


def list_entries(folder: Path) -> list[Path]:
    """Entries of a directory, not recursive. Raises `ValueError` where it cannot be listed."""
    try:
        return list(folder.iterdir()) if folder.is_dir() else [folder / name for name in entries(folder)]
    except OSError as error:
        raise ValueError(f"{folder} cannot be listed: {error.strerror or error}; check its rights") from error


def did_you_mean(name: str, known: Iterable[str], parent: Path | None = None) -> str:
    """The end of an error message, naming the most similar known name; empty if none is similar."""
    lower = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), list(lower), n=1, cutoff=0.6)
    if not close:
        return ""
    return f"; did you mean {parent / lower[close[0]] if parent else repr(lower[close[0]])}?"


def some(names: Sequence[str], *, limit: int = 3, between: str = ", ") -> str:
    """The first `limit` names, and how many more there are."""
    shown = between.join(names[:limit])
    return shown if len(names) <= limit else f"{shown}{between}and {len(names) - limit:,} more"


def walk(root: Path) -> list[str]:
    """Every file under `root` that is not hidden, nor in the directory of a run, by relative path, sorted; links followed.

    Shards are read as if they were unpacked where they are; what is unpacked there already is not read twice.

    Raises:
        ValueError: a directory that may not be listed, or a shard that is cut short, damaged or missing."""
    if is_whole(root):
        found = files_at(root)
        return [] if found is None else list(found.names)
    names: list[str] = []
    visited: set[str] = set()

    def closed(error: OSError) -> None:
        raise ValueError(f"{error.filename} cannot be listed: {error.strerror}; check its rights, or move it away")

    for folder, below, files in os.walk(root, onerror=closed, followlinks=True):
        real = os.path.realpath(folder)
        seen = real in visited or (folder != str(root) and is_run(files))
        below[:] = [] if seen else sorted(name for name in below if not name.startswith("."))
        if not seen:
            names += [Path(folder, n).relative_to(root).as_posix() for n in files if not n.startswith(".")]
            if any(n.lower().endswith(".tar") for n in files) and (shards := shards_at(Path(folder))) is not None:
                prefix = Path(folder).relative_to(root)
                names += [(prefix / name).as_posix() for name in shards.names]
        visited.add(real)
    return sorted({name for name in names if not _of_shards(root, name)})


def _of_shards(root: Path, name: str) -> bool:
    """Whether a file is a shard, or about shards: what is in them is listed in its place."""
    lower = name.lower()
    listed = name.rpartition("/")[2] == MANIFEST and not is_file_in_shard(root / name)
    return listed or lower.endswith((".tar", f".tar{INDEX}"))


def in_shards(root: Path, names: Iterable[str]) -> Iterator[tuple[int, Shard, Member] | None]:
    """The number of the shard that each file under a root is in, from 1 on, the shard, and where it is there; None for
    files in none."""
    found, first = (
        dict[str, Shards | None](),
        dict[str, int](),
    )  # shards of a folder, and the number of the first of them
    for name in names:
        place = None
        for folder in map(str, reversed(PurePosixPath(name).parents)):
            if folder not in found:
                first[folder] = 1 + sum(len(shards.shards) for shards in found.values() if shards)
                found[folder] = shards_at(root / folder)
            shards, inside = found[folder], name if folder == "." else name.removeprefix(f"{folder}/")
            if shards is not None and inside in shards.files:
                number, member = shards.files[inside]
                place = first[folder] + number, shards.shards[number], member
                break
        yield place


def shard_numbers(root: Path, names: Sequence[str]) -> list[int] | None:
    """A number for the shard that each file under a root is in, 0 for those in none; None if there are no shards."""
    numbers = [0 if place is None else place[0] for place in in_shards(root, names)]
    return numbers if any(numbers) else None


def stamp(root: Path, names: Sequence[str]) -> str:
    """SHA-256, in hexadecimal, of what the disk says of files under a root without reading them: names, sizes and times of
    change, those of their shards for files in shards."""
    digest = hashlib.sha256()
    times = dict[Path, int]()
    for name, place in zip(names, in_shards(root, names), strict=True):
        try:
            if place is None:
                facts: tuple[object, ...] = (size_of(root / name), _changed(root / name))
            else:
                _, shard, member = place
                facts = (times.setdefault(shard.path, shard.path.stat().st_mtime_ns), shard.size, *member)
        except OSError as error:
            facts = (error.errno,)
        digest.update(json.dumps([name, *facts]).encode())
    return digest.hexdigest()


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def shard_remarks(path: Path) -> list[str]:
    """What is to be said of the shards at a path and in its folders: how many are read, and what of them is not."""
    lines = list[str]()
    below = sorted(entry for entry in path.iterdir() if entry.is_dir()) if path.is_dir() else []
    for folder in (path, *below):
        found = files_at(folder)
        if isinstance(found, Shards):
            lines.append(f"{folder}: {len(found.files):,} files of {len(found.shards):,} shards.")
        lines += found.remarks if found is not None else ()
    return lines


def is_run(names: Iterable[str]) -> bool:
    """Whether a directory with files of these names is a run, whose samples and logs are no data."""
    return {"recipe.yaml", "environment.json"} <= set(names)


def is_about(name: str) -> bool:
    """Whether a file is a README, a licence or the like."""
    return PurePosixPath(name).name.lower().startswith(ABOUT)


def companions(names: Iterable[str]) -> set[str]:
    """Text files with the same path as another file except for the suffix, such as captions next to images."""
    by_stem: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_stem[str(PurePosixPath(name).with_suffix(""))].append(name)
    return {
        name
        for alike in by_stem.values()
        for name in alike
        if len(alike) > 1
        and name.lower().endswith(".txt")
        and any(not other.lower().endswith(".txt") for other in alike)
    }
