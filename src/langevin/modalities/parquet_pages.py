"""Reading Parquet in bounded memory: the sizes of unpacked pages, from their headers alone, limit the rows read at once.

A page is unpacked as a whole, and a few bytes can say that it has gigabytes. pyarrow does not tell before it does so,
and its description of a damaged footer may end the process. So footer and page headers are read here: structures of the
Parquet format in Thrift's compact protocol, as mappings of field numbers."""

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LARGEST_CELL = 2**28  # bytes of a cell; also of a page that is stored in much less
_BATCH = 2**26  # bytes that a batch of rows may need
_LONG = 2**16  # bytes of a text or a statistic that is passed over


class BadPages(ValueError):
    """A Parquet file that is damaged, or made to fill the memory: the message continues "The file ..."."""


def batches(opened: Any, path: Path, columns: list[str], *, most: int, group: int | None = None) -> Iterator[Any]:
    """Batches of at most `most` rows of an open `pyarrow.parquet.ParquetFile`, so few that a batch fits into memory even if
    every cell is as large as the largest page.

    Args:
        group: the number of the only row group that is read; None reads all.

    Raises:
        BadPages: a page is made to fill the memory, or there are more rows than bytes."""
    count, size = opened.metadata.num_rows, path.stat().st_size
    if count > max(1000, size):
        raise BadPages(
            f"says that it holds {count:,} rows in {size:,} bytes: it is damaged, or made to fill the memory"
        )
    with path.open("rb") as stream:
        for number, chunks in enumerate(column_chunks(stream)):
            if group not in (None, number):
                continue
            largest = 0  # bytes of the largest page, summed over the columns
            for chunk in chunks:
                if chunk.column in columns:
                    largest += max((_allowed(*sizes) for sizes in page_sizes(stream, chunk)), default=0)
            rows = min(most, max(1, _BATCH // max(1, largest)))
            yield from opened.iter_batches(batch_size=rows, row_groups=[number], columns=columns)


def unpacked_sizes(path: Path, column: str) -> list[int]:
    """Bytes of a column in each row group of a file when they are unpacked, from the headers of its pages.

    Raises:
        BadPages: a header is damaged, or a page is made to fill the memory."""
    with path.open("rb") as stream:
        return [
            sum(_allowed(*sizes) for chunk in chunks if chunk.column == column for sizes in page_sizes(stream, chunk))
            for chunks in column_chunks(stream)
        ]


def first_bytes(path: Path) -> dict[str, bytes]:
    """The first 16 bytes of the first value that is not empty, among 16 rows, of each column of bytes or of structs with a
    field `bytes`; without pyarrow, and of a file that cannot be read, none."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        return {}
    try:
        with parquet.ParquetFile(path, buffer_size=2**20) as opened:
            columns = [str(field.name) for field in opened.schema_arrow if "binary" in str(field.type)]
            first = next(batches(opened, path, columns, most=16), None) if columns else None
            return {} if first is None else {name: _first(first.column(name).to_pylist()) for name in columns}
    except (OSError, ValueError, MemoryError, TypeError, LookupError, ArrowException):
        return {}


def _first(cells: list[Any]) -> bytes:
    contents = (cell.get("bytes") if isinstance(cell, dict) else cell for cell in cells)
    return next((content[:16] for content in contents if isinstance(content, bytes) and content), b"")


def _allowed(stored: int, unpacked: int) -> int:
    if unpacked > max(LARGEST_CELL, 16 * stored):
        raise BadPages(f"holds {unpacked:,} bytes packed into {stored:,}: it may be made to fill the memory")
    return unpacked


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """The pages of one column in one row group: the column's name, the first byte and the number of bytes."""

    column: str
    start: int
    length: int


def column_chunks(file: io.BufferedIOBase) -> list[list[Chunk]]:
    """The column chunks of every row group.

    Raises:
        BadPages: the footer is damaged."""
    file.seek(-8, os.SEEK_END)
    length = int.from_bytes(file.read(4), "little")
    file.seek(-8 - min(length, file.tell() - 4), os.SEEK_END)
    footer = _structure(io.BytesIO(file.read(length)), 0)
    try:
        return [[_chunk(column[3]) for column in group[1]] if group[3] else [] for group in footer[4]]
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise BadPages("is damaged: its footer does not say where its columns are") from error


def _chunk(column: dict[int, Any]) -> Chunk:
    first, length = column[9], column[7]
    if not isinstance(first, int) or not isinstance(length, int):
        raise TypeError("an offset and a length are numbers")
    start = min(first, column.get(11) or first)  # the dictionary page comes before the data pages
    return Chunk(column=column[3][0].decode("utf-8", "replace"), start=max(0, start), length=length)


def page_sizes(file: io.BufferedIOBase, chunk: Chunk) -> Iterator[tuple[int, int]]:
    """(stored, unpacked) bytes of every page of a column chunk.

    Raises:
        BadPages: a header is damaged."""
    start, end = chunk.start, chunk.start + chunk.length
    while start < end:
        file.seek(start)
        header = _structure(file, 0)
        unpacked, stored = header.get(2), header.get(3)
        if not isinstance(unpacked, int) or not isinstance(stored, int) or min(unpacked, stored) < 0:
            raise BadPages("is damaged: a page has no size")
        yield stored, unpacked
        start = file.tell() + stored


def _structure(file: io.BufferedIOBase, depth: int) -> dict[int, Any]:
    fields: dict[int, Any] = {}
    field = 0
    while (head := _byte(file)) & 15:
        field = field + (head >> 4) if head >> 4 else _signed(file)
        fields[field] = head & 15 == 1 if head & 15 in (1, 2) else _value(file, head & 15, depth)
    return fields


def _value(file: io.BufferedIOBase, kind: int, depth: int) -> Any:
    if depth > 16:
        raise BadPages("is damaged: its metadata is nested too deep")
    match kind:
        case 1 | 2 | 3:
            return _byte(file)
        case 4 | 5 | 6:
            return _signed(file)
        case 7:
            return [_byte(file) for _ in range(8)]
        case 8:
            length = _unsigned(file)
            if length > _LONG:
                file.seek(length, os.SEEK_CUR)
                return b""
            return file.read(length)
        case 9 | 10:
            head = _byte(file)
            count = head >> 4 if head >> 4 < 15 else _unsigned(file)
            return [_value(file, head & 15, depth + 1) for _ in range(count)]
        case 12:
            return _structure(file, depth + 1)
        case _:  # also a mapping, which the format does not have
            raise BadPages("is damaged: its metadata holds what the format does not have")


def _byte(file: io.BufferedIOBase) -> int:
    if not (byte := file.read(1)):
        raise BadPages("is damaged: its metadata is cut short")
    return byte[0]


def _unsigned(file: io.BufferedIOBase) -> int:
    value = 0
    for place in range(0, 70, 7):
        byte = _byte(file)
        value |= (byte & 127) << place
        if byte < 128:
            return min(value, 2**62)
    raise BadPages("is damaged: its metadata holds a number without end")


def _signed(file: io.BufferedIOBase) -> int:
    value = _unsigned(file)
    return (value >> 1) ^ -(value & 1)
