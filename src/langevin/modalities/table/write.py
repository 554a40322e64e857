"""Samples of a table as rows of texts, and as CSV, Parquet and JSON."""

import io
import json
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from langevin.extras import require
from langevin.modalities.table.columns import Column
from langevin.modalities.table.read import Cells, Dialect

Cell = str | None
Row = tuple[Cell, ...]
TRUTH = {word: i % 2 == 0 for i, word in enumerate(("true", "false", "yes", "no", "y", "n", "t", "f", "on", "off"))}


class Verbatim(str):
    """A cell as it stands in a CSV file, with its quotes; `content` is what it holds, None if it is missing."""

    content: str | None

    def __new__(cls, text: str, content: str | None) -> "Verbatim":
        made = super().__new__(cls, text)
        made.content = content
        return made


class Stored(tuple[Cell, ...]):
    """A sample whose cells that are not filled are those of a Parquet file: `cells`, and its index `at` there."""

    cells: Cells
    at: int

    def __new__(cls, texts: Sequence[Cell], cells: Cells, at: int) -> "Stored":
        made = super().__new__(cls, texts)
        made.cells, made.at = cells, at
        return made


def written(columns: Sequence[Column]) -> tuple[Column, ...]:
    """The columns that are written: all but those that are ignored."""
    return tuple(column for column in columns if column.kind != "ignored")


def rows(columns: Sequence[Column], values: Sequence[np.ndarray]) -> list[Row]:
    """The samples as texts of the columns that are written, None for missing cells."""
    cells = [texts(column, part) for column, part in zip(columns, values) if column.kind != "ignored"]
    return list(zip(*cells))


def texts(column: Column, values: np.ndarray) -> list[Cell]:
    """The cells of a column."""
    if column.kind == "constant":
        return [column.categories[0]] * len(values)
    if column.kind == "empty":
        return [None] * len(values)
    if column.kind == "category":
        return [None if code < 0 else column.categories[code] for code in values.tolist()]
    return [None if math.isnan(value) else column.text(value) for value in values.tolist()]


def to_csv(names: Sequence[str], samples: Sequence[Row], missing: Sequence[str], dialect: Dialect) -> str:
    """The samples as CSV, with a line of names if the dialect has one."""
    out = io.StringIO()
    if dialect.sep:
        out.write(f"sep={dialect.delimiter}{dialect.newline}")
    if dialect.header:
        out.write(_line([Verbatim(*pair) for pair in zip(dialect.head, names)] or names, dialect))
    for row in samples:
        out.write(_line([text if cell is None else cell for cell, text in zip(row, missing)], dialect))
    return out.getvalue()


def _line(cells: Sequence[str], dialect: Dialect) -> str:
    """One record; a cell is quoted only if it has to be, or is verbatim."""
    quoted = [cell if isinstance(cell, Verbatim) else _quoted(cell, dialect.delimiter) for cell in cells]
    if quoted == [""]:
        quoted = ['""']  # an empty line is no record
    return dialect.delimiter.join(quoted) + dialect.newline


def _quoted(cell: str, delimiter: str) -> str:
    if any(c in cell for c in (delimiter, '"', "\n", "\r")) or cell != cell.strip():
        return '"' + cell.replace('"', '""') + '"'
    return cell


def verbatim(cells: Cells) -> list[Row]:
    """The samples of a table, each cell as it stands in its file where that is known."""
    contents = list(zip(*cells.columns))
    if len(cells.raw) != len(contents):
        return contents
    return [tuple(Verbatim(cell, content) for cell, content in zip(raw, row)) for row, raw in zip(contents, cells.raw)]


def plain(cell: Cell) -> Cell:
    """The content of a cell, without the quotes of one that is verbatim; None for a missing one."""
    return cell.content if isinstance(cell, Verbatim) else cell


def typed(column: Column, cell: Cell) -> Any:
    """A cell as a value of JSON."""
    if cell is None:
        return None
    if column.form == "boolean" and cell.lower() in TRUTH:
        return TRUTH[cell.lower()]
    try:
        if column.form == "integer":
            return int(column.standard(cell) if column.kind == "number" else cell)
        if column.kind == "number":
            return column.number(cell)
    except ValueError:
        return cell
    return cell


def to_json(columns: Sequence[Column], samples: Sequence[Row]) -> str:
    """The samples as a list of mappings, one a line."""
    names = [column.name for column in columns]
    lines = [
        json.dumps({n: typed(c, plain(cell)) for n, c, cell in zip(names, columns, row)}, ensure_ascii=False)
        for row in samples
    ]
    return "[\n" + ",\n".join(lines) + "\n]\n"


def to_parquet(columns: Sequence[Column], samples: Sequence[Row], types: dict[str, str]) -> bytes:
    """The samples as a Parquet file; `types` are the types of columns in its own words, if the data was one. Cells that
    were given in a Parquet file stay as they are there."""
    reader = require("pyarrow.parquet", "Parquet")
    import pyarrow

    arrays = list[Any]()
    for i, column in enumerate(columns):
        cells = [plain(row[i]) for row in samples]
        stored = [row for row in samples if isinstance(row, Stored) and column.name in row.cells.names]
        if len(stored) == len(samples) > 0:
            arrays.append(_stored(pyarrow, column, cells, stored))
        else:
            arrays.append(_array(pyarrow, column, cells, _type(pyarrow, types.get(column.name, ""))))
    table = pyarrow.table(arrays, names=[column.name for column in columns])
    out = io.BytesIO()
    reader.write_table(table, out)
    return out.getvalue()


def _stored(pyarrow: Any, column: Column, cells: list[Cell], samples: list[Stored]) -> Any:
    """A column of a Parquet file, of which only cells without a value are filled."""
    source, name = samples[0].cells, column.name
    given = source.columns[source.names.index(name)]
    held = {cell: at for at, cell in enumerate(given)}
    new = [cell is not None and given[one.at] is None for cell, one in zip(cells, samples)]
    at = [held.get(cell) if is_new else one.at for cell, one, is_new in zip(cells, samples, new)]
    array = source.arrow.column(name).take(pyarrow.array(at, pyarrow.int64()))
    if not any(new):
        return array
    filled = _array(pyarrow, column, [cell if i is None else None for cell, i in zip(cells, at)], array.type)
    if filled.type != array.type:  # there is no way to write what was drawn in this type
        return pyarrow.array(cells, pyarrow.string())
    return require("pyarrow.compute", "Parquet").coalesce(array, filled)


def _array(pyarrow: Any, column: Column, cells: list[Cell], kind: Any) -> Any:
    """A column as an array of its type, which None finds out; of texts as they stand if its cells do not fit it."""
    array = pyarrow.array(cells, pyarrow.string())
    if not re.match("(large_)?string|dictionary<values=(large_)?string", str(kind)):
        try:
            array = _values(pyarrow, column, cells)
            array = array.cast(pyarrow.float64()) if str(kind).startswith("decimal") else array
        except (ValueError, TypeError, OverflowError, pyarrow.ArrowException):
            return array
    try:
        return array if kind is None else array.cast(kind)
    except (ValueError, pyarrow.ArrowException):
        return array


def _values(pyarrow: Any, column: Column, cells: list[Cell]) -> Any:
    """An array of what the cells are. Raises `ValueError`, `TypeError` or `OverflowError` if one is something else."""
    if column.kind != "date":
        return pyarrow.array([typed(column, cell) for cell in cells])
    seconds = [None if cell is None else column.number(cell) for cell in cells]
    # whole days are 0, seconds 1, and what is finer 2
    finest = {(one % 86400 != 0) + (one % 1 != 0) for one in seconds if one is not None} | {column.form != "date"}
    unit, parts = ("us", 10**6) if 2 in finest else ("s", 1)
    array = pyarrow.array([None if one is None else round(parts * one) for one in seconds], pyarrow.int64())
    array = array.cast(pyarrow.timestamp(unit))
    return array if max(finest) else array.cast(pyarrow.date32())


def _type(pyarrow: Any, kind: str) -> Any:
    """The type that is called so, such as timestamp[us, tz=UTC]; None for those that samples do not have."""
    if zoned := re.fullmatch(r"timestamp\[(\w+), tz=(.+)\]", kind):
        return pyarrow.timestamp(*zoned.groups())
    if scaled := re.fullmatch(r"decimal128\((\d+), (\d+)\)", kind):
        return pyarrow.decimal128(*map(int, scaled.groups()))
    try:
        return pyarrow.type_for_alias(kind)
    except ValueError:
        return None
