"""All files of a source as records of the fields that are asked, and what was found broken or empty on the way."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langevin.modalities.paths import some
from langevin.modalities.text.fields import near, read_value, strings
from langevin.modalities.text.files import PARQUET, RECORDS, suffix
from langevin.modalities.text.ids import surrogates
from langevin.modalities.text.reader import Broken, Raw, Unreadable, read_plain, read_records
from langevin.modalities.text.sources import TextSource, fields_of, find

MOST_BROKEN = 0.01  # share of lines or rows
_STEP = 1 << 20  # bytes between two calls of `progress`


@dataclass(kw_only=True)
class Read:
    """What was read: the records of both parts (none held out: the source has no parts), and what a reader should know."""

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
    """Every record of both parts; where not to `refuse`, however much is broken.

    Raises:
        ValueError: nothing to read, a single file that is no text, or too much that is broken."""
    files = find(source)
    plain = suffix(files.train[0].name) not in RECORDS
    if plain and source.fields not in ((), ("text",)):
        raise ValueError(f"{source.path} is plain text, which has no fields; leave out fields {source.fields}")
    found = Read(where=source.path, plain=plain, fields=source.fields or fields_of(files))
    found.remarks += files.remarks
    tell = _teller((*files.train, *files.held_out), progress)
    for paths, records in ((files.train, found.train), (files.held_out, found.held_out)):
        for path in paths:
            try:
                (_plain if plain else _records)(path, records, found, tell)
            except Unreadable as error:
                if len(files.train) + len(files.held_out) == 1:
                    raise ValueError(str(error)) from error
                found.broken.append((error.where, error.reason))
        if paths and not records:
            raise ValueError(_nothing(found, paths))
    if refuse:
        _refuse_mostly_broken(found, len(files.train) + len(files.held_out))
    if found.empty:
        found.remarks.append(f"Empty, left out: {len(found.empty):,} ({some(found.empty)}).")
    if found.returns:
        found.remarks.append(f"Files with \\r at the ends of lines, read as \\n: {len(found.returns):,}.")
    return found


def _plain(path: Path, records: list[Mapping[str, Any]], found: Read, tell: Callable[[int], None]) -> None:
    text, returns = read_plain(path)
    tell(path.stat().st_size)
    if returns:
        found.returns.append(str(path))
    if text.strip():
        records.append({"text": text})
    else:
        found.empty.append(str(path))


def _records(path: Path, records: list[Mapping[str, Any]], found: Read, tell: Callable[[int], None]) -> None:
    what = "row" if suffix(path.name) in PARQUET else "record"
    for number, record in enumerate(read_records(path, tell=tell), start=1):
        found.lines += 1
        if isinstance(record, tuple):
            found.broken.append(record)
            continue
        where = f"{path}, {what} {number:,}"
        try:
            kept = _kept(record, found.fields)
        except ValueError as error:
            found.broken.append((where, str(error)))
            continue
        if any(text.strip() for value in kept.values() for text in strings(value)):
            records.append(kept)
        else:
            found.empty.append(where)


def _kept(record: Raw, fields: tuple[str, ...]) -> dict[str, Any]:
    """The fields asked, checked. Raises `ValueError` with what is wrong with one."""
    kept = {}
    for name in fields:
        if name not in record:
            there = list(map(str, record))
            raise ValueError(f"has no field {name!r}; its fields are {', '.join(there) or 'none'}{near(name, there)}")
        try:
            kept[name] = read_value(record[name])
        except ValueError as error:
            raise ValueError(f"its field {name!r} {error}") from error
        if any(surrogates(text) for text in strings(kept[name])):
            raise ValueError(f"its field {name!r} is not Unicode: half of a UTF-16 pair stands alone")
    return kept


def _teller(paths: tuple[Path, ...], progress: Callable[[int, int], None] | None) -> Callable[[int], None]:
    if progress is None:
        return lambda _: None
    total, done, shown = sum(path.stat().st_size for path in paths), 0, 0

    def tell(count: int) -> None:
        nonlocal done, shown
        done = min(done + count, total)
        if done - shown >= _STEP or done == total:
            shown = done
            progress(done, total)

    return tell


def _nothing(found: Read, paths: tuple[Path, ...]) -> str:
    names = some([str(path) for path in paths])
    if found.broken:
        return f"{names}: nothing can be read; {some([f'{where} {why}' for where, why in found.broken], between='; ')}"
    return f"{names}: there is no text in {'it' if len(paths) == 1 else 'them'}; give a file that is not empty"


def _refuse_mostly_broken(found: Read, files: int) -> None:
    what, count, limit = ("files", files, 0.5) if found.plain else ("lines or rows", max(found.lines, 1), MOST_BROKEN)
    if len(found.broken) > limit * count:
        shown = some([f"{where} {reason}" for where, reason in found.broken], between="; ")
        raise ValueError(
            f"{found.where}: {len(found.broken):,} of {count:,} {what} cannot be used, more than {limit:.0%}: {shown}. "
            "Repair them, or take them out"
        )
