"""Detection of tables, by suffix and first lines."""

from pathlib import Path
from typing import Any

from langevin.modalities.paths import regular
from langevin.modalities.table.read import DELIMITERS, MISSING, SEP, SUFFIXES, guess_delimiter, looks_like_names

HEAD = 2**16  # bytes
PROSE = 60.0  # characters of a text column on average, above which it is no column of categories


def detect(path: Path) -> tuple[float, str] | None:
    """(1, evidence in words), or None of what is no table with names."""
    if not regular(path) or path.suffix.lower() not in SUFFIXES:
        return None
    if path.suffix.lower() == ".parquet":
        return _parquet(path)
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return None
    text = head.decode("utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", errors="replace")
    sep = SEP.match(text)
    text = text[sep.end() :] if sep else text
    if not text.strip() or "\x00" in text:
        return None
    delimiter = sep[1] if sep else guess_delimiter(text, path.suffix.lower())
    first = [cell.strip().strip('"') for cell in text.splitlines()[0].split(delimiter)]
    if not looks_like_names(first, set(MISSING)):
        return (0.9, "a table without names") if _mixed(first) else None
    words = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}[delimiter]
    assert delimiter in DELIMITERS
    return 1.0, f"a table of {len(first)} columns, separated by {words}"


def _mixed(record: list[str]) -> bool:
    """Whether a record has numbers and texts, so that it is a sample of a table without names."""
    numbers = sum(looks_like_names([cell], set(MISSING)) for cell in record)
    return 0 < numbers < len(record)


def _parquet(path: Path) -> tuple[float, str] | None:
    """A Parquet file of columns of numbers or short texts."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        return None
    try:
        with parquet.ParquetFile(path) as opened:
            types = [str(column.type) for column in opened.schema_arrow]
            names = [str(name) for name in opened.schema_arrow.names]
            simple = [
                not t.startswith(("list", "large_list", "struct", "map", "binary", "large_binary")) for t in types
            ]
            if not all(simple) or len(types) < 2 or all("string" in t for t in types):
                return None
            texts = [name for name, t in zip(names, types) if "string" in t]
            head: Any = next(opened.iter_batches(batch_size=50, columns=texts)) if texts else None
            for column in [] if head is None else head.columns:
                lengths = [len(str(value)) for value in column.to_pylist() if value is not None]
                if lengths and sum(lengths) / len(lengths) > PROSE:
                    return None
    except (OSError, ValueError, MemoryError, TypeError, LookupError, StopIteration, ArrowException):
        return None
    return 1.0, f"a Parquet table of {len(types)} columns"
