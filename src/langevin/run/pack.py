"""Packing a folder of data into tar shards, which are read as the folder is, and by other tools as webdataset.

Files of one key, a picture and its caption, follow each other. Keys are in the order of their hashes, so what lies close
together in a shard is no class or series, and a shard is a function of the data alone. Files that describe others
(`metadata.jsonl`, a README) stay beside the shards. For other tools, what they say of a file is also in a `.json` of its
key, and the class that its folder is, as a number, in a `.cls`.
"""

import csv
import hashlib
import io
import json
import posixpath
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from langevin.files import write_folder
from langevin.modalities.content import content, is_folder, opened_text
from langevin.modalities.modality import Progress
from langevin.modalities.paths import existing_path, is_about, regular, some, walk
from langevin.modalities.shards.folder import MANIFEST
from langevin.modalities.shards.index import SUFFIX, encoded
from langevin.modalities.shards.shard import BLOCK, Member, Shard, escaped, unsafe

METADATA = ("metadata.jsonl", "metadata.csv")
SMALLEST = 64_000  # bytes of a shard
_PARTS = ("train", "test", "valid", "validation", "val", "dev")
_HASH = 32  # hexadecimal digits of a file's SHA-256 that an index keeps


@dataclass(frozen=True, kw_only=True)
class Packed:
    """What was written: the number of files in shards, and (name, bytes) of these; (name, reason) of files left out."""

    files: int
    shards: tuple[tuple[str, int], ...]
    broken: tuple[tuple[str, str], ...]

    def lines(self) -> list[str]:
        """The result in sentences."""
        size = sum(size for _, size in self.shards)
        lines = [f"packed {self.files:,} files in {len(self.shards):,} shards, {size / 1e6:,.1f} MB"]
        names = [f"{name} {reason}" for name, reason in self.broken]
        return lines + [f"Files that cannot be read, left out: {len(names):,} ({some(names)})."] * bool(names)


def pack(data: Path, out: Path, *, shard_size: int, progress: Progress = lambda done, total: None) -> Packed:
    """Write the files of a folder as shards of about `shard_size` bytes to a new folder, whole or not at all.

    Raises:
        ValueError: no folder, nothing in it, or something at `out`."""
    if shard_size < SMALLEST:
        raise ValueError(f"--shard-size is at least {SMALLEST:,} bytes, got {shard_size:,}: give 64MB, say")
    root = existing_path(str(data), "folder")
    names = walk(root) if is_folder(root) else []
    if not names:
        raise ValueError(f"{root} is no folder with files: name the folder of the data")
    beside = [name for name in names if PurePosixPath(name).name.lower() in METADATA or is_about(name)]
    groups = defaultdict[str, list[str]](list)
    for name in sorted(set(names) - set(beside)):
        groups[posixpath.splitext(name)[0]].append(name)
    if not groups:
        raise ValueError(f"{root} holds nothing but files about others ({some(beside)}): there is nothing to pack")
    derived = _Derived.of(root, groups, beside)
    with write_folder(out) as folder:
        writer = _Writer(folder=folder, limit=shard_size)
        broken = list[tuple[str, str]]()
        for done, key in enumerate(sorted(groups, key=lambda key: hashlib.sha256(_bytes(key)).digest()), 1):
            writer.add(_contents(root, groups[key], broken), derived.of_key(key))
            progress(done, len(groups))
        writer.close()
        for name in beside:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content(root / name))
        tree = {
            "format": "langevin shards 1", "files": writer.count, "shards": writer.shards,
            "derived": derived.suffixes, "classes": derived.classes,
        }  # fmt: skip
        (folder / MANIFEST).write_text(json.dumps(tree, indent=1))
    return Packed(files=writer.count, shards=tuple(writer.shards), broken=tuple(broken))


def _contents(root: Path, names: Sequence[str], broken: list[tuple[str, str]]) -> list[tuple[str, bytes]]:
    read = list[tuple[str, bytes]]()
    for name in names:
        try:
            if reason := unsafe(name):
                broken.append((ascii(name), reason))
                continue
            if not regular(root / name):
                raise OSError(0, "is not a regular file")
            read.append((name, content(root / name)))
        except OSError as error:
            broken.append((name, f"cannot be read ({error.strerror or error})"))
    return read


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


@dataclass(kw_only=True)
class _Writer:
    """Shards in a folder, one after another."""

    folder: Path
    limit: int
    count: int = 0
    shards: list[tuple[str, int]] = field(default_factory=list)
    _members: list[Member] = field(default_factory=list)
    _file: Any = None
    _archive: Any = None

    def add(self, group: Sequence[tuple[str, bytes]], derived: Sequence[tuple[str, bytes]]) -> None:
        """Append the files of a key, in one shard; those that are `derived` are not in its index."""
        if not group:
            return
        size = sum(BLOCK + len(data) for _, data in group)
        if self._archive is not None and self._archive.offset + size > self.limit:
            self.close()
        if self._archive is None:
            self._file = (self.folder / f"shard-{len(self.shards):06}.tar").open("wb")
            self._archive = tarfile.open(fileobj=self._file, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        for name, data in group:
            sha256 = hashlib.sha256(data).hexdigest()[:_HASH]
            self._members.append(Member(name, self._append(name, data), len(data), sha256))
        self.count += len(group)
        for name, data in derived:
            self._append(name, data)

    def _append(self, name: str, data: bytes) -> int:
        """The first byte of the content."""
        info = tarfile.TarInfo(escaped(name))
        info.size = len(data)
        self._archive.addfile(info, io.BytesIO(data))
        return self._archive.offset - -(-info.size // BLOCK) * BLOCK

    def close(self) -> None:
        """End the shard that is being written, and write its index."""
        if self._archive is None:
            return
        self._archive.close()
        self._file.close()
        path = Path(self._file.name)
        shard = Shard(path=path, size=path.stat().st_size, members=tuple(self._members))
        Path(f"{path}{SUFFIX}").write_bytes(encoded(shard))
        self.shards.append((path.name, shard.size))
        self._archive, self._members = None, []


@dataclass(frozen=True, kw_only=True)
class _Derived:
    """What other tools find beside a file of a key: the record that describes it, and its class as a number."""

    records: Mapping[str, Mapping[str, Any]]
    classes: tuple[str, ...]
    suffixes: tuple[str, ...]

    @classmethod
    def of(cls, root: Path, groups: Mapping[str, Sequence[str]], beside: Sequence[str]) -> "_Derived":
        used = {PurePosixPath(name).suffix.lower() for names in groups.values() for name in names}
        records = dict(_records(root, beside)) if ".json" not in used else {}
        tops = {_class_of(key) for key in groups}
        classes = tuple(sorted(tops)) if len(tops) > 1 and "" not in tops and ".cls" not in used else ()
        suffixes = (*((".json",) if records else ()), *((".cls",) if classes else ()))
        return cls(records=records, classes=classes, suffixes=suffixes)

    def of_key(self, key: str) -> list[tuple[str, bytes]]:
        record = self.records.get(key)
        files = [] if record is None else [(f"{key}.json", _json(record))]
        number = self.classes.index(_class_of(key)) if self.classes else None
        return files if number is None else [*files, (f"{key}.cls", str(number).encode())]


def _class_of(key: str) -> str:
    """The first folder of a key that is no part; empty for none."""
    folders = [part for part in key.split("/")[:-1] if part.lower() not in _PARTS]
    return folders[0] if folders else ""


def _records(root: Path, beside: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(key, record) of files of metadata; what cannot be read is passed over, as its reader will say so."""
    for name in beside:
        if PurePosixPath(name).name.lower() not in METADATA:
            continue
        try:
            with opened_text(root / name, errors="replace", newline="") as file:
                rows: Iterator[Any] = csv.DictReader(file) if name.lower().endswith(".csv") else map(_object, file)
                for row in rows:
                    if isinstance(row, dict) and isinstance(row.get("file_name"), str):
                        file_name = posixpath.normpath(posixpath.join(posixpath.dirname(name), row["file_name"]))
                        yield posixpath.splitext(file_name)[0], {str(k): v for k, v in row.items() if k != "file_name"}
        except (OSError, csv.Error):
            continue


def _json(record: Mapping[str, Any]) -> bytes:
    """A record without values that JSON has no word for, as NaN, which others refuse."""
    kept = dict[str, Any]()
    for name, value in record.items():
        try:
            json.dumps(value, allow_nan=False)
        except ValueError:
            continue
        kept[name] = value
    return json.dumps(kept, allow_nan=False).encode()


def _object(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
