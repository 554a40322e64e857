"""Where text comes from, as a frozen configuration, and whether a path holds text at all."""

import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from langevin.modalities.paths import existing_path
from langevin.modalities.text.fields import guess_fields
from langevin.modalities.text.files import JSONL, PARQUET, PLAIN, RECORDS, Files, choose, is_about, suffix, walk
from langevin.modalities.text.reader import Raw, Unreadable, decoded, has_text, read_records

_LOOKED_AT = 200  # records whose fields are looked at
_SAMPLED = 8  # files whose content is looked at
_HEAD = 1 << 14  # bytes of a file looked at
_TABLES = {
    ".json": "one JSON document",
    ".csv": "a table",
    ".tsv": "a table",
    ".xlsx": "a workbook",
    ".gz": "an archive",
    ".zip": "an archive",
    ".zst": "an archive",
    ".xz": "an archive",
    ".tar": "an archive",
}


@dataclass(frozen=True, kw_only=True)
class TextSource:
    """A text file (one document), JSON lines or Parquet (a record a line or row), or a folder of either.

    Directories `train/` and `valid/` (`validation/`, `val/`, `dev/`, `trial/`, `test/`), or files so called
    (`train.jsonl`, `sick_trial.jsonl`), are the parts. Raises `ValueError` for values out of range.

    Args:
        path: of the file, or of the folder, which is searched with all its sub-directories.
        fields: of a record, which are read; empty: guessed, see `guess_fields`.
        within: of a folder, which files are read, as '*.log'; empty: those with the suffix of a text.
    """

    kind: Literal["text"] = "text"
    path: str
    fields: tuple[str, ...] = ()
    within: str = ""

    def __post_init__(self) -> None:
        if not self.path:
            raise ValueError("text: path is empty; name a file or a folder of text")
        if len(set(self.fields)) < len(self.fields) or "" in self.fields:
            raise ValueError(f"text: fields are different names of a record's fields, got {self.fields}")


def find(source: TextSource) -> Files:
    """The files that are there to read.

    Raises:
        ValueError: there is no such path, no text in it, or a kind of file that is not read."""
    path = existing_path(source.path, "file or folder")
    if path.is_dir():
        return choose(path, within=source.within)
    if source.within:
        raise ValueError(f"text: `within` chooses among the files of a folder, and {path} is a file; leave it out")
    if what := _TABLES.get(suffix(path.name)):
        advice = (
            "unpack it" if "archive" in what else 'write a record a line as JSON, {"text": ...}, into a .jsonl file'
        )
        raise ValueError(f"{path} is {what}, which is not read: {advice}")
    return Files(train=(path,))


def guess(path: str | Path, *, within: str = "") -> TextSource:
    """The source at a path, with the fields that are read named.

    Raises:
        ValueError: no text is there."""
    source = TextSource(path=str(path), within=within)
    return TextSource(path=source.path, within=within, fields=fields_of(find(source)))


def fields_of(files: Files) -> tuple[str, ...]:
    """The fields to read, from the first records of each part's first file that can be read; ("text",) of plain text.

    Raises:
        ValueError: no record, or no field of text."""
    if suffix(files.train[0].name) not in RECORDS:
        return ("text",)
    wanted: list[tuple[str, ...]] = []
    for part in filter(None, (files.train, files.held_out)):
        records, where = _first_records(part)
        try:
            wanted.append(guess_fields(records))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
    shared = tuple(name for name in wanted[0] if all(name in names for names in wanted))
    return shared or wanted[0]


def _first_records(paths: Iterable[Path]) -> tuple[list[Raw], Path]:
    paths = list(paths)
    for path in paths:
        try:
            read = itertools.islice(read_records(path, tell=lambda _: None), _LOOKED_AT)
            records = [record for record in read if not isinstance(record, tuple)]
        except Unreadable as error:
            if len(paths) == 1:
                raise ValueError(str(error)) from error
            continue
        if records:
            return records, path
    raise ValueError(
        f"{paths[0]}{' and others' if len(paths) > 1 else ''}: no record can be read; see that it is JSON lines"
    )


def looks_like_text(path: str | Path) -> bool:
    """Whether a file or folder is text to be learned: most files are, none of the others are pictures, and what is
    sampled of them reads as words or records, not as numbers."""
    root = Path(path).expanduser()
    if root.is_file():
        return _is_text(root)
    if not root.is_dir():
        return False
    every = [name for name in walk(root) if not is_about(name)]
    texts = [name for name in every if suffix(name) in (*PLAIN, *RECORDS)]
    if not texts or len(texts) <= 2 * (len(every) - len(texts)):
        return False
    step = -(-len(texts) // _SAMPLED)
    sample = [_is_text(root / name) for name in texts[::step]]
    return 2 * sum(sample) > len(sample)


def _is_text(path: Path) -> bool:
    kind = suffix(path.name)
    try:
        if kind in PARQUET:
            return has_text(path)
        with path.open("rb") as file:
            head = file.read(_HEAD)
            if kind in JSONL:
                record = json.loads(head.splitlines()[0] if b"\n" in head else head + file.readline())
                return isinstance(record, dict) and bool(guess_fields([record])) and "file_name" not in record
        text = decoded(head if len(head) < _HEAD else _whole(head), str(path))
    except (OSError, ValueError, IndexError, RecursionError):
        return False
    marks = [c for c in text if not c.isspace()]
    return sum(c.isalpha() for c in marks) > 0.5 * len(marks) > 0


def _whole(head: bytes) -> bytes:
    """Without the character that is cut at the end."""
    for back in range(1, 4):
        if head[-back] >= 0xC0:
            return head[:-back]
    return head
