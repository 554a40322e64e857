"""The source of a text dataset as a frozen configuration, and detection of text at a path."""

import codecs
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from langevin.modalities.content import is_folder, opened
from langevin.modalities.paths import companions, existing_path, is_about, regular, walk
from langevin.modalities.text.fields import guess_fields
from langevin.modalities.text.files import JSONL, PARQUET, PLAIN, RECORDS, Files, choose, suffix
from langevin.modalities.text.parse import (
    PARQUET_ERRORS,
    Raw,
    Unreadable,
    decoded,
    has_text,
    read_records,
)

_LOOKED_AT = 200  # records that fields are guessed from
_SAMPLED = 8  # files that are sampled to detect text
_HEAD = 1 << 14  # bytes read of such a file
_LONGEST_LINE = 1 << 28  # bytes of a first line of records
_TABLES = {
    ".json": "one JSON document",
    ".csv": "a table",
    ".tsv": "a table",
    ".xlsx": "a workbook",
    ".gz": "an archive",
    ".zip": "an archive",
    ".zst": "an archive",
    ".xz": "an archive",
}


@dataclass(frozen=True, kw_only=True)
class TextSource:
    """A text file (one document), JSON lines or Parquet (one record per line or row), or a folder of these.

    Directories `train/` and `valid/` (`validation/`, `val/`, `dev/`, `trial/`, `test/`), or files of these
    names (`train.jsonl`, `sick_trial.jsonl`), are the parts. Raises `ValueError` for values out of range.

    Args:
        path: a file, or a folder, which is searched with all its sub-directories.
        fields: names of the record fields to read; empty: guessed by `guess_fields`.
        within: a glob for the files of a folder, such as '*.log'; empty: files with the suffix of a text.
    """

    kind: Literal["text"] = "text"
    path: str
    fields: tuple[str, ...] = ()
    within: str = ""

    def __post_init__(self) -> None:
        if not self.path:
            raise ValueError("text: path is empty; name a file or a folder of text")
        if len(set(self.fields)) < len(self.fields) or "" in self.fields:
            raise ValueError(f"text: fields must be distinct names of a record's fields, got {self.fields}")


def find(source: TextSource) -> Files:
    """The files to read.

    Raises:
        ValueError: no such path, no text in it, or an unsupported kind of file."""
    path = existing_path(source.path, "file or folder")
    if is_folder(path):
        return choose(path, within=source.within)
    if source.within:
        raise ValueError(f"text: data.glob chooses among the files of a folder, and {path} is a file; leave it out")
    if what := _TABLES.get(suffix(path.name)):
        advice = (
            "unpack it" if "archive" in what else 'write a record a line as JSON, {"text": ...}, into a .jsonl file'
        )
        raise ValueError(f"{path} is {what}, which is not read: {advice}")
    return Files(train=(path,))


def guess(path: str | Path, *, within: str = "") -> TextSource:
    """The source at a path, with its fields guessed.

    Raises:
        ValueError: no text."""
    source = TextSource(path=str(path), within=within)
    return TextSource(path=source.path, within=within, fields=fields_of(find(source)))


def fields_of(files: Files) -> tuple[str, ...]:
    """The fields to read, from the first records of each part's first file that can be read; ("text",) of plain text.

    Raises:
        ValueError: no record, or no field of text."""
    if suffix(files.train[0].name) not in RECORDS:
        return ("text",)
    guesses: list[tuple[str, ...]] = []
    for part in filter(None, (files.train, files.held_out)):
        records, where = _first_records(part)
        try:
            guesses.append(guess_fields(records))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
    shared = tuple(name for name in guesses[0] if all(name in guess for guess in guesses))
    return shared or guesses[0]


def _first_records(paths: Iterable[Path]) -> tuple[list[Raw], Path]:
    paths = list(paths)
    for path in paths:
        try:
            read = itertools.islice(read_records(path, on_bytes=lambda _: None), _LOOKED_AT)
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


def detect(path: Path) -> tuple[float, str] | None:
    """(fraction of the files that are text, reason), or None if the path is not a text dataset: more than half of the
    sampled files must be prose or records, not numbers. Files that describe others, as captions do, do not count. Where
    most files have the suffix of a text and none can be read, it is a text dataset too, whose reader says what is wrong."""
    if path.is_file() and not is_folder(path):
        told = _is_text(path)
        known = suffix(path.name) in (*PLAIN, *RECORDS)
        what = f"a text file, {path.suffix or 'without a suffix'}"
        return (1.0, what) if told or (told is None and known) else None
    if not is_folder(path):
        return None
    every = [name for name in walk(path) if not is_about(name)]
    described = companions(every)
    texts = [name for name in every if suffix(name) in (*PLAIN, *RECORDS) and name not in described]
    step = -(-len(texts) // _SAMPLED) or 1
    sample = [told for name in texts[::step] if (told := _is_text(path / name)) is not None]
    if 2 * sum(sample) <= len(sample) and (sample or 2 * len(texts) <= len(every)):
        return None
    others = len(every) - len(texts)
    rest = f" and {others:,} other {'file' if others == 1 else 'files'}" if others else ""
    return len(texts) / len(every), f"{len(texts):,} text {'file' if len(texts) == 1 else 'files'}{rest}"


def _is_text(path: Path) -> bool | None:
    """Whether a file holds prose or records; None if that cannot be told, as it cannot be opened."""
    kind = suffix(path.name)
    if not regular(path):
        return None
    try:
        if kind in PARQUET:
            return has_text(path)
        with opened(path) as file:
            head = file.read(_HEAD)
            if kind in JSONL:
                return _is_record(head if b"\n" in head else head + file.readline(_LONGEST_LINE))
        text = decoded(head if len(head) < _HEAD else _whole(head), str(path))
    except OSError:
        return None
    except PARQUET_ERRORS:
        return False
    visible = [c for c in text if not c.isspace()]
    return sum(c.isalpha() for c in visible) > 0.5 * len(visible) > 0


def _is_record(head: bytes) -> bool | None:
    """Whether the first line that is JSON is a record of text and not one about a file; None if no line is."""
    for line in head.removeprefix(codecs.BOM_UTF8).splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        try:
            return isinstance(record, dict) and bool(guess_fields([record])) and "file_name" not in record
        except ValueError:
            return False
    return None


def _whole(head: bytes) -> bytes:
    """The bytes without a UTF-8 character that is cut off at their end."""
    for back in range(1, 4):
        if head[-back] >= 0xC0:
            return head[:-back]
    return head
