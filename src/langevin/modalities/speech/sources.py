"""Recordings of a folder with what is said of them: which files, which words, whose voice.

Layouts, in this order: `metadata.jsonl` or `metadata.csv` with a column `file_name` and columns `text` (or `transcription`,
`sentence`) and `speaker` (or `label`); the layout of LJSpeech, `metadata.csv` of lines `id|text|normalised text` beside
`wavs/`; a `.txt` file beside each recording; directories, one per speaker or class. Directories `train/` and `test/` (or
`valid`, `validation`, `val`, `dev`) are the parts.
"""

import csv
import json
import posixpath
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from langevin.modalities.content import is_folder, opened_text, size_of, text_of
from langevin.modalities.paths import existing_path, is_about, regular, some, walk
from langevin.modalities.speech.sound_files import SUFFIXES

TEST_NAMES = ("test", "valid", "validation", "val", "dev")
LONGEST_TEXT = 1 << 20  # bytes of a transcript, or characters of a line of metadata
_TEXT, _SPEAKER = ("text", "transcription", "transcript", "sentence", "caption"), ("speaker", "label", "class")


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A sound file, with its text and its speaker (or class), where they are known."""

    name: str
    text: str | None = None
    speaker: str | None = None
    test: bool = False


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The recordings under a root, in the order of their names.

    Args:
        described_by: where texts and speakers come from, in words.
        missing: files that a description names and that do not exist.
        remarks: sentences about the rest.
    """

    root: Path
    recordings: tuple[Recording, ...]
    described_by: str
    missing: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    other: int = 0  # files that are neither sound nor about it

    @property
    def has_text(self) -> bool:
        return any(recording.text for recording in self.recordings)


@dataclass(kw_only=True)
class _Said:
    """What a description says, by file name."""

    texts: dict[str, str] = field(default_factory=dict)
    speakers: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    named: set[str] = field(default_factory=set)


def find(path: str) -> Listing:
    """The recordings of a folder, or of one file.

    Raises:
        ValueError: no such path, no sound in it, or a description that cannot be read."""
    root = existing_path(path, "file or folder")
    if not is_folder(root):
        if root.suffix.lower() not in SUFFIXES:
            raise ValueError(f"{root} is no sound file; known are {', '.join(SUFFIXES)}")
        return Listing(root=root.parent, recordings=(Recording(name=root.name),), described_by="nothing")
    every = walk(root)
    sounds = [name for name in every if PurePosixPath(name).suffix.lower() in SUFFIXES]
    if not sounds:
        raise ValueError(f"{root} holds no sound file; known are {', '.join(SUFFIXES)}")
    described = set(every) - set(sounds)
    train, test = _parts(sounds)
    used = sounds if test is None else [name for name in sounds if name.startswith((train, test))]
    said, layout = _described(root, used, described, [p for p in (train, test, "") if p is not None])
    recordings = tuple(
        Recording(
            name=name, text=said.texts.get(name), speaker=said.speakers.get(name),
            test=test is not None and name.startswith(test),
        )
        for name in used
    )  # fmt: skip
    without = [r.name for r in recordings if said.texts and not r.text]
    missing = tuple(sorted(said.named - set(sounds)))
    remarks = list(said.remarks)
    if without:
        remarks.append(f"Recordings without a transcript, left out: {len(without):,} ({some(without)}).")
    if missing:
        remarks.append(f"Described, but not there: {len(missing):,} ({some(missing)}).")
    if len(used) < len(sounds):
        remarks.append(f"Recordings outside {train} and {test}, not used: {len(sounds) - len(used):,}.")
    if said.texts:
        recordings = tuple(r for r in recordings if r.text)
        if not recordings:
            raise ValueError(
                f"{root}: none of {len(used):,} recordings has a transcript; check the file names in {layout}"
            )
    other = sum(not is_about(name) and not _describes(name) for name in described)
    return Listing(
        root=root, recordings=recordings, described_by=layout, missing=missing, remarks=tuple(remarks), other=other
    )


def _describes(name: str) -> bool:
    path = PurePosixPath(name.lower())
    return path.name in ("metadata.csv", "metadata.jsonl") or path.suffix == ".txt"


def _parts(sounds: list[str]) -> tuple[str, str | None]:
    """The prefixes of the training and the test part; ("", None) where there are none."""
    tops = {name.partition("/")[0].lower(): name.partition("/")[0] + "/" for name in sounds if "/" in name}
    test = next((tops[name] for name in TEST_NAMES if name in tops), None)
    return (tops["train"], test) if "train" in tops and test is not None else ("", None)


def _described(root: Path, sounds: list[str], others: set[str], prefixes: list[str]) -> tuple[_Said, str]:
    """What is said of the recordings, and where."""
    said, files = _Said(), []
    for prefix in dict.fromkeys(prefixes):
        name = next((prefix + n for n in ("metadata.jsonl", "metadata.csv") if prefix + n in others), None)
        if name is not None:
            files.append(name)
            _read_metadata(root / name, prefix, set(sounds), said)
    if files:
        return said, " and ".join(files)
    for name in sounds:
        beside = posixpath.splitext(name)[0] + ".txt"
        if beside in others and (text := _transcript(root / beside, said)):
            said.texts[name] = text
    stems = {posixpath.splitext(name)[0] for name in sounds}
    alone = [
        n
        for n in sorted(others)
        if n.lower().endswith(".txt") and posixpath.splitext(n)[0] not in stems and not is_about(n)
    ]
    if said.texts and alone:
        said.remarks.append(f"Transcripts without a recording: {len(alone):,} ({some(alone)}).")
    inside = {name: _directory(name, prefixes) for name in sounds}
    if all(inside.values()) and len(set(inside.values())) > 1:
        said.speakers.update({name: directory for name, directory in inside.items() if directory})
    layout = "text files beside the recordings" if said.texts else "directories" if said.speakers else "file names"
    return said, layout


def _directory(name: str, prefixes: list[str]) -> str:
    """The first directory of a name, after the prefix of its part."""
    prefix = max((p for p in prefixes if name.startswith(p)), key=len)
    top, slash, _ = name.removeprefix(prefix).partition("/")
    return top if slash else ""


def _transcript(path: Path, said: _Said) -> str:
    try:
        if not regular(path) or size_of(path) > LONGEST_TEXT:
            raise ValueError("is no text file of less than a megabyte")
        return " ".join(text_of(path).split())
    except (ValueError, OSError) as error:
        said.remarks.append(f"The transcript {path.name} cannot be read: {str(error).partition(chr(10))[0]}.")
        return ""


# ---------------------------------------------------------------------------------------------------------- metadata


def _read_metadata(path: Path, prefix: str, sounds: set[str], said: _Said) -> None:
    """Add what a file of metadata says.

    Raises:
        ValueError: more than one record in ten is unreadable; the message names the first."""
    lost = list[tuple[int, str]]()
    count = 0
    folders = (prefix, prefix + "wavs/")
    for line, record in _records(path):
        count += 1
        if isinstance(record, str):
            lost.append((line, record))
            continue
        name, text, speaker = record
        candidates = [posixpath.normpath(folder + name.replace("\\", "/")) for folder in folders]
        candidates += [c + suffix for c in candidates for suffix in SUFFIXES]
        found = next((c for c in candidates if c in sounds), candidates[0])
        said.named.add(found)
        if text:
            said.texts.setdefault(found, text)
        if speaker:
            said.speakers.setdefault(found, speaker)
    if count == 0 or 10 * len(lost) > count:
        where, why = lost[0] if lost else (1, "is missing: the file holds no record")
        raise ValueError(f"{path}, line {where} {why}; correct it")
    said.remarks += [f"{path.name}, line {line} {why}; left out." for line, why in lost[:3]]


def _records(path: Path) -> Iterator[tuple[int, tuple[str, str, str] | str]]:
    """(line, (file name, text, speaker)); in place of a record that cannot be used, why."""
    if not regular(path):
        raise ValueError(f"{path} is not a regular file: move it away, or put the file of records there")
    try:
        with opened_text(path, newline="") as file:
            lines = enumerate(iter(lambda: file.readline(LONGEST_TEXT), ""), start=1)
            yield from _json_records(lines) if path.suffix == ".jsonl" else _csv_records(lines)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: save it as UTF-8") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}; check its rights") from error


def _json_records(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, tuple[str, str, str] | str]]:
    for line, text in lines:
        if not text.strip():
            continue
        try:
            record = json.loads(text)
        except (ValueError, RecursionError):
            yield line, "is not JSON"
            continue
        yield line, _record(record) if isinstance(record, dict) else 'is not an object such as {"file_name": ...}'


def _csv_records(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, tuple[str, str, str] | str]]:
    """A table with a heading, or LJSpeech's lines `id|text|normalised text` without one."""
    first = next(lines, (0, ""))
    if "file_name" not in first[1] and "|" in first[1]:
        for line, text in (first, *lines):
            cells = text.rstrip("\r\n").split("|")
            if text.strip():
                yield line, (cells[0], " ".join(cells[-1].split()), "") if len(cells) >= 2 else "has no '|'"
        return
    reader = csv.DictReader(text for _, text in (first, *lines))
    while True:
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield reader.line_num, f"is not CSV: {error}"
            continue
        yield reader.line_num, _record(record)


def _record(record: dict[str, Any]) -> tuple[str, str, str] | str:
    name = record.get("file_name")
    if not isinstance(name, str) or not name.strip():
        columns = some([str(column)[:40] for column in record], limit=8)
        return f"needs `file_name`, with `text` and/or `speaker`; its columns are {columns}"

    def of(columns: tuple[str, ...]) -> str:
        value = next((record[column] for column in columns if record.get(column) is not None), "")
        return " ".join(str(value).split())

    return name.strip(), of(_TEXT), of(_SPEAKER)


def speakers_of(recordings: tuple[Recording, ...]) -> tuple[str, ...]:
    """The names of the speakers, sorted; empty unless every recording has one, and there are two or more."""
    counts = Counter(recording.speaker for recording in recordings)
    names = sorted(name for name in counts if name)
    return tuple(names) if len(names) > 1 and None not in counts else ()
