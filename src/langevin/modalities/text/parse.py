"""Parses plain text, JSON lines and Parquet into records; what is broken is reported by file and line or byte."""

import codecs
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from langevin.extras import require
from langevin.modalities.text.files import JSONL, PARQUET, suffix

Raw = Mapping[str, Any]
Broken = tuple[str, str]  # (location, reason)
OnBytes = Callable[[int], None]  # gets the bytes read since its last call
_OTHERS = {  # first bytes of other formats that occur under a text's suffix
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a ZIP archive or office document",
    b"\x1f\x8b": "a gzip archive: unpack it",
    b"\x28\xb5\x2f\xfd": "a zstd archive: unpack it",
    b"PAR1": "Parquet: name it .parquet",
    b"version https://git-lfs": "a Git LFS pointer: run `git lfs pull` to get the text",
}


class Unreadable(ValueError):
    """A file or line that is not text; `reason` is the message without the location."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where} {reason}")
        self.where, self.reason = where, reason


def read_records(path: Path, *, on_bytes: OnBytes, columns: tuple[str, ...] = ()) -> Iterator[Raw | Broken]:
    """The records of one file in order, and (location, reason) for a line that is not one.

    Raises:
        Unreadable: the whole file is not text."""
    if suffix(path.name) in JSONL:
        yield from _lines(path, on_bytes)
    elif suffix(path.name) in PARQUET:
        yield from _rows(path, on_bytes, columns)
    else:
        text, _ = read_plain(path)
        on_bytes(path.stat().st_size)
        yield {"text": text}


def read_plain(path: Path) -> tuple[str, bool]:
    r"""(text, whether it had \r): a whole file, without a byte order mark and with \n for \r\n and \r.

    Raises:
        Unreadable: not UTF-8 (the message names the byte), or another format."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Unreadable(str(path), f"cannot be read: {error.strerror or error}; check its permissions") from error
    text = decoded(content, str(path))
    if "\r" not in text:
        return text, False
    return text.replace("\r\n", "\n").replace("\r", "\n"), True


def decoded(content: bytes, where: str) -> str:
    """UTF-8 bytes as text, without a byte order mark. Raises `Unreadable` with the first invalid byte."""
    for start, name in _OTHERS.items():
        if content.startswith(start):
            raise Unreadable(where, f"is not text: it is {name}")
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise Unreadable(where, "is UTF-16 text; save it as UTF-8")
    mark = len(codecs.BOM_UTF8) if content.startswith(codecs.BOM_UTF8) else 0
    if (position := content.find(b"\0")) >= 0:
        raise Unreadable(where, f"is not text: byte {position:,} is zero")
    try:
        return content[mark:].decode()
    except UnicodeDecodeError as error:
        position = error.start + mark
        raise Unreadable(
            where,
            f"is not UTF-8 text: byte {position:,} is 0x{content[position]:02x}; save it as UTF-8 (as Windows-1252 it "
            f"would read {_around(content, position)!r})",
        ) from error


def _around(content: bytes, position: int) -> str:
    return content[max(0, position - 12) : position + 12].decode("cp1252", "replace")


def _lines(path: Path, on_bytes: OnBytes) -> Iterator[Raw | Broken]:
    """JSON objects, one per line; empty lines are skipped."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                on_bytes(len(line))
                where = f"{path}, line {number:,}"
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                if not line.strip():
                    continue
                try:
                    record = json.loads(decoded(line, where))
                except Unreadable as error:
                    if number == 1 and "UTF-8 text" not in error.reason:
                        raise Unreadable(str(path), error.reason) from error
                    yield where, error.reason
                except json.JSONDecodeError as error:
                    yield where, f"is not JSON: {error.msg} at column {error.colno:,}"
                except RecursionError:
                    yield where, "is not JSON that can be read: it is nested too deeply"
                else:
                    yield record if isinstance(record, dict) else (where, 'is no JSON object, as {"text": ...}')
    except OSError as error:
        raise Unreadable(str(path), f"cannot be read: {error.strerror or error}; check its permissions") from error


def _rows(path: Path, on_bytes: OnBytes, columns: tuple[str, ...]) -> Iterator[Raw]:
    """The rows of a Parquet file's text columns (or of `columns`), with class names for class indices where it has them."""
    reader = parquet()
    try:
        with reader.ParquetFile(path) as opened:
            schema = opened.schema_arrow
            chosen = [name for name in (columns or text_columns(schema)) if name in schema.names]
            names = {name: _class_names(schema.metadata, name) for name in chosen}
            bytes_per_row = path.stat().st_size / max(1, opened.metadata.num_rows)
            for batch in opened.iter_batches(batch_size=1024, columns=chosen):
                on_bytes(round(bytes_per_row * batch.num_rows))
                for row in batch.to_pylist():
                    yield {name: _named(value, names[name]) for name, value in row.items()}
    except (OSError, ValueError) as error:
        if isinstance(error, Unreadable):
            raise
        raise Unreadable(str(path), f"cannot be read as Parquet: {str(error).strip().splitlines()[0]}") from error


def text_columns(schema: Any) -> list[str]:
    """Names of the columns of strings, lists (of strings or turns) and integers; not of bytes or floats."""
    return [
        column.name
        for column in schema
        if not any(word in str(column.type) for word in ("binary", "float", "double", "timestamp"))
    ]


def has_text(path: Path) -> bool:
    """Whether a Parquet file has a column of strings and none of bytes."""
    try:
        with parquet().ParquetFile(path) as opened:
            kinds = [str(column.type) for column in opened.schema_arrow]
    except (OSError, ValueError):
        return False
    return any("string" in kind for kind in kinds) and not any("binary" in kind for kind in kinds)


def _class_names(metadata: dict[bytes, bytes] | None, column: str) -> list[str] | None:
    """Class names that the `datasets` library stored in the schema, or None."""
    try:
        names = json.loads((metadata or {})[b"huggingface"])["info"]["features"][column]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return [str(name) for name in names] if isinstance(names, list) else None


def _named(value: Any, names: list[str] | None) -> Any:
    return names[value] if names and isinstance(value, int) and 0 <= value < len(names) else value


def parquet() -> ModuleType:
    """pyarrow's Parquet reader. Raises `ValueError` if it is not installed."""
    return require("pyarrow.parquet", "Parquet")
