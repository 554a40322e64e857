"""The motions under a path: which files, of which kind, and what is said of them.

Kinds: BVH, the JSON of DeepMimic (`.json` or `.txt`), and states (CSV, NPZ). What is known of a motion, the first that
applies: `metadata.jsonl` or `metadata.csv` with a column `file_name` and a column `action` (or `label`, `class`) or `text`
(or `caption`); directories, one per action; a pattern for file names; what file names differ by. Directories `train/` and
`test/`, `valid/`, `validation/`, `val/`, `dev/`, one or more, are the parts; files beside them are not used.
"""

import csv
import json
import os.path
import re
from collections import Counter
from dataclasses import dataclass, field
from fnmatch import fnmatch
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from langevin.modalities.content import is_folder, opened, size_of, text_of
from langevin.modalities.motion.files.arrays import holds_trajectories
from langevin.modalities.paths import existing_path, is_about, regular, some, walk

FileKind = Literal["bvh", "deepmimic", "states"]
TEST_NAMES = ("test", "valid", "validation", "val", "dev")
METADATA = ("metadata.jsonl", "metadata.csv")
LARGEST_METADATA = 1 << 26  # bytes
_ACTION, _TEXT = ("action", "label", "class"), ("text", "caption")
_MOTION = re.compile(rb'"(Frames|Loop)"\s*:')
_CHARACTER = re.compile(rb'"(Skeleton|Joints)"\s*:')


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A file with motions."""

    name: str
    action: str | None = None
    text: str | None = None
    test: bool = False


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The files under a root, in the order of their names.

    Args:
        kind: of the files.
        characters: files of skeletons, for the JSON of DeepMimic.
        described_by: where actions and texts come from, in words; empty if there are none.
        remarks: sentences on what is not read.
    """

    root: Path
    kind: FileKind
    entries: tuple[Entry, ...]
    characters: tuple[str, ...] = ()
    described_by: str = ""
    remarks: tuple[str, ...] = ()


@dataclass(kw_only=True)
class _Found:
    bvh: list[str] = field(default_factory=list)
    deepmimic: list[str] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    characters: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)


def sort_files(root: Path, names: list[str]) -> _Found:
    """Which files are what, by names and first bytes."""
    found = _Found()
    for name in names:
        suffix = PurePosixPath(name).suffix.lower()
        if PurePosixPath(name).name.lower() in METADATA or is_about(name):
            continue
        if suffix == ".bvh":
            found.bvh.append(name)
        elif suffix in (".json", ".txt"):
            head = _head(root / name)
            json_like = head.lstrip().startswith(b"{")
            if json_like and _MOTION.search(head):
                found.deepmimic.append(name)
            elif json_like and _CHARACTER.search(head):
                found.characters.append(name)
            else:
                found.other.append(name)
        elif (suffix == ".csv" and _looks_like_states(_head(root / name))) or (
            suffix == ".npz" and regular(root / name)
        ):
            found.states.append(name)
        else:
            found.other.append(name)
    return found


def _head(path: Path) -> bytes:
    if not regular(path):
        return b""
    try:
        with opened(path) as file:
            return file.read(4096)
    except OSError:
        return b""


def _looks_like_states(head: bytes) -> bool:
    """Whether a CSV begins with numbers, or with a heading that starts with a time, and numbers."""
    lines = head.decode("utf-8-sig", "replace").splitlines()[:2]
    if not lines:
        return False
    cells = [cell.strip() for cell in lines[-1].split(",")]
    first = lines[0].split(",")[0].strip().strip('"').lower()
    timed = first in ("time", "t", "seconds") or not any(c.isalpha() and c not in "eE" for c in lines[0])
    return timed and all(re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?|nan|[-+]?inf", c, re.IGNORECASE) for c in cells)


def detect(path: Path) -> tuple[float, str] | None:
    """(fraction of the files that hold motion or describe it, evidence in words), or None without motion."""
    if regular(path):
        suffix = path.suffix.lower()
        if suffix == ".bvh":
            return 1.0, "a BVH file"
        return (1.0, "an archive of trajectories") if suffix == ".npz" and holds_trajectories(path) else None
    if not is_folder(path):
        return None
    names = [name for name in walk(path) if not is_about(name)]
    found = sort_files(path, names)
    kinds: list[tuple[str, list[str]]] = [
        ("BVH files", found.bvh), ("motions as JSON", found.deepmimic), ("files of states", found.states),
    ]  # fmt: skip
    what, most = max(kinds, key=lambda pair: len(pair[1]))
    if not most:
        return None
    own = len(most) + (len(found.characters) if what == "motions as JSON" else 0)
    described = sum(PurePosixPath(name).name.lower() in METADATA for name in names)
    others = len(names) - own - described
    rest = f" and {others:,} other {'file' if others == 1 else 'files'}" if others else ""
    return own / max(1, own + others), f"{len(most):,} {what}{rest}"


def find(path: str, *, only: str = "", pattern: str = "") -> Listing:
    """The motions at a path.

    Args:
        only: a pattern of shells for the names of files that are used; empty for all.
        pattern: a regular expression for file names without suffix, whose first group is the action; empty for none.

    Raises:
        ValueError: no such path, nothing in it, or metadata that cannot be read."""
    root = existing_path(path, "file or folder")
    if not is_folder(root):
        folder, every = root.parent, [root.name]
    else:
        folder, every = root, walk(root)
    found = sort_files(folder, every)
    kind, names, rest = _most(found)
    if not names:
        raise ValueError(
            f"{root} holds no motion: looked for .bvh, .csv and .npz files and the JSON of DeepMimic, and found "
            f"{some(every) or 'no files'}"
        )
    chosen = [n for n in names if not only or fnmatch(n, only) or fnmatch(PurePosixPath(n).name, only)]
    if not chosen:
        raise ValueError(f"{root}: data.only='{only}' matches none of {len(names):,} files, such as {some(names)}")
    remarks = [f"Files that are not read: {len(rest):,} ({some(rest)})."] if rest else []
    if len(chosen) < len(names):
        remarks.append(f"Files that data.only leaves out: {len(names) - len(chosen):,}.")
    parts = _parts(chosen)
    used = [n for n in chosen if not parts or _top(n) in parts]
    if beside := [n for n in chosen if n not in used]:
        remarks.append(f"Files beside train/ and the test part, not used: {len(beside):,} ({some(beside)}).")
    said, source, more = _described(folder, used, set(every), pattern)
    entries = tuple(
        Entry(
            name=name, action=said.get(name, (None, None))[0], text=said.get(name, (None, None))[1],
            test=bool(parts) and _top(name) != "train",
        )
        for name in used
    )  # fmt: skip
    return Listing(
        root=folder, kind=kind, entries=entries, characters=tuple(found.characters), described_by=source,
        remarks=(*remarks, *more),
    )  # fmt: skip


def _most(found: _Found) -> tuple[FileKind, list[str], list[str]]:
    """The kind of which there are most files, these, and the others."""
    kinds: list[tuple[FileKind, list[str]]] = [
        ("bvh", found.bvh), ("deepmimic", found.deepmimic), ("states", found.states),
    ]  # fmt: skip
    kind, names = max(kinds, key=lambda pair: len(pair[1]))
    rest = [name for other, held in kinds if other != kind for name in held] + found.other
    return kind, names, sorted(rest if kind == "deepmimic" else [*rest, *found.characters])


def _top(name: str) -> str:
    return name.partition("/")[0].lower()


def _parts(names: list[str]) -> set[str]:
    """The directories of the training and the test part, in small letters; empty where there are not both."""
    found = {_top(name) for name in names if "/" in name} & {"train", *TEST_NAMES}
    return found if "train" in found and len(found) > 1 else set()


# ---------------------------------------------------------------------------------------------------- what is said

_Said = dict[str, tuple[str | None, str | None]]  # (action, text) by file name


def _described(root: Path, names: list[str], every: set[str], pattern: str) -> tuple[_Said, str, list[str]]:
    """Actions and texts, where they come from, and remarks."""
    files = [name for name in sorted(every) if PurePosixPath(name).name.lower() in METADATA]
    if files:
        said, remarks = dict[str, tuple[str | None, str | None]](), list[str]()
        for name in files:
            for line, record in _records(root / name):
                _add(record, str(PurePosixPath(name).parent), set(names), said, remarks, f"{name}, line {line}")
        missing = [name for name in names if name not in said]
        if missing:
            remarks.append(f"Motions that {files[0]} does not name: {len(missing):,} ({some(missing)}).")
        return said, " and ".join(files), remarks
    if pattern:
        return {n: (_matched(pattern, n), None) for n in names}, f"the pattern {pattern}", []
    cut = bool(_parts(names))
    inside = {n: (n.partition("/")[2] if cut else n).rpartition("/")[0] for n in names}
    if all(inside.values()) and len(set(inside.values())) > 1:
        return {name: (PurePosixPath(folder).parts[0], None) for name, folder in inside.items()}, "directories", []
    stems = {name: PurePosixPath(name).stem for name in names}
    found = named_actions(list(stems.values()))
    if found:
        return {name: (found[stem], None) for name, stem in stems.items()}, "file names", []
    return {}, "", []


def _matched(pattern: str, name: str) -> str | None:
    match = re.search(pattern, PurePosixPath(name).stem)
    return None if match is None else match[1] if match.re.groups else match[0]


def named_actions(stems: list[str]) -> dict[str, str]:
    """An action for each file name: what is left without the beginning that all share, and numbers at the end.

    Empty if this tells none apart, or nearly all."""
    cut = "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(min(stems), max(stems), strict=False)))
    cut = cut[: max(cut.rfind("_"), cut.rfind("-"), cut.rfind(" ")) + 1]
    found = {stem: re.sub(r"[-_ ]*\d+$", "", stem.removeprefix(cut)) or stem.removeprefix(cut) for stem in stems}
    words = Counter(found.values())
    plain = all(any(c.isalpha() for c in word) for word in words)
    return found if plain and 2 <= len(words) <= 0.9 * len(stems) else {}


def _records(path: Path) -> list[tuple[int, Any]]:
    """(line, record) of a file of metadata. Raises `ValueError` for one that cannot be read."""
    if not regular(path) or size_of(path) > LARGEST_METADATA:
        raise ValueError(f"{path} is no regular file of less than 64 MB: move it away")
    try:
        text = text_of(path)
        if path.suffix == ".jsonl":
            return [(i, json.loads(line)) for i, line in enumerate(text.splitlines(), 1) if line.strip()]
        reader = csv.DictReader(text.splitlines())
        return [(reader.line_num, record) for record in reader]
    except (OSError, ValueError, csv.Error, RecursionError) as error:
        raise ValueError(f"{path} cannot be read: {error}; correct it, or move it away") from error


def _add(record: Any, folder: str, names: set[str], said: _Said, remarks: list[str], where: str) -> None:
    if not isinstance(record, dict) or not isinstance(record.get("file_name"), str):
        raise ValueError(f"{where}: a record needs `file_name`, with `action` or `text`; got {str(record)[:80]}")
    name = os.path.normpath(os.path.join(folder, record["file_name"])).replace("\\", "/")

    def of(columns: tuple[str, ...]) -> str | None:
        value = next((record[column] for column in columns if record.get(column)), None)
        return None if value is None else " ".join(str(value).split())

    if name in names:
        said[name] = (of(_ACTION), of(_TEXT))
    else:
        remarks.append(f"{where} describes {record['file_name']}, which is not there or not used.")
