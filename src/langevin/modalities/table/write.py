"""Samples of a table as rows of texts, and as CSV, Parquet and JSON."""

import io
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from langevin.extras import require
from langevin.modalities.table.columns import Column
from langevin.modalities.table.read import Cells, Dialect

Cell = str | None
Row = tuple[Cell, ...]


class Verbatim(str):
    """A cell as it stands in a CSV file, with its quotes; `content` is what it holds, None if it is missing."""

    content: str | None

    def __new__(cls, text: str, content: str | None) -> "Verbatim":
        made = super().__new__(cls, text)
        made.content = content
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
    if column.form == "boolean":
        return cell.lower() in ("true", "yes", "y", "t", "on")
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
    """The samples as a Parquet file; `types` are the types of columns in its own words, if the data was one."""
    reader = require("pyarrow.parquet", "Parquet")
    import pyarrow

    arrays = list[Any]()
    for i, column in enumerate(columns):
        cells = [plain(row[i]) for row in samples]
        arrays.append(_array(pyarrow, column, cells, types.get(column.name)))
    table = pyarrow.table(arrays, names=[column.name for column in columns])
    out = io.BytesIO()
    reader.write_table(table, out)
    return out.getvalue()


def _array(pyarrow: Any, column: Column, cells: list[Cell], kind: str | None) -> Any:
    """A column as an array of its type; of texts if its cells do not fit it."""
    if column.kind == "date":
        moments = [None if cell is None else round(column.number(cell)) for cell in cells]
        array = pyarrow.array(moments, pyarrow.int64()).cast(pyarrow.timestamp("s"))
        array = array.cast(pyarrow.date32()) if column.form == "date" else array
    else:
        values = [typed(column, cell) for cell in cells]
        if any(isinstance(value, str) for value in values):
            values = [None if value is None else str(value) for value in values]
        array = pyarrow.array(values) if any(value is not None for value in values) else pyarrow.nulls(len(values))
    if kind is None or kind.startswith(("dictionary", "list", "struct")):
        return array
    try:
        return array.cast(pyarrow.type_for_alias(kind) if "[" not in kind else _timestamp(pyarrow, kind))
    except (ValueError, pyarrow.ArrowException):
        return array


def _timestamp(pyarrow: Any, kind: str) -> Any:
    """The type that is called timestamp[ns] or date32[day]."""
    if kind.startswith("date32"):
        return pyarrow.date32()
    unit, _, zone = kind.removeprefix("timestamp[").removesuffix("]").partition(", tz=")
    return pyarrow.timestamp(unit, zone or None)
