"""Parquet files of encoded images as a table."""

import contextlib
import itertools
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from langevin.extras import require
from langevin.modalities.image.byte_store import ByteStore
from langevin.modalities.image.data_report import DataReport
from langevin.modalities.image.paths import LONGEST_TEXT, shown
from langevin.modalities.image.sources import TEST_NAMES, Parquet
from langevin.modalities.image.table import Table
from langevin.modalities.image.unreadable import Broken
from langevin.modalities.parquet_pages import LARGEST_CELL, BadPages, batches, unpacked_sizes
from langevin.modalities.paths import existing_path, regular, some, stamp
from langevin.modalities.row_groups import LIMIT, Group, RowGroups

IN_MEMORY = 2**28  # bytes of files whose images are kept in memory; others are read by row groups
LARGEST_GROUP = LIMIT // 4  # bytes of a row group that is unpacked as a whole
_UNPACKED = 64  # times the size of its file that data may be, beyond LARGEST_CELL


@dataclass(kw_only=True)
class _Rows:
    """The rows of all files, appended one by one; `left` is how many bytes more they may have."""

    left: int
    spool: ByteStore = field(default_factory=ByteStore)
    names: list[str] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    captions: list[str | None] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)

    def add(self, image: Any, label: Any, caption: Any, classes: tuple[str, ...] | None, file: Path) -> None:
        """Append a row.

        Raises:
            ValueError: a label out of range, or more data than can be meant."""
        content, name = (image.get("bytes"), image.get("path")) if isinstance(image, dict) else (image, None)
        content = content or b""  # an empty image is reported as broken when it is decoded
        row = f"{file.name}:{len(self.names)}"
        if len(content) > LARGEST_CELL:
            raise Broken(f"holds an image of {len(content):,} bytes in {row}, more than {LARGEST_CELL:,}")
        self.left -= len(content) + sum(len(text) for text in (label, caption) if isinstance(text, bytes))
        if self.left < 0:
            raise Broken(f"holds more than {_UNPACKED} times its size when unpacked: it may be made to fill the memory")
        self.spool.append(content)
        self.names.append(
            shown(name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)) if name else row
        )
        if isinstance(label, int) and classes is not None:
            if label >= len(classes):
                raise ValueError(
                    f"{file}: {self.names[-1]} has the label {label}, but there are {len(classes)} class names"
                )
            label = None if label < 0 else classes[label]  # the `datasets` library writes -1 for a missing label
        self.labels.append(self._text(label, "label"))
        self.captions.append(self._text(caption, "caption"))

    def _text(self, value: Any, what: str) -> str | None:
        if isinstance(value, bytes):
            if len(value) > LONGEST_TEXT:
                self.unreadable.append((self.names[-1], f"has a {what} of more than {LONGEST_TEXT:,} bytes"))
                return None
            try:
                value = value.decode()
            except UnicodeDecodeError:
                self.unreadable.append((self.names[-1], f"has a {what} that is not UTF-8 text"))
                return None
        return None if value is None else str(value).strip() if what == "caption" else str(value)


def open_parquet(source: Parquet) -> Table:
    """The images of the files, encoded. Raises `ValueError` for a missing column, `Broken` for a damaged file."""
    reader = require("pyarrow.parquet", "Parquet")
    path = existing_path(source.path, "file or folder")
    train, test, remarks = _files(path)
    size = sum(file.stat().st_size for file in (*train, *test))
    if size > IN_MEMORY and (paged := _paged(source, path, [*train, *test])) is not None:
        return replace(
            paged, test_from=_count(train) if test else None, notes=replace(paged.notes, remarks=tuple(remarks))
        )
    rows = _Rows(left=_UNPACKED * size + LARGEST_CELL)
    classes, starts, present = None, [], {"label": False, "caption": False}
    for file in itertools.chain(train, test):
        starts.append(len(rows.names))
        with _named_errors(file):
            opened = reader.ParquetFile(file, buffer_size=2**20)
            columns = _columns(source, opened.schema_arrow, file)
            classes = classes or _class_names(opened.schema_arrow.metadata, source.label)
            for batch in batches(opened, file, list(columns.values()), most=256):
                values = {kind: _values(batch.column(name)) for kind, name in columns.items()}
                empty: list[Any] = [None] * batch.num_rows
                for image, label, caption in zip(
                    values["image"], values.get("label", empty), values.get("caption", empty)
                ):
                    rows.add(image, label, caption, classes, file)
        present = {kind: present[kind] or kind in columns for kind in present}
    table = _table(source, path, rows, classes, present)
    notes = replace(table.notes, remarks=tuple(remarks))
    return replace(table, test_from=starts[len(train)] if test else None, notes=notes, files={".parquet": len(starts)})


def _table(
    source: Parquet, path: Path, rows: _Rows, classes: tuple[str, ...] | None, present: dict[str, bool]
) -> Table:
    names, labels, captions = rows.names, rows.labels, rows.captions
    unlabelled = [row for row, label in enumerate(labels) if present["label"] and label is None]
    if not names:
        raise ValueError(f"{path} holds no images: its Parquet files have no rows")
    labelled = len(unlabelled) < len(names) and present["label"]
    missing = tuple(name for name, caption in zip(names, captions) if present["caption"] and not caption)
    return Table(
        where=str(path),
        names=names,
        fetch=rows.spool.read,
        encoded=rows.spool.size,
        size=source.size,
        channels=source.channels,
        background=source.background,
        labels=labels if labelled else None,
        classes=classes if labelled else None,
        captions=[caption or "" for caption in captions] if present["caption"] else None,
        forced=source.hold_out_captions,
        notes=DataReport(
            without_label=tuple(names[r] for r in unlabelled) if labelled else (),
            without_caption=missing,
            captions_unreadable=tuple(rows.unreadable),
        ),
    )


def _count(files: list[Path]) -> int:
    reader = require("pyarrow.parquet", "Parquet")
    return sum(reader.read_metadata(file).num_rows for file in files)


def _paged(source: Parquet, path: Path, files: list[Path]) -> Table | None:
    """The images of files, read by row groups when they are needed; None if a group is too large to be read at once."""
    reader = require("pyarrow.parquet", "Parquet")
    rows, groups, classes = _Rows(left=2**62), list[Group](), None
    present = {"label": False, "caption": False}
    for file in files:
        with _named_errors(file):
            opened = reader.ParquetFile(file, buffer_size=2**20)
            columns = _columns(source, opened.schema_arrow, file)
            classes = classes or _class_names(opened.schema_arrow.metadata, source.label)
            said = {kind: name for kind, name in columns.items() if kind != "image"}
            for number, unpacked in enumerate(unpacked_sizes(file, columns["image"])):
                count = opened.metadata.row_group(number).num_rows
                if unpacked > LARGEST_GROUP:
                    return None
                groups.append(Group(file=file, number=number, rows=count, unpacked=unpacked))
                read = batches(opened, file, list(said.values()), most=4096, group=number) if said else ()
                cells: dict[str, list[Any]] = {kind: [] if kind in said else [None] * count for kind in present}
                for batch in read:
                    for kind, name in said.items():
                        cells[kind] += _values(batch.column(name))
                if any(len(values) != count for values in cells.values()):
                    raise Broken("is damaged: its columns have different numbers of rows")
                for label, caption in zip(cells["label"], cells["caption"]):
                    rows.add(b"", label, caption, classes, file)
            present = {kind: present[kind] or kind in columns for kind in present}
    stored = RowGroups(groups, partial(_load, source))
    table = replace(_table(source, path, rows, classes, present), fetch=stored.read, encoded=None)
    names = [os.path.relpath(file, path.parent) for file in files]
    return replace(
        table, shards=stored.shards, window=stored.window, files={".parquet": len(files)},
        stamp=partial(stamp, path.parent, names),
    )  # fmt: skip


def _load(source: Parquet, group: Group) -> list[bytes]:
    """The encoded images of a row group. Raises `Broken`."""
    reader = require("pyarrow.parquet", "Parquet")
    with _named_errors(group.file), reader.ParquetFile(group.file, buffer_size=2**20) as opened:
        cells = [
            cell.get("bytes") if isinstance(cell, dict) else cell
            for batch in batches(opened, group.file, [source.image], most=256, group=group.number)
            for cell in _values(batch.column(source.image))
        ]
    if len(cells) != group.rows:
        raise Broken(f"has changed: {len(cells):,} rows where {group.rows:,} were; start again", str(group.file))
    return [cell or b"" for cell in cells]


def _values(column: Any) -> list[Any]:
    """The cells as Python objects, texts as bytes, as one that is not UTF-8 would make all unreadable."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_struct(column.type):
        parts = {
            name: _values(column.field(name)) for name in ("bytes", "path") if column.type.get_all_field_indices(name)
        }
        valid = column.is_valid().to_pylist()
        return [dict(zip(parts, cells)) if there else None for there, *cells in zip(valid, *parts.values())]
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = column.cast(pa.large_binary() if pa.types.is_large_string(column.type) else pa.binary())
    return column.to_pylist()


def _files(path: Path) -> tuple[list[Path], list[Path], list[str]]:
    """The files of the training and of the test part, and remarks; a folder without `train*` is one part."""
    if not path.is_dir():
        if not regular(path):
            raise ValueError(f"{path} is not a regular file: name a .parquet file or a folder of such")
        return [path], [], []
    for folder in (path, path / "data"):
        files = sorted(file for file in folder.glob("*.parquet") if not file.name.startswith(".") and regular(file))
        train = [file for file in files if file.name.startswith("train")]
        parts = [[file for file in files if re.match(rf"{name}\b|{name}[-_.]", file.name)] for name in TEST_NAMES]
        test = next((part for part in parts if part), [])
        if train:
            left = [file.name for file in files if file not in train + test]
            return train, test, [f"Parquet files that are not used: {len(left)} ({some(left)})."] if left else []
        if files:
            return files, [], []
    raise ValueError(f"{path} holds no .parquet file; looked in it and in {path / 'data'}")


@contextlib.contextmanager
def _named_errors(file: Path) -> Iterator[None]:
    """Turn pyarrow's errors on damaged files, and those of its memory, into `Broken` with its name."""
    from pyarrow import ArrowException

    try:
        yield
    except Broken as error:
        raise Broken(error.reason, error.name or str(file)) from error
    except BadPages as error:
        raise Broken(str(error), str(file)) from error
    except (OSError, ValueError, MemoryError, ArrowException) as error:
        if type(error) is ValueError:
            raise
        reason = shown(next(iter(str(error).strip().splitlines()), type(error).__name__)[:200])
        raise Broken(f"cannot be read as Parquet ({reason}); fetch it again", str(file)) from error


def _columns(source: Parquet, schema: Any, file: Path) -> dict[str, str]:
    """The columns to read. The image column must exist, the others only if their names are not the defaults."""
    columns = {}
    for kind, name in (("image", source.image), ("label", source.label), ("caption", source.caption)):
        if name in schema.names:
            if schema.names.count(name) > 1:
                raise ValueError(f"{file} has more than one column {name!r}: rename all but one")
            columns[kind] = name
        elif kind == "image" or name != {"label": "label", "caption": "text"}[kind]:
            there = ", ".join(f"{column.name} ({str(column.type)[:40]})" for column in schema)
            raise ValueError(
                f"{file} has no column {name!r} for the {kind}; its columns are {there}. Name one by data.{kind}_column"
            )
    kind = str(schema.field(source.image).type)
    if not re.match(r"(large_)?binary|struct<.*\bbytes: (large_)?binary", kind):
        raise ValueError(
            f"{file}: column {source.image!r} is {kind}; an encoded image is expected, as binary or as a struct with bytes"
        )
    return columns


def _class_names(metadata: dict[bytes, bytes] | None, column: str) -> tuple[str, ...] | None:
    """Class names that the `datasets` library stored in the schema, or None."""
    try:
        names = json.loads((metadata or {})[b"huggingface"])["info"]["features"][column]["names"]
        return tuple(shown(str(name)) for name in names) if isinstance(names, list) else None
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
