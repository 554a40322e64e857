"""Scores at a path: MIDI files, a JSON of pieces in parts, or a Parquet file with a column of MIDI files."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np

from langevin.extras import require
from langevin.modalities.content import content, is_folder, size_of
from langevin.modalities.modality import Progress
from langevin.modalities.music import midi
from langevin.modalities.music.piece import Piece, of_pitches
from langevin.modalities.parquet_pages import BadPages, batches, first_bytes
from langevin.modalities.paths import existing_path, is_about, regular, some, walk

SUFFIXES = (".mid", ".midi")
MAGIC = b"MThd"
MOST_BROKEN = 0.1  # of the scores
LARGEST_JSON = 2**26  # bytes
MOST_NOTES = 20_000_000  # of all scores
Part = Literal["train", "valid", "test"]
PARTS: dict[str, Part] = {"train": "train", "valid": "valid", "validation": "valid", "test": "test"}
_PIECES = re.compile(rb'\s*\{\s*"(train|valid|validation|test)"\s*:\s*\[\s*\[\s*\[')


@dataclass(kw_only=True)
class Read:
    """The pieces of each part, a source without parts has them all in `train`; (where, why) of what was left out."""

    pieces: dict[Part, list[Piece]] = field(default_factory=lambda: {"train": [], "valid": [], "test": []})
    broken: list[tuple[str, str]] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    drums: int = 0
    notes: int = 0

    def add(self, piece: Piece, part: Part = "train") -> None:
        """Take a piece. Raises `ValueError` if there are more notes than fit into memory."""
        self.notes += len(piece.notes)
        if self.notes > MOST_NOTES:
            raise ValueError(f"{piece.name}: with it there are more than {MOST_NOTES:,} notes: train on fewer scores")
        self.pieces[part].append(piece)

    @property
    def remarks(self) -> list[str]:
        """What was left out, besides broken scores."""
        lines = [f"Notes of drums, left out: {self.drums:,}."] if self.drums else []
        if self.silent:
            lines.append(f"Scores without notes, left out: {len(self.silent):,} ({some(self.silent)}).")
        return lines


def detect(path: Path) -> tuple[float, str] | None:
    """(fraction of the files that are scores, reason), or None if there are none."""
    if regular(path):
        if path.suffix.lower() == ".parquet":
            return (1.0, "a Parquet file with a column of MIDI files") if midi_columns(path) else None
        if path.suffix.lower() in (*SUFFIXES, ".json"):
            try:
                with path.open("rb") as file:
                    head = file.read(256)
            except OSError:
                return None
            if path.suffix.lower() == ".json":
                return (1.0, "a JSON file of pieces in parts") if _PIECES.match(head) else None
            return (1.0, "a MIDI file") if head.startswith(MAGIC) else None
        return None
    if not is_folder(path):
        return None
    every = [name for name in walk(path) if not is_about(name)]
    count = sum(PurePosixPath(name).suffix.lower() in SUFFIXES for name in every)
    others = len(every) - count
    rest = f" and {others:,} other {'file' if others == 1 else 'files'}" if others else ""
    return (count / len(every), f"{count:,} MIDI {'file' if count == 1 else 'files'}{rest}") if count else None


def midi_columns(path: Path) -> list[str]:
    """The columns of a Parquet file whose first value is a MIDI file."""
    return [name for name, head in first_bytes(path).items() if head.startswith(MAGIC)]


def read(path: str, *, steps_per_quarter: int, progress: Progress | None = None) -> Read:
    """All pieces at a path.

    Raises:
        ValueError: there are none, or more than a tenth of the scores are broken."""
    where, result = existing_path(path, "file or folder"), Read()
    if where.suffix.lower() == ".json" and not where.is_dir():
        _read_json(where, result, steps_per_quarter)
    else:
        require("mido", "MIDI")
        scores = _of_parquet(where) if where.suffix.lower() == ".parquet" and not where.is_dir() else _of_files(where)
        for name, content, done, total in scores:
            try:
                if isinstance(content, str):
                    raise ValueError(content)
                piece, drums = midi.read(content, name=name, steps_per_quarter=steps_per_quarter)
            except midi.Silent as silent:
                result.silent.append(name)
                result.drums += silent.drums
            except ValueError as error:
                result.broken.append((name, str(error)))
            else:
                result.drums += drums
                result.add(piece)
            if progress:
                progress(done, total)
    _require_usable(where, result)
    return result


def _require_usable(where: Path, result: Read) -> None:
    pieces = sum(map(len, result.pieces.values()))
    count, broken = pieces + len(result.broken) + len(result.silent), len(result.broken)
    reasons = some([f"{name} {reason}" for name, reason in result.broken], between="; ")
    if broken > MOST_BROKEN * count:
        raise ValueError(f"{where}: {broken:,} of {count:,} scores cannot be read: {reasons}. Repair or remove them")
    if not pieces:
        without = f": {some(result.silent)} have none" if result.silent else ""
        raise ValueError(f"{where} holds no scores with notes{without}")


def _of_files(path: Path) -> Iterator[tuple[str, bytes | str, int, int]]:
    """(name, content or why it has none, number of files read, of all files)."""
    names = [name for name in walk(path) if name.lower().endswith(SUFFIXES)] if is_folder(path) else [path.name]
    if not names:
        raise ValueError(f"{path} holds no score: looked for {' '.join(SUFFIXES)} in it and its sub-directories")
    for done, name in enumerate(names, start=1):
        file = path / name if is_folder(path) else path
        yield name, content_of(file), done, len(names)


def content_of(file: Path) -> bytes | str:
    """The bytes of a file, or why it cannot be read."""
    try:
        if not regular(file):
            return "is not a regular file"
        if (size := size_of(file)) > midi.LARGEST_FILE:
            return f"has {size:,} bytes, more than the {midi.LARGEST_FILE:,} of a score"
        return content(file)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"


def _of_parquet(path: Path) -> Iterator[tuple[str, bytes | str, int, int]]:
    reader = require("pyarrow.parquet", "Parquet")
    from pyarrow import ArrowException

    columns = midi_columns(path)
    if len(columns) != 1:
        raise ValueError(f"{path} has {len(columns)} columns of MIDI files, and one is read: leave one in it")
    try:
        opened, done = reader.ParquetFile(path), 0
        total = opened.metadata.num_rows
        for batch in batches(opened, path, columns, most=64):
            for cell in batch.column(columns[0]).to_pylist():
                done += 1
                content = cell.get("bytes") if isinstance(cell, dict) else cell
                yield f"{path.name}:{done - 1}", content or "is empty", done, total
    except BadPages as error:
        raise ValueError(f"{path} {error}") from error
    except (OSError, MemoryError, ArrowException) as error:
        raise ValueError(f"{path} cannot be read as Parquet ({str(error)[:100]}): fetch it again") from error


def _read_json(path: Path, result: Read, steps_per_quarter: int) -> None:
    """Pieces of steps of pitches by part. The grid of such a file is taken for that of the run."""
    if not regular(path) or path.stat().st_size > LARGEST_JSON:
        raise ValueError(f"{path} is no regular file of at most {LARGEST_JSON:,} bytes")
    try:
        tree = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not readable as JSON: {str(error)[:100]}") from error
    named = tree.items() if isinstance(tree, dict) else ()
    known: dict[Part, Any] = {PARTS[name]: pieces for name, pieces in named if name in PARTS}
    if "train" not in known or not all(isinstance(pieces, list) for pieces in known.values()):
        raise ValueError(f'{path} should hold {{"train": pieces, "valid": pieces, "test": pieces}}; it does not')
    for part, pieces in known.items():
        for number, piece in enumerate(pieces):
            name = f"{path.name}, {part} {number}"
            try:
                pitch = _pitches(piece)
            except ValueError as error:
                result.broken.append((name, str(error)))
                continue
            if (pitch < 0).all():
                result.silent.append(name)
            else:
                bar = 4 * steps_per_quarter  # the last bar is whole: what is left over is before the first
                result.add(of_pitches(pitch, name=name, bar=bar, upbeat=len(pitch) % bar), part)


def _pitches(piece: Any) -> np.ndarray:
    """(steps, voices) pitches, -1 for silence. Raises `ValueError` for anything else."""
    if not isinstance(piece, list) or not 1 <= len(piece) <= midi.MOST_STEPS:
        raise ValueError(f"is no list of 1 to {midi.MOST_STEPS:,} steps")
    width = len(piece[0]) if isinstance(piece[0], list) else 0
    if not 1 <= width <= 128 or any(not isinstance(step, list) or len(step) != width for step in piece):
        raise ValueError("has steps that are not lists of equally many pitches, 1 to 128")
    if not all(_is_pitch(pitch) for step in piece for pitch in step):
        raise ValueError("has pitches other than 0 to 127, or -1 or null for silence")
    return np.array([[-1 if pitch is None else int(pitch) for pitch in step] for step in piece], np.int16)


def _is_pitch(pitch: Any) -> bool:
    number = isinstance(pitch, int | float) and not isinstance(pitch, bool)
    return pitch is None or (number and -1 <= pitch <= 127 and pitch == int(pitch))


def names_of(pieces: Iterable[Piece]) -> str:
    """The names of the first few pieces."""
    return some([piece.name for piece in pieces])
