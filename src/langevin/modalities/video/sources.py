"""Where clips come from: a folder, a Parquet file of strips, or a source that makes them.

A source lists `Record`s: a name, what is said of the clip, and how to read it.
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from langevin.extras import require
from langevin.modalities.animations import ANIMATIONS, FRAMES, is_animated
from langevin.modalities.content import is_folder, text_of
from langevin.modalities.parquet_pages import BadPages, batches
from langevin.modalities.paths import existing_path, is_about, regular, some, walk
from langevin.modalities.video.clip_files import (
    FILMS,
    HIGHEST_FPS,
    LOWEST_FPS,
    PICTURES,
    Broken,
    Clip,
    Look,
    read_clip,
    strip,
)

TEST_NAMES = ("test", "valid", "validation", "val", "dev")
DESCRIBING = (".jsonl", ".csv", ".txt")  # suffixes of files that say what clips show
TEXT = ("text", "caption", "description", "label", "class")  # columns with what a clip shows, the first one counts
MOST_NAMES = 100  # different values of a column up to which it is a label


@dataclass(frozen=True, kw_only=True, eq=False)
class Record:
    """A clip that was not read yet.

    Args:
        read: reads it; raises `Broken`.
        text: its caption.
        labels: what further columns say, by column.
        test: whether it belongs to a test part of the data's own.
    """

    name: str
    read: Callable[[Look], Clip]
    text: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    test: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Listing:
    """The records of some data, and sentences about the rest."""

    where: str
    records: Sequence[Record]
    remarks: tuple[str, ...] = ()


def clips_in(root: Path) -> tuple[list[str], list[str]]:
    """The clips under a folder, and all other files. Films and animations; without any, folders of two frames or more."""
    every = [name for name in walk(root) if not is_about(name)]
    films = [name for name in every if PurePosixPath(name).suffix.lower() in FILMS]
    moving = [n for n in every if PurePosixPath(n).suffix.lower() in ANIMATIONS and is_animated(root / n)]
    found = sorted({*films, *moving})
    if found:
        return found, sorted(set(every) - set(found))
    folders = dict[str, list[str]]()
    for name in every:
        if PurePosixPath(name).suffix.lower() in PICTURES and "/" in name:
            folders.setdefault(str(PurePosixPath(name).parent), []).append(name)
    framed = sorted(folder for folder, names in folders.items() if len(names) > 1)
    used = {name for folder in framed for name in folders[folder]}
    return framed, sorted(set(every) - used)


def open_path(path: str) -> Listing:
    """The records at a path.

    Raises:
        ValueError: nothing is there, or metadata that cannot be read."""
    root = existing_path(path, "file or folder")
    if root.suffix.lower() == ".parquet":
        return _parquet(root)
    if not is_folder(root):
        return Listing(where=path, records=[Record(name=root.name, read=lambda look: read_clip(root, look))])
    names, others = clips_in(root)
    if not names:
        raise ValueError(
            f"{root} holds no clips: animations ({', '.join(ANIMATIONS)}), films ({', '.join(FILMS)}), or folders of frames"
        )
    said, remarks = _described(root, names, others)
    ignored = [name for name in others if PurePosixPath(name).suffix.lower() not in DESCRIBING]
    if ignored:
        remarks.append(f"Files that are no clips, or have one frame, left out: {len(ignored):,} ({some(ignored)}).")
    test = _test_prefixes(names)
    records = [
        Record(
            name=name, read=lambda look, file=root / name: read_clip(file, look),
            text=said.get(name, {}).get("text"),
            labels={key: value for key, value in said.get(name, {}).items() if key != "text"},
            test=name.startswith(test),
        )
        for name in names
    ]  # fmt: skip
    return Listing(where=path, records=records, remarks=tuple(remarks))


def _test_prefixes(names: Sequence[str]) -> tuple[str, ...]:
    """The directories of what is held out, beside one called train."""
    tops = {name.partition("/")[0].lower(): name.partition("/")[0] + "/" for name in names if "/" in name}
    return tuple(tops[name] for name in TEST_NAMES if name in tops) if "train" in tops else ()


def _described(root: Path, names: list[str], others: list[str]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """What is said of each clip: by metadata, a text of its name, or its folder."""
    said, remarks = dict[str, dict[str, str]](), list[str]()
    files = [name for name in others if PurePosixPath(name).name.lower() in ("metadata.jsonl", "metadata.csv")]
    missing = list[str]()
    for file in files:
        prefix = str(PurePosixPath(file).parent)
        for line, fields in _metadata(root / file):
            name = fields.pop("file_name", "")
            if not name:
                raise ValueError(f"{root / file}, line {line}: there is no file_name, the clip that the line describes")
            name = name if prefix == "." else f"{prefix}/{name}"
            text = next((fields[key] for key in TEXT if fields.get(key)), None)
            said[name] = {**fields, **({"text": text} if text else {})}
            if name not in names:
                missing.append(name)
    if missing:
        remarks.append(f"Described, but not there: {len(missing):,} ({some(missing)}).")
    if files:
        return said, remarks
    texts = {str(PurePosixPath(name).with_suffix("")): name for name in others if name.lower().endswith(".txt")}
    for name in names:
        if (file := texts.pop(str(PurePosixPath(name).with_suffix("")), None)) is not None and regular(root / file):
            text = " ".join(text_of(root / file, errors="replace").split())
            said[name] = {"text": text} if text else {}
    if texts:
        remarks.append(f"Texts without a clip of their name: {len(texts):,} ({some(sorted(texts.values()))}).")
    if not any(said.values()):
        skipped = {"train", *TEST_NAMES}
        parts = {name: [p for p in PurePosixPath(name).parts[:-1] if p.lower() not in skipped] for name in names}
        if all(parts.values()) and len({tuple(p[:1]) for p in parts.values()}) > 1:
            said = {name: {"text": p[0].replace("_", " "), "class": p[0]} for name, p in parts.items()}
    return said, remarks


def _metadata(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Lines of a metadata file, as texts by column. Raises `ValueError` for one that cannot be read."""
    content = text_of(file, errors="replace")
    if file.suffix.lower() == ".csv":
        for line, fields in enumerate(csv.DictReader(content.splitlines()), 2):
            yield line, {key: value for key, value in fields.items() if key and value is not None}
        return
    for line, text in enumerate(content.splitlines(), 1):
        if not text.strip():
            continue
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file}, line {line}: this is no JSON ({error})") from error
        if not isinstance(fields, dict):
            raise ValueError(f"{file}, line {line}: a line is an object with file_name and text")
        yield line, {str(k): str(v) for k, v in fields.items() if isinstance(v, str | int | float | bool)}


def _parquet(path: Path) -> Listing:
    """Clips as pictures with the frames side by side: columns frames, fps, a text and labels."""
    reader, records = require("pyarrow.parquet", "Parquet"), list[Record]()
    try:
        with reader.ParquetFile(path, buffer_size=2**20) as opened:
            columns = [str(name) for name in opened.schema_arrow.names]
            frames = next((name for name in FRAMES if name in columns), None)
            if frames is None:
                raise ValueError(f"{path} has no column of clips ({' or '.join(FRAMES)}); its columns: {some(columns)}")
            names = _class_names(opened.schema_arrow.metadata)
            for batch in batches(opened, path, columns, most=256):
                for values in batch.to_pylist():
                    records.append(_record(path, len(records), values, frames, names))
    except BadPages as error:
        raise ValueError(f"{path} {error}") from error
    except (OSError, MemoryError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not records:
        raise ValueError(f"{path} holds no clips")
    return Listing(where=str(path), records=records)


def _record(path: Path, number: int, values: Mapping[str, Any], frames: str, names: Mapping[str, list[str]]) -> Record:
    cell, fps = values[frames], values.get("fps")
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    text = next((str(values[key]) for key in TEXT if values.get(key) is not None), None)
    labels = {
        key: names[key][value]
        if key in names and isinstance(value, int) and 0 <= value < len(names[key])
        else str(value)
        for key, value in values.items()
        if isinstance(value, str | int) and key not in (frames, "fps", *TEXT[:3])
    }

    def read(look: Look) -> Clip:
        if not isinstance(content, bytes):
            raise Broken("is empty")
        if fps is not None and not (isinstance(fps, int | float) and LOWEST_FPS <= fps <= HIGHEST_FPS):
            raise Broken(f"has {fps} frames a second")
        return strip(content, look, float(fps or 10))

    return Record(name=f"{path.name}:{number}", read=read, text=text, labels=labels)


def _class_names(metadata: Mapping[bytes, bytes] | None) -> dict[str, list[str]]:
    """The names of label columns, as the library `datasets` stores them."""
    try:
        features = json.loads((metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return {key: list(map(str, f["names"])) for key, f in features.items() if isinstance(f, dict) and "names" in f}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
