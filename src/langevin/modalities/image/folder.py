"""A directory of image files as a table; captions and labels from metadata, text files or directory names."""

import csv
import json
import posixpath
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from langevin.modalities.image.data_report import DataReport
from langevin.modalities.image.paths import Listing, list_files
from langevin.modalities.image.sources import TEST_NAMES, Folder
from langevin.modalities.image.table import Table
from langevin.modalities.paths import some

_Part = tuple[str, list[str]]  # (prefix of a directory such as "train/", its images)


def open_folder(source: Folder) -> Table:
    """The images of the directory, not opened. Raises `ValueError` for malformed metadata."""
    root = Path(source.path).expanduser()
    listing = list_files(root)
    train, test, remarks = _official(listing)
    chosen = [*train[1], *test[1]]
    given = _metadata(listing, chosen, (train[0], test[0]))
    described = given or _described(listing, train, test)
    kept = [i for i in range(len(chosen)) if described.labels is None or described.labels[i] is not None]
    paths = [root / chosen[i] for i in kept]
    labels, captions = described.labels, described.captions
    unlabelled = () if labels is None else tuple(_shown(n) for n, label in zip(chosen, labels) if label is None)
    notes = replace(described.notes, without_label=unlabelled, remarks=(*described.notes.remarks, *remarks))
    return Table(
        where=str(root),
        names=[_shown(chosen[i]) for i in kept],
        fetch=paths.__getitem__,
        size=source.size,
        channels=source.channels,
        background=source.background,
        labels=None if labels is None else [label for label in labels if label is not None],
        captions=None if captions is None else [captions[i] for i in kept],
        forced=source.hold_out_captions,
        test_from=sum(i < len(train[1]) for i in kept) if test[1] else None,
        notes=notes,
        files=listing.files,
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
    """Classes from the first directory level, captions from text files next to the images."""
    labels: list[str | None] = []
    texts: dict[str, str] = {}
    unreadable: list[tuple[str, str]] = []
    sidecars = {name for name in listing.others if name.lower().endswith(".txt")}
    names = [name for _, images in parts for name in images]
    for prefix, images in parts:
        for name in images:
            top, slash, _ = name.removeprefix(prefix).partition("/")
            labels.append(_shown(top) if slash else None)
            sidecar = posixpath.splitext(name)[0] + ".txt"
            if sidecar in sidecars:
                try:
                    texts[name] = (listing.root / sidecar).read_text(encoding="utf-8-sig").strip()
                except UnicodeDecodeError:
                    unreadable.append((_shown(sidecar), "is not UTF-8 text"))
                except OSError as error:
                    unreadable.append((_shown(sidecar), f"cannot be read: {error.strerror}"))
    outside = [name for name, label in zip(names, labels) if label is None]
    remarks = ()
    if outside and len(outside) < len(names):
        remarks = (
            f"Sub-directories are not used as classes: {len(outside):,} images are outside of them ({some(outside)}); "
            "move these into a class, or away, to train with classes.",
        )
    any_text = bool(texts or unreadable)
    stems = {posixpath.splitext(name)[0] for name in names}
    prefixes = tuple(prefix for prefix, images in parts if images)
    alone = [n for n in sorted(sidecars) if n.startswith(prefixes) and posixpath.splitext(n)[0] not in stems]
    notes = DataReport(
        absent=tuple(_shown(name) for name in alone) if any_text else (),
        without_caption=tuple(_shown(name) for name in names if not texts.get(name)) if any_text else (),
        captions_unreadable=tuple(unreadable),
        remarks=remarks,
    )
    captions = [texts.get(name, "") for name in names] if any_text else None
    return _Described(labels=None if outside else labels, captions=captions, notes=notes)


def _metadata(listing: Listing, images: list[str], prefixes: tuple[str, str]) -> _Described | None:
    """Captions and labels from `metadata.jsonl` or `metadata.csv`, per part or at the root; None without either."""
    said: dict[str, tuple[str | None, str | None]] = {}
    original: dict[str, str] = {}
    files, twice = [], 0
    for prefix in dict.fromkeys((*prefixes, "")):
        name = next((prefix + n for n in ("metadata.jsonl", "metadata.csv") if prefix + n in listing.others), None)
        if name is None:
            continue
        files.append(name)
        for line, record in _records(listing.root / name):
            file_name, caption, label = _record(record, f"{listing.root / name}, line {line}")
            key = unicodedata.normalize("NFC", posixpath.normpath(prefix + file_name.replace("\\", "/")))
            twice += key in said and said[key] != (caption, label)
            said.setdefault(key, (caption, label))
            original.setdefault(key, file_name)
    if not files:
        return None
    known = [said.get(unicodedata.normalize("NFC", name), (None, None)) for name in images]
    there = {unicodedata.normalize("NFC", name) for name in listing.images}
    has_caption, has_label = (any(values[kind] for values in said.values()) for kind in (0, 1))
    missing = tuple(_shown(name) for name, (caption, _) in zip(images, known) if not caption)
    if has_label and not any(label for _, label in known):
        raise ValueError(f"{listing.root / files[0]} labels no existing image; check its file_name column")
    if has_caption and not has_label and not any(caption for caption, _ in known):
        raise ValueError(
            f"{listing.root / files[0]} captions no existing image (the first is '{next(iter(original.values()))}'); "
            "check its file_name column: paths are relative to its directory"
        )
    apart = {posixpath.dirname(name) for name in images} - {prefix.rstrip("/") for prefix in (*prefixes, "")}
    notes = DataReport(
        absent=tuple(original[key] for key in said if key not in there),
        without_caption=missing if has_caption else (),
        remarks=(*(("Directories are not used as classes, because there is metadata.",) if len(apart) > 1 else ()),
                 *((f"{twice:,} lines of metadata that contradict earlier ones, ignored.",) if twice else ())),
    )  # fmt: skip
    return _Described(
        labels=[label for _, label in known] if has_label else None,
        captions=[caption or "" for caption, _ in known] if has_caption else None,
        notes=notes,
    )


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and records of a `.jsonl` or `.csv` file. Raises `ValueError` that names a malformed line."""
    line = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix == ".csv":
                reader = csv.DictReader(file)
                for record in reader:
                    line = reader.line_num
                    yield line, record
                return
            for line, text in enumerate(file, start=1):
                if text.strip():
                    record = json.loads(text)
                    if not isinstance(record, dict):
                        raise ValueError(f'{path}, line {line}: a JSON object was expected, as {{"file_name": ...}}')
                    yield line, record
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (after line {line}); save it as UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {line} is not JSON: {error.msg} at column {error.colno}; correct it") from error
    except csv.Error as error:
        raise ValueError(f"{path}, after line {line}: {error}; correct it") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}; check its rights") from error


def _record(record: dict[str, Any], where: str) -> tuple[str, str | None, str | None]:
    """File name, caption and label of one record."""
    name = record.get("file_name")
    if not isinstance(name, str) or not name or not {"text", "caption", "label", "class"} & set(record):
        raise ValueError(
            f"{where}: `file_name` is needed, with `text` or `caption` and/or `label` or `class`; the columns are "
            f"{', '.join(str(column) for column in record) or 'none'}. Rename them, or the file"
        )

    def text(*columns: str) -> str | None:
        value = next((record[column] for column in columns if record.get(column) is not None), None)
        if isinstance(value, dict | list):
            raise ValueError(f"{where}: `{columns[0]}` must be a text or a number, and is {str(value)[:40]}")
        return None if value is None else str(value).strip() or None

    return name, text("text", "caption"), text("label", "class")


def _shown(name: str) -> str:
    """A file name that can be printed and stored, even if its bytes are not UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
