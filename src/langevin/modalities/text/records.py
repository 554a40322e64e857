"""Reads all files of a source as records of the requested fields, and reports what is broken or empty."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langevin.modalities.content import size_of
from langevin.modalities.paths import regular, some
from langevin.modalities.text.fields import near, read_value, strings
from langevin.modalities.text.files import PARQUET, RECORDS, suffix
from langevin.modalities.text.ids import surrogates
from langevin.modalities.text.parse import Broken, Raw, Unreadable, read_plain, read_records
from langevin.modalities.text.sources import TextSource, fields_of, find

MOST_BROKEN = 0.01  # largest accepted fraction of broken lines or rows
_STEP = 1 << 20  # bytes between two calls of `progress`


@dataclass(kw_only=True)
class Read:
    """The records of both parts (`held_out` is empty if the source has no parts), and what was wrong with the source."""

    where: str
    fields: tuple[str, ...]
    plain: bool
    train: list[Mapping[str, Any]] = field(default_factory=list)
    held_out: list[Mapping[str, Any]] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    lines: int = 0
    empty: list[str] = field(default_factory=list)
    returns: list[str] = field(default_factory=list)


def read(source: TextSource, *, progress: Callable[[int, int], None] | None = None, refuse: bool = True) -> Read:
    """Every record of both parts. With `refuse` false any number of broken records is accepted.

    Raises:
        ValueError: nothing to read, a single file that is not text, or too many broken records."""
    files = find(source)
    plain = suffix(files.train[0].name) not in RECORDS
    if plain and source.fields not in ((), ("text",)):
        raise ValueError(f"{source.path} is plain text, which has no fields; leave out fields {source.fields}")
    result = Read(where=source.path, plain=plain, fields=source.fields or fields_of(files))
    result.remarks += files.remarks
    on_bytes = _counter((*files.train, *files.held_out), progress)
    for paths, records in ((files.train, result.train), (files.held_out, result.held_out)):
        for path in paths:
            try:
                (_plain if plain else _records)(path, records, result, on_bytes)
            except Unreadable as error:
                if len(files.train) + len(files.held_out) == 1:
                    raise ValueError(str(error)) from error
                result.broken.append((error.where, error.reason))
        if paths and not records:
            raise ValueError(_nothing(result, paths))
    if refuse:
        _refuse_mostly_broken(result, len(files.train) + len(files.held_out))
    if result.empty:
        result.remarks.append(f"Empty, left out: {len(result.empty):,} ({some(result.empty)}).")
    if result.returns:
        result.remarks.append(f"Files with \\r at the ends of lines, read as \\n: {len(result.returns):,}.")
    return result


def _plain(path: Path, records: list[Mapping[str, Any]], result: Read, on_bytes: Callable[[int], None]) -> None:
    text, returns = read_plain(path)
    on_bytes(size_of(path))
    if returns:
        result.returns.append(str(path))
    if text.strip():
        records.append({"text": text})
    else:
        result.empty.append(str(path))


def _records(path: Path, records: list[Mapping[str, Any]], result: Read, on_bytes: Callable[[int], None]) -> None:
    what = "row" if suffix(path.name) in PARQUET else "record"
    for number, record in enumerate(read_records(path, on_bytes=on_bytes), start=1):
        result.lines += 1
        if isinstance(record, tuple):
            result.broken.append(record)
            continue
        where = f"{path}, {what} {number:,}"
        try:
            kept = _kept(record, result.fields)
        except ValueError as error:
            result.broken.append((where, str(error)))
            continue
        if any(text.strip() for value in kept.values() for text in strings(value)):
            records.append(kept)
        else:
            result.empty.append(where)


def _kept(record: Raw, fields: tuple[str, ...]) -> dict[str, Any]:
    """The requested fields, checked. Raises `ValueError` with the field and what is wrong with it."""
    kept = {}
    for name in fields:
        if name not in record:
            names = list(map(str, record))
            there = some([field[:80] for field in names], limit=20) or "none"
            raise ValueError(f"has no field {name!r}; its fields are {there}{near(name, names[:100])}")
        try:
            kept[name] = read_value(record[name])
        except ValueError as error:
            raise ValueError(f"its field {name!r} {error}") from error
        if any(surrogates(text) for text in strings(kept[name])):
            raise ValueError(f"its field {name!r} is not Unicode: it has an unpaired UTF-16 surrogate")
    return kept


def _counter(paths: tuple[Path, ...], progress: Callable[[int, int], None] | None) -> Callable[[int], None]:
    if progress is None:
        return lambda _: None
    total, done, shown = sum(size_of(path) for path in paths if regular(path)), 0, 0

    def on_bytes(count: int) -> None:
        nonlocal done, shown
        done = min(done + count, total)
        if done - shown >= _STEP or done == total:
            shown = done
            progress(done, total)

    return on_bytes


def _nothing(result: Read, paths: tuple[Path, ...]) -> str:
    names = some([str(path) for path in paths])
    if result.broken:
        return f"{names}: nothing can be read; {some([f'{where} {why}' for where, why in result.broken], between='; ')}"
    return f"{names}: there is no text in {'it' if len(paths) == 1 else 'them'}; give a file that is not empty"


def _refuse_mostly_broken(result: Read, files: int) -> None:
    what, count, limit = ("files", files, 0.5) if result.plain else ("lines or rows", max(result.lines, 1), MOST_BROKEN)
    if len(result.broken) > limit * count:
        shown = some([f"{where} {reason}" for where, reason in result.broken], between="; ")
        raise ValueError(
            f"{result.where}: {len(result.broken):,} of {count:,} {what} cannot be used, more than {limit:.0%}: {shown}. "
            "Repair them, or take them out"
        )
