"""Parses plain text, JSON lines and Parquet into records; what is broken is reported by file and line or byte."""

import codecs
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from langevin.extras import require
from langevin.modalities.content import content as content_of
from langevin.modalities.content import opened, size_of
from langevin.modalities.parquet_pages import BadPages, batches
from langevin.modalities.paths import regular
from langevin.modalities.text.files import JSONL, PARQUET, suffix
from langevin.modalities.text.ids import surrogates

# pyarrow's own are of these kinds too: ArrowKeyError, ArrowMemoryError, ArrowNotImplementedError (a RuntimeError), ...
PARQUET_ERRORS = (OSError, ValueError, TypeError, LookupError, MemoryError, ArithmeticError, RuntimeError)
Raw = Mapping[str, Any]
Broken = tuple[str, str]  # (location, reason)
OnBytes = Callable[[int], None]  # gets the bytes read since its last call
_LONGEST = 1 << 28  # bytes of a line
_TOGETHER = 64  # rows of Parquet decoded at a time, as a cell may hold megabytes
_UNPACKED, _EXPANSION = 1 << 30, 1000  # bytes that any file may unpack to, and how many times its size a larger one may
_NO_OBJECT = 'is no JSON object of named fields, as {"text": ...}'
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
    require_regular(path)
    if suffix(path.name) in JSONL:
        yield from _lines(path, on_bytes)
    elif suffix(path.name) in PARQUET:
        yield from _rows(path, on_bytes, columns)
    else:
        text, _ = read_plain(path)
        on_bytes(size_of(path))
        yield {"text": text}


def require_regular(path: Path) -> None:
    """Raises `Unreadable` for a link to nothing, and for a FIFO, a device or a link to one, which may never end."""
    if path.is_symlink() and not path.exists():
        raise Unreadable(str(path), f"is a link to {path.readlink()}, where nothing is: repair it, or take it out")
    if path.exists() and not regular(path):
        raise Unreadable(str(path), "is no regular file but a FIFO, a socket, a device or a folder: take it out")


def read_plain(path: Path) -> tuple[str, bool]:
    r"""(text, whether it had \r): a whole file, without a byte order mark and with \n for \r\n and \r.

    Raises:
        Unreadable: not UTF-8 (the message names the byte), or another format."""
    require_regular(path)
    try:
        content = content_of(path)
    except OSError as error:
        raise Unreadable(str(path), f"cannot be read: {error.strerror or error}; check its permissions") from error
    except MemoryError as error:
        raise Unreadable(str(path), f"does not fit into memory ({path.stat().st_size:,} bytes): split it") from error
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
        with opened(path) as file:
            for number, line in enumerate(iter(lambda: file.readline(_LONGEST + 1), b""), start=1):
                if len(line) > _LONGEST:
                    raise Unreadable(f"{path}, line {number:,}", f"is longer than {_LONGEST >> 20} MiB: split it")
                on_bytes(len(line))
                where = f"{path}, line {number:,}"
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                if not line.strip():
                    continue
                try:
                    record = json.loads(decoded(line, where))
                except Unreadable as error:
                    if number == 1 and ": byte" not in error.reason:  # a file of another format
                        raise Unreadable(str(path), error.reason) from error
                    yield where, error.reason
                except json.JSONDecodeError as error:
                    yield where, f"is not JSON: {error.msg} at column {error.colno:,}"
                except (ValueError, RecursionError) as error:
                    what = "nested too deeply" if isinstance(error, RecursionError) else "a number with too many digits"
                    yield where, f"is not JSON that can be read: it has {what}"
                else:
                    yield record if _is_object(record) else (where, _NO_OBJECT)
    except OSError as error:
        raise Unreadable(str(path), f"cannot be read: {error.strerror or error}; check its permissions") from error


def _is_object(record: Any) -> bool:
    """Whether it is a mapping from names that are Unicode."""
    return isinstance(record, dict) and not any(map(surrogates, record))


def _rows(path: Path, on_bytes: OnBytes, columns: tuple[str, ...]) -> Iterator[Raw]:
    """The rows of a Parquet file's text columns (or of `columns`), with class names for class indices where it has them."""
    reader = parquet()
    try:
        with reader.ParquetFile(path) as opened:
            schema = opened.schema_arrow
            chosen = [name for name in (columns or text_columns(schema)) if name in schema.names]
            names = {name: _class_names(schema.metadata, name) for name in chosen}
            size, unpacked = path.stat().st_size, 0
            bytes_per_row = size / max(1, opened.metadata.num_rows)
            for batch in batches(opened, path, chosen, most=_TOGETHER):
                on_bytes(round(bytes_per_row * batch.num_rows))
                rows = batch.to_pylist()
                unpacked += max(batch.nbytes, sum(len(v) for row in rows for v in row.values() if isinstance(v, str)))
                if unpacked > max(_UNPACKED, _EXPANSION * size):
                    raise Unreadable(
                        str(path), f"has {size:,} bytes and unpacks to more than {unpacked:,}: take it out"
                    )
                for row in rows:
                    yield {name: _named(value, names[name]) for name, value in row.items()}
    except Unreadable:
        raise
    except BadPages as error:
        raise Unreadable(str(path), str(error)) from error
    except PARQUET_ERRORS as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise Unreadable(str(path), f"cannot be read as Parquet: {first[:200]}") from error


def text_columns(schema: Any) -> list[str]:
    """Names of the columns of strings, lists (of strings or turns) and integers; not of bytes or floats."""
    return [
        column.name
        for column in schema
        if not any(word in str(column.type) for word in ("binary", "float", "double", "timestamp"))
    ]


def has_text(path: Path) -> bool:
    """Whether a Parquet file has a column of strings and none of bytes. Raises as pyarrow does."""
    with parquet().ParquetFile(path) as opened:
        kinds = [str(column.type) for column in opened.schema_arrow]
    return any("string" in kind for kind in kinds) and not any("binary" in kind for kind in kinds)


def _class_names(metadata: dict[bytes, bytes] | None, column: str) -> list[str] | None:
    """Class names that the `datasets` library stored in the schema, or None."""
    try:
        names = json.loads((metadata or {})[b"huggingface"])["info"]["features"][column]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    return [str(name) for name in names] if isinstance(names, list) else None


def _named(value: Any, names: list[str] | None) -> Any:
    return names[value] if names and isinstance(value, int) and 0 <= value < len(names) else value


def parquet() -> ModuleType:
    """pyarrow's Parquet reader. Raises `ValueError` if it is not installed."""
    return require("pyarrow.parquet", "Parquet")
