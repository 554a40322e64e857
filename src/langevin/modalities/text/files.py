"""Selects the text files of a folder and assigns them to its own training and held-out parts."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from langevin.modalities.content import size_of
from langevin.modalities.paths import is_about, regular, some, walk

PLAIN = (".txt", ".text", ".md", ".markdown", ".rst", ".org", ".adoc", ".tex")
JSONL = (".jsonl", ".ndjson")
PARQUET = (".parquet",)
RECORDS = (*JSONL, *PARQUET)
TRAIN = ("train", "training")
HELD_OUT = ("valid", "validation", "val", "dev", "trial", "test", "held_out", "heldout")  # by preference


@dataclass(frozen=True, kw_only=True)
class Files:
    """The files to read, sorted; `held_out` is empty if the folder has no such part, `remarks` says what is not read."""

    train: tuple[Path, ...]
    held_out: tuple[Path, ...] = ()
    remarks: tuple[str, ...] = ()


def suffix(name: str) -> str:
    """Suffix of a file's name in lower case, with its dot."""
    return PurePosixPath(name).suffix.lower()


def choose(root: Path, *, within: str = "") -> Files:
    """Select the files of a folder: plain texts or records, whichever have more bytes, by the folder's own parts.

    Raises:
        ValueError: the folder has no text."""
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
            f"{some(every) or 'no files'}. Choose other files by data.glob, such as '*.log'"
        )
    more = _size(root, records) >= _size(root, plain) if plain and records else bool(records)
    chosen, other = (records, plain) if more else (plain, records)
    train, held_out, left = own_parts(chosen)
    unread: list[str] = sorted([*left, *other, *(about if about != chosen else [])])
    remarks = (f"Files that are not read: {len(unread):,} ({some(unread)}).",) if unread else ()
    return Files(
        train=tuple(root / name for name in train), held_out=tuple(root / name for name in held_out), remarks=remarks
    )


def own_parts(names: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Names of the training files, of the held-out files (empty: there are no parts), and of the rest.

    A part is a directory (`train/`, `valid/`), or a word at the beginning or end of names that are otherwise the same
    (`sick_train.jsonl`, `sick_trial.jsonl`), apart from shard numbers (`train-00000-of-00002.parquet`). Of several
    held-out parts the validation part is taken, so that a test part stays unseen.
    """
    words: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))  # common name -> part -> names
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
    """A name with its part replaced by `*`, and that part; None if it has none."""
    path = PurePosixPath(name)
    folders = [folder.lower() for folder in path.parts[:-1]]
    for i, folder in enumerate(folders):
        if folder in (*TRAIN, *HELD_OUT):
            return "/".join([*folders[:i], "*"]), folder
    stem = re.sub(r"[-_.]?\d+([-_.]of[-_.]\d+)?$", "", path.stem.lower())
    for part in sorted((*TRAIN, *HELD_OUT), key=len, reverse=True):
        for pattern in (rf"^{part}(?![a-z])", rf"(?<![a-z]){part}$"):
            common, count = re.subn(pattern, "*", stem)
            if count:
                return "/".join([*folders, common + path.suffix.lower()]), part
    return name, None


def _size(root: Path, names: Iterable[str]) -> int:
    return sum(size_of(root / name) for name in names if regular(root / name))
