"""Parquet files of encoded images as a table."""

import contextlib
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from langevin.extras import require
from langevin.modalities.image.byte_store import ByteStore
from langevin.modalities.image.data_report import DataReport
from langevin.modalities.image.sources import TEST_NAMES, Parquet
from langevin.modalities.image.table import Table
from langevin.modalities.image.unreadable import Broken
from langevin.modalities.paths import existing_path, some


def open_parquet(source: Parquet) -> Table:
    """The images of the files, encoded. Raises `ValueError` for a missing column."""
    reader = require("pyarrow.parquet", "Parquet")
    path = existing_path(source.path, "file or folder")
    train, test, remarks = _files(path)
    spool, names, labels, captions = ByteStore(), list[str](), list[str | None](), list[str | None]()
    classes, starts, present = None, [], {"label": False, "caption": False}
    for file in itertools.chain(train, test):
        starts.append(len(names))
        with _named_errors(file):
            opened = reader.ParquetFile(file)
            columns = _columns(source, opened.schema_arrow, file)
            classes = classes or _class_names(opened.schema_arrow.metadata, source.label)
            for batch in opened.iter_batches(batch_size=256, columns=list(columns.values())):
                _add_batch(batch, columns, classes, file, spool, names, labels, captions)
        present = {kind: present[kind] or kind in columns for kind in present}
    unlabelled = [row for row, label in enumerate(labels) if present["label"] and label is None]
    kept = sorted(set(range(len(names))) - set(unlabelled))
    if not kept:
        raise ValueError(f"{path} holds no images: its Parquet files have no rows with an image and a label")
    test_row = starts[len(train)] if test else len(names)
    missing = tuple(names[row] for row in kept if present["caption"] and not captions[row])
    return Table(
        where=str(path),
        names=[names[row] for row in kept],
        fetch=lambda row: spool.read(kept[row]),
        size=source.size,
        channels=source.channels,
        background=source.background,
        labels=[labels[row] or "" for row in kept] if present["label"] else None,
        classes=classes if present["label"] else None,
        captions=[captions[row] or "" for row in kept] if present["caption"] else None,
        forced=source.hold_out_captions,
        test_from=sum(row < test_row for row in kept) if test else None,
        notes=DataReport(
            without_label=tuple(names[r] for r in unlabelled), without_caption=missing, remarks=tuple(remarks)
        ),
        files={".parquet": len(train) + len(test)},
    )


def _files(path: Path) -> tuple[list[Path], list[Path], list[str]]:
    """The files of the training and of the test part, and remarks; a folder without `train*` is one part."""
    if path.is_file():
        return [path], [], []
    for folder in (path, path / "data"):
        files = sorted(file for file in folder.glob("*.parquet") if not file.name.startswith("."))
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
    """Turn pyarrow's errors on damaged files (subclasses of `ValueError` and `OSError`) into `Broken` with its name."""
    try:
        yield
    except (OSError, ValueError) as error:
        if type(error) is ValueError or isinstance(error, Broken):
            raise
        raise Broken(
            f"cannot be read as Parquet ({str(error).strip().splitlines()[0]}); fetch it again", str(file)
        ) from error


def _columns(source: Parquet, schema: Any, file: Path) -> dict[str, str]:
    """The columns to read. The image column must exist, the others only if their names are not the defaults."""
    columns = {}
    for kind, name in (("image", source.image), ("label", source.label), ("caption", source.caption)):
        if name in schema.names:
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
    except (KeyError, TypeError, ValueError):
        return None
    return tuple(str(name) for name in names) if isinstance(names, list) else None


def _add_batch(
    batch: Any,
    columns: dict[str, str],
    classes: tuple[str, ...] | None,
    file: Path,
    spool: ByteStore,
    names: list[str],
    labels: list[str | None],
    captions: list[str | None],
) -> None:
    """Append the rows of one batch to the lists."""
    values = {kind: batch.column(name).to_pylist() for kind, name in columns.items()}
    empty = [None] * batch.num_rows
    for image, label, caption in zip(values["image"], values.get("label", empty), values.get("caption", empty)):
        content, name = (image.get("bytes"), image.get("path")) if isinstance(image, dict) else (image, None)
        spool.append(content or b"")  # an empty image is reported as broken when it is decoded
        names.append(name or f"{file.name}:{len(names)}")
        if isinstance(label, int) and classes is not None:
            if label >= len(classes):
                raise ValueError(f"{file}: {names[-1]} has the label {label}, but there are {len(classes)} class names")
            label = None if label < 0 else classes[label]  # the `datasets` library writes -1 for a missing label
        labels.append(None if label is None else str(label))
        captions.append(None if caption is None else str(caption).strip())
