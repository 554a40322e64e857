"""Files as records: plain text, JSON lines, Parquet; what is broken is told, by file and line or byte."""

import codecs
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from langevin.modalities.text.files import JSONL, PARQUET, suffix

Raw = Mapping[str, Any]
Broken = tuple[str, str]  # where, and what is wrong there
Tell = Callable[[int], None]  # how many bytes were read since
_OTHERS = {  # of what is found under a text's name
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a ZIP archive or office document",
    b"\x1f\x8b": "a gzip archive: unpack it",
    b"\x28\xb5\x2f\xfd": "a zstd archive: unpack it",
    b"PAR1": "Parquet: name it .parquet",
    b"version https://git-lfs": "a Git LFS pointer: run `git lfs pull` to get the text",
}


class Unreadable(ValueError):
    """A file, or a line of it, that is no text; `reason` says why without the name."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where} {reason}")
        self.where, self.reason = where, reason


def read_records(path: Path, *, tell: Tell, columns: tuple[str, ...] = ()) -> Iterator[Raw | Broken]:
    """The records of one file in order, and (where, reason) for a line that is none.

    Raises:
        Unreadable: the file as a whole is no text."""
    if suffix(path.name) in JSONL:
        yield from _lines(path, tell)
    elif suffix(path.name) in PARQUET:
        yield from _rows(path, tell, columns)
    else:
        text, _ = read_plain(path)
        tell(path.stat().st_size)
        yield {"text": text}


def read_plain(path: Path) -> tuple[str, bool]:
    r"""A whole file as text, without a byte order mark and with \n for \r\n and \r; and whether it had those.

    Raises:
        Unreadable: not UTF-8, with the byte; or no text at all."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Unreadable(str(path), f"cannot be read: {error.strerror or error}; check its rights") from error
    text = decoded(content, str(path))
    if "\r" not in text:
        return text, False
    return text.replace("\r\n", "\n").replace("\r", "\n"), True


def decoded(content: bytes, where: str) -> str:
    """UTF-8 bytes as text, a byte order mark left out. Raises `Unreadable` with the first byte that is wrong."""
    for start, name in _OTHERS.items():
        if content.startswith(start):
            raise Unreadable(where, f"is not text: it is {name}")
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise Unreadable(where, "is UTF-16 text; save it as UTF-8")
    mark = len(codecs.BOM_UTF8) if content.startswith(codecs.BOM_UTF8) else 0
    if (place := content.find(b"\0")) >= 0:
        raise Unreadable(where, f"is not text: byte {place:,} is zero")
    try:
        return content[mark:].decode()
    except UnicodeDecodeError as error:
        place = error.start + mark
        raise Unreadable(
            where,
            f"is not UTF-8 text: byte {place:,} is 0x{content[place]:02x}; save it as UTF-8 (as Windows-1252 it would "
            f"read {_around(content, place)!r})",
        ) from error


def _around(content: bytes, place: int) -> str:
    return content[max(0, place - 12) : place + 12].decode("cp1252", "replace")


def _lines(path: Path, tell: Tell) -> Iterator[Raw | Broken]:
    """JSON objects, one a line; empty lines are passed over."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                tell(len(line))
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
        raise Unreadable(str(path), f"cannot be read: {error.strerror or error}; check its rights") from error


def _rows(path: Path, tell: Tell, columns: tuple[str, ...]) -> Iterator[Raw]:
    """The rows of the text columns of a Parquet file (or of `columns`), class numbers as their names where known."""
    reader = parquet()
    try:
        with reader.ParquetFile(path) as opened:
            schema = opened.schema_arrow
            wanted = [name for name in (columns or text_columns(schema)) if name in schema.names]
            names = {name: _class_names(schema.metadata, name) for name in wanted}
            share = path.stat().st_size / max(1, opened.metadata.num_rows)
            for batch in opened.iter_batches(batch_size=1024, columns=wanted):
                tell(round(share * batch.num_rows))
                for row in batch.to_pylist():
                    yield {name: _named(value, names[name]) for name, value in row.items()}
    except (OSError, ValueError) as error:
        if isinstance(error, Unreadable):
            raise
        raise Unreadable(str(path), f"cannot be read as Parquet: {str(error).strip().splitlines()[0]}") from error


def text_columns(schema: Any) -> list[str]:
    """Names of columns of strings, of lists (of strings, or of turns) and of whole numbers; not of bytes."""
    return [
        column.name
        for column in schema
        if not any(word in str(column.type) for word in ("binary", "float", "double", "timestamp"))
    ]


def has_text(path: Path) -> bool:
    """Whether a Parquet file is of text: a column of strings, and none of bytes."""
    try:
        with parquet().ParquetFile(path) as opened:
            kinds = [str(column.type) for column in opened.schema_arrow]
    except (OSError, ValueError):
        return False
    return any("string" in kind for kind in kinds) and not any("binary" in kind for kind in kinds)


def _class_names(metadata: dict[bytes, bytes] | None, column: str) -> list[str] | None:
    """Class names that the `datasets` library left in the schema, or None."""
    try:
        names = json.loads((metadata or {})[b"huggingface"])["info"]["features"][column]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return [str(name) for name in names] if isinstance(names, list) else None


def _named(value: Any, names: list[str] | None) -> Any:
    return names[value] if names and isinstance(value, int) and 0 <= value < len(names) else value


def parquet() -> ModuleType:
    """pyarrow's Parquet reader. Raises `ValueError` where it is not installed."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError("Parquet needs pyarrow, which is not installed: pip install 'langevin[data]'") from error
    return pyarrow.parquet
