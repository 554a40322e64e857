"""A directory of image files as a table; captions and labels from metadata, text files or directory names."""

import csv
import json
import posixpath
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from langevin.modalities.content import opened, opened_text
from langevin.modalities.image.data_report import DataReport
from langevin.modalities.image.paths import LONGEST_TEXT, SURROGATE, Listing, list_files, shown
from langevin.modalities.image.sources import TEST_NAMES, Folder
from langevin.modalities.image.table import Table
from langevin.modalities.image.unreadable import Broken
from langevin.modalities.paths import regular, shard_numbers, some, stamp

_Part = tuple[str, list[str]]  # (prefix of a directory such as "train/", its images)


def open_folder(source: Folder) -> Table:
    """The images of the directory, not opened. Raises `ValueError` for malformed metadata."""
    root = Path(source.path).expanduser()
    listing = list_files(root)
    train, test, remarks = _official(listing)
    chosen = [*train[1], *test[1]]
    given = _metadata(listing, chosen, (train[0], test[0]))
    described = given or _described(listing, train, test)
    paths = [root / name for name in chosen]
    labels = described.labels
    unlabelled = () if labels is None else tuple(shown(n) for n, label in zip(chosen, labels) if label is None)
    notes = replace(described.notes, without_label=unlabelled, remarks=(*described.notes.remarks, *remarks))
    return Table(
        where=str(root),
        names=[shown(name) for name in chosen],
        fetch=paths.__getitem__,
        size=source.size,
        channels=source.channels,
        background=source.background,
        labels=labels,
        captions=described.captions,
        forced=source.hold_out_captions,
        test_from=len(train[1]) if test[1] else None,
        notes=notes,
        files=listing.files,
        shards=shard_numbers(root, chosen),
        stamp=partial(stamp, root, chosen),
    )


def _official(listing: Listing) -> tuple[_Part, _Part, list[str]]:
    """The training and the test part and remarks: `train/` and `test/` if they exist, else all images and none."""
    tops: dict[str, list[str]] = {}
    for name in listing.images:
        top, slash, _ = name.partition("/")
        tops.setdefault(top + slash if slash else "", []).append(name)
    by_lower = {top.lower(): top for top in tops}
    train = by_lower.get("train/")
    test = next((by_lower[f"{name}/"] for name in TEST_NAMES if f"{name}/" in by_lower), None)
    if train is None or (test is None and len(tops) > 1):
        return ("", list(listing.images)), ("", []), []
    left = [name for top, names in tops.items() if top not in (train, test) for name in names]
    remarks = [f"Images outside {train} and {test}, not used: {len(left):,} ({some(left)})."] if left else []
    return (train, tops[train]), (test or "", tops[test] if test else []), remarks


@dataclass(frozen=True, kw_only=True)
class _Described:
    labels: list[str | None] | None
    captions: list[str] | None
    notes: DataReport


def _described(listing: Listing, *parts: _Part) -> _Described:
    """Classes from the first directory level, captions from text files next to the images.

    Images outside of two or more directories have no label; beside a single one that one is no class."""
    labels: list[str | None] = []
    texts: dict[str, str] = {}
    unreadable: list[tuple[str, str]] = []
    sidecars = {name for name in listing.others if name.lower().endswith(".txt")}
    names = [name for _, images in parts for name in images]
    for prefix, images in parts:
        for name in images:
            top, slash, _ = name.removeprefix(prefix).partition("/")
            labels.append(shown(top) if slash else None)
            sidecar = posixpath.splitext(name)[0] + ".txt"
            if sidecar in sidecars:
                try:
                    texts[name] = _text_of(listing.root / sidecar)
                except Broken as error:
                    unreadable.append((shown(sidecar), error.reason))
    outside = [name for name, label in zip(names, labels) if label is None]
    remarks, classes = (), set(labels) - {None}
    if outside and len(classes) == 1:
        remarks = (
            f"The sub-directory is not used as a class: {len(outside):,} images are outside of it ({some(outside)}); "
            "move these into a class, or away, to train with classes.",
        )
    if outside and len(classes) < 2:
        labels = []
    any_text = bool(texts or unreadable)
    stems = {posixpath.splitext(name)[0] for name in names}
    prefixes = tuple(prefix for prefix, images in parts if images)
    alone = [n for n in sorted(sidecars) if n.startswith(prefixes) and posixpath.splitext(n)[0] not in stems]
    notes = DataReport(
        absent=tuple(shown(name) for name in alone) if any_text else (),
        without_caption=tuple(shown(name) for name in names if not texts.get(name)) if any_text else (),
        captions_unreadable=tuple(unreadable),
        remarks=remarks,
    )
    captions = [texts.get(name, "") for name in names] if any_text else None
    return _Described(labels=labels or None, captions=captions, notes=notes)


def _text_of(path: Path) -> str:
    """A caption. Raises `Broken` where there is none that can be read."""
    if not regular(path):
        raise Broken("is not a regular file")
    try:
        with opened(path) as file:
            content = file.read(LONGEST_TEXT + 1)
        if len(content) > LONGEST_TEXT:
            raise Broken(f"is too long for a caption: more than {LONGEST_TEXT:,} bytes")
        return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n").strip()
    except UnicodeDecodeError as error:
        raise Broken("is not UTF-8 text") from error
    except OSError as error:
        raise Broken(f"cannot be read: {error.strerror}") from error


def _metadata(listing: Listing, images: list[str], prefixes: tuple[str, str]) -> _Described | None:
    """Captions and labels from `metadata.jsonl` or `metadata.csv`, per part or at the root; None without either."""
    said: dict[str, tuple[str | None, str | None]] = {}
    original: dict[str, str] = {}
    files, twice = list[str](), 0
    unreadable: list[tuple[str, str]] = []
    for prefix in dict.fromkeys((*prefixes, "")):
        name = next((prefix + n for n in ("metadata.jsonl", "metadata.csv") if prefix + n in listing.others), None)
        if name is None:
            continue
        files.append(name)
        read, lost = records(listing.root / name)
        unreadable += [(f"{shown(name)}, line {line}", reason) for line, reason in lost]
        for file_name, caption, label in read:
            key = unicodedata.normalize("NFC", posixpath.normpath(prefix + file_name.replace("\\", "/")))
            twice += key in said and said[key] != (caption, label)
            said.setdefault(key, (caption, label))
            original.setdefault(key, file_name)
    if not files:
        return None
    known = [said.get(unicodedata.normalize("NFC", name), (None, None)) for name in images]
    there = {unicodedata.normalize("NFC", name) for name in listing.images}
    has_caption, has_label = (any(values[kind] for values in said.values()) for kind in (0, 1))
    missing = tuple(shown(name) for name, (caption, _) in zip(images, known) if not caption)
    if has_label and not any(label for _, label in known):
        raise ValueError(f"{listing.root / files[0]} labels no existing image; check its file_name column")
    if has_caption and not has_label and not any(caption for caption, _ in known):
        first = shown(next(iter(original.values())))
        raise ValueError(
            f"{listing.root / files[0]} captions no existing image (the first is '{first}'); "
            "check its file_name column: paths are relative to its directory"
        )
    apart = {posixpath.dirname(name) for name in images} - {prefix.rstrip("/") for prefix in (*prefixes, "")}
    notes = DataReport(
        absent=tuple(shown(original[key]) for key in said if key not in there),
        records_unreadable=tuple(unreadable),
        without_caption=missing if has_caption else (),
        remarks=(*(("Directories are not used as classes, because there is metadata.",) if len(apart) > 1 else ()),
                 *((f"{twice:,} lines of metadata that contradict earlier ones, ignored.",) if twice else ())),
    )  # fmt: skip
    return _Described(
        labels=[label for _, label in known] if has_label else None,
        captions=[caption or "" for caption, _ in known] if has_caption else None,
        notes=notes,
    )


_Record = tuple[str, str | None, str | None]  # a file name, its caption and its label


def records(path: Path) -> tuple[list[_Record], list[tuple[int, str]]]:
    """The records of a `.jsonl` or `.csv` file, and (line, reason) of those that cannot be read, at most one in ten.

    Raises:
        ValueError: more cannot be read; the message names the first line."""
    if not regular(path):
        raise ValueError(f"{path} is not a regular file: move it away, or put the file of records there")
    read, lost = list[_Record](), list[tuple[int, str]]()
    try:
        with opened_text(path, errors="surrogateescape", newline="") as file:
            for line, record in (_csv_records if path.suffix == ".csv" else _json_records)(file, path):
                try:
                    read.append(_record(record))
                except Broken as error:
                    lost.append((line, error.reason))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}; check its rights") from error
    if 10 * len(lost) > len(read) + len(lost):
        line, reason = lost[0]
        more = f", and {len(lost) - 1:,} more of {len(read) + len(lost):,} records cannot be read" * (len(lost) > 1)
        raise ValueError(f"{path}, line {line} {reason}{more}; correct it")
    return read, lost


def _lines(file: TextIO, where: Path) -> Iterator[str]:
    line = 0
    while text := file.readline(LONGEST_TEXT + 1):
        line += 1
        if len(text) > LONGEST_TEXT:
            raise ValueError(f"{where}, line {line} is longer than {LONGEST_TEXT:,} characters; correct it")
        yield text


def _json_records(file: TextIO, where: Path) -> Iterator[tuple[int, Any]]:
    """(line, record) of a .jsonl file; in place of one that cannot be read, why."""
    for line, text in enumerate(_lines(file, where), start=1):
        if not text.strip():
            continue
        try:
            record = json.loads(text)
        except json.JSONDecodeError as error:
            record = Broken(f"is not JSON: {error.msg} at column {error.colno}")
        except RecursionError:
            record = Broken("is nested too deep")
        except ValueError:  # a whole number beyond `sys.get_int_max_str_digits`
            record = Broken("holds a number of too many digits")
        yield line, record


def _csv_records(file: TextIO, where: Path) -> Iterator[tuple[int, Any]]:
    """(last line, record) of a .csv file; in place of one that cannot be read, why."""
    reader = csv.DictReader(_lines(file, where))
    while True:
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield reader.line_num + 1, Broken(f"is not CSV: {error}")
        else:
            yield reader.line_num, record


def _record(record: Any) -> _Record:
    """File name, caption and label of one record. Raises `Broken`."""
    if isinstance(record, Broken):
        raise record
    if not isinstance(record, dict):
        raise Broken('is not a JSON object, such as {"file_name": ...}')
    name = record.get("file_name")
    if not isinstance(name, str) or not name or not {"text", "caption", "label", "class"} & set(record):
        raise Broken(
            "needs `file_name`, with `text` or `caption` and/or `label` or `class`; its columns are "
            f"{some([shown(str(column)[:40]) for column in record], limit=20) or 'none'}. Rename them, or the file"
        )

    def text(*columns: str) -> str | None:
        value = next((record[column] for column in columns if record.get(column) is not None), None)
        if isinstance(value, dict | list):
            raise Broken(f"has a {type(value).__name__} in `{columns[0]}`, which must be a text or a number")
        return None if value is None else str(value).strip() or None

    found = (name, text("text", "caption"), text("label", "class"))
    for part in found:
        if part and (half := SURROGATE.search(part)):
            raise Broken(
                "is not UTF-8 text"
                if "\udc80" <= half[0] <= "\udcff"
                else "holds half a character, such as of an emoji"
            )
    return found[0], found[1], None if found[2] is None else shown(found[2])
