"""Reading tables: CSV in its dialects, and Parquet. Cells are texts; a missing one is None."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from langevin.extras import require
from langevin.files import read_regular
from langevin.modalities.parquet_pages import BadPages, batches
from langevin.modalities.paths import did_you_mean, existing_path, regular, some

SUFFIXES = (".csv", ".tsv", ".parquet")
MISSING = ("", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "?", "#N/A", "<NA>")
LARGEST = 2**31  # bytes of a CSV file
WIDEST = 5000  # columns
DELIMITERS = (",", ";", "\t", "|")
LOOKED_AT = 2**16  # characters that the dialect is guessed from
SEP = re.compile(r'"?sep=([,;\t|])"?[ \t,;|]*(?:\r\n|\n|\r)', re.IGNORECASE)  # Excel's first line
BROKEN = 0.1  # share of the lines that may be


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How a CSV file is written.

    Args:
        sep: whether its first line says the delimiter to Excel: sep=;
        head: the names as they stand in it, with their quotes; empty to quote them only if they have to be.
    """

    delimiter: str = ","
    newline: str = "\n"
    bom: bool = False
    header: bool = True
    sep: bool = False
    head: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Cells:
    """A table as texts.

    Args:
        names: of the columns.
        columns: a list of cells for each, None where a cell is missing.
        written: how missing cells are written, by column: the most common text.
        types: of the columns of a Parquet file, in its own words; None for texts.
        lines: the line of the file that each sample begins in, or its row number in a Parquet file.
        raw: the cells of each line as they stand in the file, with their quotes; empty for Parquet.
        arrow: the `pyarrow.Table` of a Parquet file, if it is kept.
        broken: (where, why) of lines that were left out.
        remarks: whole sentences.
    """

    names: tuple[str, ...]
    columns: tuple[list[str | None], ...]
    written: tuple[str, ...]
    dialect: Dialect = Dialect()
    types: tuple[str, ...] | None = None
    lines: list[int] = field(default_factory=list)
    raw: list[list[str]] = field(default_factory=list)
    arrow: Any = None
    broken: tuple[tuple[str, str], ...] = ()
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.columns[0]) if self.columns else 0


def read(path: Path, *, missing: tuple[str, ...] = MISSING, header: bool | None = None, raw: bool = False) -> Cells:
    """The table in a file.

    Args:
        missing: texts of cells that are missing.
        header: whether the first line has the names; None finds out.
        raw: also keep the cells as they stand in the file.

    Raises:
        ValueError: it is no table, or more than a tenth of its lines are broken."""
    existing_path(str(path), "table")
    if path.suffix and path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"a table is read from a {', '.join(SUFFIXES)} file, got '{path}'")
    if not regular(path):
        raise ValueError(f"{path} is no file that a table could be read from")
    if path.suffix.lower() == ".parquet" or (not path.suffix and _begins_with(path, b"PAR1")):
        return _parquet(path, raw)
    return _csv(path, set(missing), header, raw)


def _begins_with(path: Path, mark: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(mark)) == mark


def decoded(path: Path) -> tuple[str, bool, tuple[str, ...]]:
    """The text of a file, whether it has a byte order mark, and remarks. Raises `ValueError` if it cannot be read."""
    try:
        content = read_regular(path, most=LARGEST)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    bom = content.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"))
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", errors="replace"), bom, ("It is UTF-16, and is written as UTF-8.",)
    try:
        return content.decode("utf-8-sig"), bom, ()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        remark = (
            f"Line {line:,} is not UTF-8, so the file is read as Windows-1252, and is written as UTF-8: save it as UTF-8 "
            "if names look wrong."
        )
        return content.decode("cp1252", errors="replace"), bom, (remark,)


def _csv(path: Path, missing: set[str], header: bool | None, raw: bool) -> Cells:
    text, bom, remarks = decoded(path)
    sep = SEP.match(text)
    text = text[sep.end() :] if sep else text
    if not text or text.isspace():
        raise ValueError(f"{path} is empty: a table has a line of names, and a line for each sample")
    if "\x00" in text[:LOOKED_AT]:
        raise ValueError(f"{path} holds zero bytes, so it is no text: is it another kind of file?")
    delimiter = sep[1] if sep else guess_delimiter(text[:LOOKED_AT], path.suffix.lower())
    newline = "\r\n" if "\r\n" in text[:LOOKED_AT] else "\n"
    records = list(_records(text, delimiter, path, first=2 if sep else 1))
    _, first = records[0]
    has_names = looks_like_names(first, missing) if header is None else header
    names, more = _names(first if has_names else [""] * len(first), path, has_names)
    standing = raw_records(text, delimiter) if raw else []
    standing = standing if len(standing) == len(records) else []
    rows, lines, kept, broken = list[list[str]](), list[int](), list[list[str]](), list[tuple[str, str]]()
    for i, (line, record) in enumerate(records):
        if i == 0 and has_names:
            continue
        if len(record) == len(names):
            rows.append(record)
            lines.append(line)
            kept += standing[i : i + 1]
        elif any(record):
            broken.append((f"line {line:,}", f"has {len(record)} cells, and {len(names)} columns have names"))
    if not rows:
        what = "has a line of names only" if not broken else f"has no line with {len(names)} cells"
        raise ValueError(f"{path} {what}: a table has a line for each sample")
    if len(broken) > BROKEN * (len(rows) + len(broken)):
        shown = some([f"{where} {why}" for where, why in broken], between="; ")
        raise ValueError(
            f"{path}: {len(broken):,} of {len(rows) + len(broken):,} lines do not fit its {len(names)} names, more than "
            f"one in ten: {shown}. Is the delimiter '{delimiter}', and are texts with it in quotes?"
        )
    columns = tuple([cell.strip() for cell in column] for column in zip(*rows))
    written = tuple(_written(column, missing) for column in columns)
    return Cells(
        names=names, columns=tuple([None if c in missing else c for c in column] for column in columns), written=written,
        dialect=Dialect(
            delimiter=delimiter, newline=newline, bom=bom, header=has_names, sep=sep is not None,
            head=tuple(standing[0]) if has_names and standing else (),
        ),
        lines=lines, raw=kept, broken=tuple(broken),
        remarks=(*remarks, *more),
    )  # fmt: skip


def _records(text: str, delimiter: str, path: Path, *, first: int) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of each record that is not empty."""
    limit = csv.field_size_limit(2**24)  # of all readers of the process
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = first
    try:
        for record in reader:
            if record:
                if len(record) > WIDEST:
                    raise ValueError(f"{path}: line {line:,} has {len(record):,} cells, and a table at most {WIDEST:,}")
                yield line, record
            line = reader.line_num + first
    except csv.Error as error:
        raise ValueError(
            f"{path}: the record that begins in line {line:,} cannot be read ({error}): is a quote never closed?"
        ) from error
    finally:
        csv.field_size_limit(limit)


def raw_records(text: str, delimiter: str) -> list[list[str]]:
    """The cells of each record that is not empty as they stand in the text, with quotes and spaces; none of a text that is
    quoted in another way."""
    mark = re.escape(delimiter)
    cell = re.compile(rf'("(?:[^"]|"")*"|[^{mark}\r\n]*)({mark}|\r\n|\n|\r|\Z)')
    found, current, at = list[list[str]](), list[str](), 0
    while at < len(text):
        match = cell.match(text, at)
        if match is None:
            return []
        current.append(match.group(1))
        at = match.end()
        if match.group(2) == delimiter and at == len(text):
            current.append("")
        if match.group(2) != delimiter or at == len(text):
            found += [current] if current != [""] else []
            current = []
    return found


def guess_delimiter(head: str, suffix: str = ".csv") -> str:
    """The delimiter with which most of the first records have the same number of cells, and the most cells."""
    if suffix == ".tsv":
        return "\t"
    best, found = (0.0, 0), ","
    complete = head[: head.rfind("\n") + 1] or head
    for delimiter in DELIMITERS:
        try:
            records = list(csv.reader(io.StringIO(complete, newline=""), delimiter=delimiter))[:50]
        except csv.Error:
            continue
        sizes = Counter(len(record) for record in records if record)
        if not sizes:
            continue
        size, count = max(sizes.items(), key=lambda item: (item[1], item[0]))
        score = (count / sum(sizes.values()) if size > 1 else 0.0, size)
        if score > best:
            best, found = score, delimiter
    return found


def looks_like_names(record: list[str], missing: set[str]) -> bool:
    """Whether a first record has names: none of its cells is a number, and most are not empty."""
    given = [cell.strip() for cell in record if cell.strip() not in missing]
    return bool(given) and 2 * len(given) >= len(record) and not any(is_number(cell) for cell in given)


def is_number(text: str) -> bool:
    """Whether a text is a number, with a decimal point or comma."""
    try:
        float(text.replace(",", ".", 1))
    except ValueError:
        return False
    return True


def _names(record: list[str], path: Path, given: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the columns, and remarks. Raises `ValueError` where two are the same."""
    names = [cell.strip() or f"column_{i + 1}" for i, cell in enumerate(record)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        at = [i + 1 for i, name in enumerate(names) if name == twice[0]]
        raise ValueError(
            f"{path}: columns {' and '.join(map(str, at))} have the same name '{twice[0]}': rename one of them"
        )
    empty = [name for name, cell in zip(names, record) if not cell.strip()]
    if given and empty:
        return tuple(names), (f"Columns without a name are called {some(empty)}.",)
    return tuple(names), () if given else ("There is no line of names: columns are called column_1, column_2, ...",)


def _written(column: list[str], missing: set[str]) -> str:
    """How missing cells of a column are written."""
    counts = Counter(cell for cell in column if cell in missing)
    return counts.most_common(1)[0][0] if counts else ""


def _parquet(path: Path, raw: bool) -> Cells:
    reader = require("pyarrow.parquet", "Parquet")
    import pyarrow

    try:
        with reader.ParquetFile(path) as opened:
            schema = opened.schema_arrow
            names = [str(name) for name in schema.names]
            if len(names) > WIDEST:
                raise ValueError(f"{path} has {len(names):,} columns, and a table at most {WIDEST:,}")
            _names(names, path, True)
            columns: list[list[Any]] = [[] for _ in names]
            kept = list[Any]()
            for batch in batches(opened, path, names, most=2**16):
                kept += [batch] if raw else []
                for column, part in zip(columns, batch.columns):
                    if str(part.type).startswith("timestamp[ns"):  # finer than a `datetime`
                        part = part.cast(pyarrow.timestamp("us", part.type.tz), safe=False)
                    column.extend(_text(value) for value in part.to_pylist())
            types = tuple(str(column.type) for column in schema)
    except BadPages as error:
        raise ValueError(f"{path}: the file {error}") from error
    except (OSError, pyarrow.ArrowException, MemoryError, TypeError, LookupError, OverflowError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} cannot be read as Parquet: {first[:200]}") from error
    if not columns or not columns[0]:
        raise ValueError(f"{path} holds no samples: a table has columns, and a row for each sample")
    return Cells(
        names=tuple(names), columns=tuple(columns), written=("",) * len(names), types=types,
        lines=list(range(1, len(columns[0]) + 1)), arrow=pyarrow.Table.from_batches(kept) if raw else None,
    )  # fmt: skip


def _text(value: Any) -> str | None:
    """A value of a Parquet file as text; None for a missing one."""
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat(sep=" ") if isinstance(value, datetime) else str(value)


def column_index(names: tuple[str, ...], name: str, what: str) -> int:
    """The index of a column. Raises `ValueError` that names the nearest, if there is none."""
    if name in names:
        return names.index(name)
    raise ValueError(
        f"{what}: there is no column '{name}'{did_you_mean(name, names)}; they are {some(names, limit=12)}"
    )
