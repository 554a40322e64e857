"""Which files of a folder are text, and which of them are the folder's own training and held-out parts."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from langevin.modalities.paths import some

PLAIN = (".txt", ".text", ".md", ".markdown", ".rst", ".org", ".adoc", ".tex")
JSONL = (".jsonl", ".ndjson")
PARQUET = (".parquet",)
RECORDS = (*JSONL, *PARQUET)
ABOUT = (
    "readme",
    "license",
    "licence",
    "copying",
    "notice",
    "changelog",
    "authors",
    "citation",
)  # files about the others
TRAIN = ("train", "training")
HELD_OUT = ("valid", "validation", "val", "dev", "trial", "test", "held_out", "heldout")  # the first that is there


@dataclass(frozen=True, kw_only=True)
class Files:
    """The files to read, sorted: for training, and the held-out part's own where there are; and what was left out."""

    train: tuple[Path, ...]
    held_out: tuple[Path, ...] = ()
    remarks: tuple[str, ...] = ()


def walk(root: Path) -> list[str]:
    """Every file under `root` that is not hidden, by relative path, sorted; links followed.

    Raises:
        ValueError: a directory that may not be listed."""
    found: list[str] = []
    seen: set[str] = set()

    def closed(error: OSError) -> None:
        raise ValueError(f"{error.filename} cannot be listed: {error.strerror}; check its rights, or move it away")

    for folder, below, files in os.walk(root, onerror=closed, followlinks=True):
        real = os.path.realpath(folder)
        below[:] = [] if real in seen else sorted(name for name in below if not name.startswith("."))
        if real not in seen:
            found += [Path(folder, n).relative_to(root).as_posix() for n in files if not n.startswith(".")]
        seen.add(real)
    return sorted(found)


def suffix(name: str) -> str:
    """Of a file's name, in lower case, with its dot."""
    return PurePosixPath(name).suffix.lower()


def is_about(name: str) -> bool:
    """A README, a licence and the like."""
    return PurePosixPath(name).name.lower().startswith(ABOUT)


def choose(root: Path, *, within: str = "") -> Files:
    """The files of a folder that are read: plain texts or records, whichever are more bytes, in their own parts.

    Raises:
        ValueError: none is there."""
    every = walk(root)
    named = [name for name in every if not within or fnmatch(name, within) or fnmatch(PurePosixPath(name).name, within)]
    if within and not named:
        raise ValueError(f"{root} holds no file like {within!r}; it holds {some(every) or 'no files'}")
    plain = [name for name in named if suffix(name) in PLAIN or (within and suffix(name) not in RECORDS)]
    records = [name for name in named if suffix(name) in RECORDS]
    about = [name for name in plain if is_about(name)]
    plain = [name for name in plain if name not in about] or ([] if records else about)
    if not plain and not records:
        raise ValueError(
            f"{root} holds no text: looked for {' '.join((*PLAIN, *RECORDS))} in it and its sub-directories, and found "
            f"{some(every) or 'no files'}. Give other names by `within`, as '*.log'"
        )
    chosen, other = (records, plain) if _size(root, records) >= _size(root, plain) else (plain, records)
    train, held_out, left = own_parts(chosen)
    unread: list[str] = sorted([*left, *other, *(about if about != chosen else [])])
    remarks = (f"Files that are not read: {len(unread):,} ({some(unread)}).",) if unread else ()
    return Files(
        train=tuple(root / name for name in train), held_out=tuple(root / name for name in held_out), remarks=remarks
    )


def own_parts(names: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Names of the training files, of the held-out files (empty: no such parts), and those of neither.

    A part is a directory (`train/`, `valid/`), or a word at an end of names that are otherwise the same
    (`sick_train.jsonl`, `sick_trial.jsonl`), whatever the numbers in them (`train-00000-of-00002.parquet`). Of several
    held-out parts the validation part is taken, so that a test part stays unseen.
    """
    words: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))  # what is common -> part -> names
    for name in names:
        common, part = _part(name)
        if part:
            words[common][part].append(name)
    train: list[str] = []
    held_out: list[str] = []
    for parts in words.values():
        first = next((part for part in HELD_OUT if part in parts), None)
        if first and any(part in parts for part in TRAIN):
            train += [name for part in TRAIN for name in parts.get(part, [])]
            held_out += parts[first]
    if not train:
        return list(names), [], []
    return sorted(train), sorted(held_out), sorted(set(names) - {*train, *held_out})


def _part(name: str) -> tuple[str, str | None]:
    """What of a name is common to all parts, and its part."""
    path = PurePosixPath(name)
    folders = [folder.lower() for folder in path.parts[:-1]]
    for place, folder in enumerate(folders):
        if folder in (*TRAIN, *HELD_OUT):
            return "/".join([*folders[:place], "*"]), folder
    stem = re.sub(r"[-_.]?\d+([-_.]of[-_.]\d+)?$", "", path.stem.lower())
    for part in sorted((*TRAIN, *HELD_OUT), key=len, reverse=True):
        for pattern in (rf"^{part}(?![a-z])", rf"(?<![a-z]){part}$"):
            common, found = re.subn(pattern, "*", stem)
            if found:
                return "/".join([*folders, common + path.suffix.lower()]), part
    return name, None


def _size(root: Path, names: Iterable[str]) -> int:
    return sum((root / name).stat().st_size for name in names)
