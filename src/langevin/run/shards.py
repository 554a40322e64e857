"""The work list of many samples, and the folder that it fills.

The list is a pure function of the number of samples and the size of a shard, and a shard's samples are one of the request
and its first seed. So whoever makes a shard makes the same bytes, on any machine of the same kind, and neither an order nor
a plan has to be agreed on. A shard is done when its record is there, which is written after its samples.

    FOLDER/request.json                 what the samples are made from
           samples/0000001000-0000002000[.npz, .tar, ...]   the samples from 1000 to 1999
           records/0000001000-0000002000.jsonl              a line for each: its seed, condition and hash
           leases/                      who makes which shard now
           manifest.jsonl               all records, in order, when all shards are done
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from langevin.files import (
    explain,
    flush,
    is_temporary,
    own_folder,
    read_regular,
    remove,
    sweep,
    temporary_of,
    write_atomic,
)

MOST = 10**9  # samples of a request
MOST_SHARDS = 10**6
REQUEST, MANIFEST, PARTS = "request.json", "manifest.jsonl", ("samples", "records", "leases")
_MOST_BYTES = 2**26  # of a request or of the records of a shard


@dataclass(frozen=True, kw_only=True)
class Shard:
    """The samples with the indices from `start` to `stop` - 1."""

    start: int
    stop: int

    @property
    def name(self) -> str:
        return f"{self.start:010d}-{self.stop:010d}"

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, kw_only=True)
class WorkList(Sequence[Shard]):
    """`count` samples in shards of `size`, of which the last one may be smaller.

    Raises:
        ValueError: they are out of range."""

    count: int
    size: int = 1000

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MOST:
            raise ValueError(f"--count must be 1 to {MOST:,}, got {self.count}")
        if self.size < 1:
            raise ValueError(f"--shard-size must be at least 1, got {self.size}")
        if len(self) > MOST_SHARDS:
            raise ValueError(
                f"{self.count:,} samples in shards of {self.size:,} are {len(self):,} shards, and {MOST_SHARDS:,} are the "
                "most: give a larger --shard-size"
            )

    def __len__(self) -> int:
        return -(-self.count // self.size)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        start = index % len(self) * self.size
        return Shard(start=start, stop=min(start + self.size, self.count))

    def share(self, index: int, of: int) -> list[Shard]:
        """Every `of`-th shard, from the `index`-th on: the shares of all indices are the list.

        Raises:
            ValueError: there is no such share."""
        if of < 1 or not 0 <= index < of:
            raise ValueError(f"shares of {of} have the indices 0 to {of - 1}, got --index {index} --of {of}")
        return [self[i] for i in range(index, len(self), of)]


@dataclass(frozen=True, kw_only=True)
class ShardFolder:
    """The folder of a request.

    Args:
        suffix: of the file of a shard's samples; "" is a folder.
    """

    path: Path
    suffix: str

    def samples(self, shard: Shard) -> Path:
        """Where the samples of a shard are."""
        return self.path / "samples" / f"{shard.name}{self.suffix}"

    def record(self, shard: Shard) -> Path:
        """Where the records of a shard are."""
        return self.path / "records" / f"{shard.name}.jsonl"

    @property
    def leases(self) -> Path:
        return self.path / "leases"

    def done(self, shard: Shard) -> bool:
        """Whether a shard is there, whole."""
        return self.record(shard).is_file() and self.samples(shard).exists()

    def missing(self, shards: Sequence[Shard]) -> list[Shard]:
        """Those of the shards that are not done; all, where there is no folder yet."""
        recorded, made = ({*_names(self.path / name)} for name in ("records", "samples"))
        return [s for s in shards if self.record(s).name not in recorded or self.samples(s).name not in made]

    def check(self, request: Mapping[str, Any]) -> int:
        """Check that the folder is that of a request, or can become it; returns how many samples it is of, 0 without one.

        Raises:
            ValueError: it is the folder of another request, or holds something else."""
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"--out {self.path} is a file, and a folder is filled: choose another")
        known = {REQUEST, MANIFEST, *PARTS} if (self.path / REQUEST).is_file() else {*PARTS}
        if self.path.is_dir() and any(n not in known and not is_temporary(n) for n in os.listdir(self.path)):
            raise ValueError(f"--out {self.path} holds files that are not of an earlier request: choose another folder")
        if REQUEST not in known:
            return 0
        found = self._request()
        changed = [key for key in {**request, **found} if key != "count" and request.get(key) != found.get(key)]
        if changed:
            raise ValueError(
                f"--out {self.path} holds samples of another request, whose {' and '.join(changed)} differed: choose "
                "another folder, or give the same options"
            )
        count, before = int(request["count"]), int(found["count"])
        if count < before or (count > before and before % int(request["shard_size"])):
            raise ValueError(
                f"--out {self.path} is of --count {before}, which can only grow by whole shards of "
                f"{request['shard_size']}; got --count {count}"
            )
        return before

    def prepare(self, request: Mapping[str, Any]) -> None:
        """Make the folder that of a request, of JSON types. Its `count` may grow by whole shards.

        Raises:
            ValueError: it is the folder of another request, or holds something else."""
        self.check(request)
        self.path.mkdir(parents=True, exist_ok=True)
        for name in PARTS:
            own_folder(self.path, name)
        self._create(request)
        if int(request["count"]) > self.check(request):
            write_atomic(self.path / REQUEST, _json(request))
            (self.path / MANIFEST).unlink(missing_ok=True)

    def _create(self, request: Mapping[str, Any]) -> None:
        """Write the request, if no process was faster."""
        file = self.path / REQUEST
        if not file.is_file():
            own = temporary_of(file)
            write_atomic(own, _json(request))
            try:
                os.link(own, file)  # fails where another process was first
            except FileExistsError:
                pass
            except (OSError, NotImplementedError):  # a file system without links
                os.replace(own, file)
            finally:
                own.unlink(missing_ok=True)

    def _request(self) -> dict[str, Any]:
        """The request in the folder."""
        file = self.path / REQUEST
        try:
            return dict(json.loads(read_regular(file, most=_MOST_BYTES)))
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"{file} is damaged: remove {self.path}, or choose another folder") from error

    def write_record(self, shard: Shard, lines: Sequence[Mapping[str, Any]]) -> None:
        """Say that a shard is done, with a line for each sample."""
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        write_atomic(self.record(shard), text.encode())

    def finish(self, shards: Sequence[Shard]) -> bool:
        """Returns whether all of these shards are done. The manifest is written when all of the folder are, whose count may
        have grown meanwhile; each process writes the same one."""
        if self.missing(shards):
            return False
        while not self.missing(whole := self._whole()) and not self._is_listed(whole):
            self._list(whole)
        own = {shard.name for shard in shards}
        for name in ("samples", "records"):
            sweep(self.path / name)  # what is of other shards may be written now
            for left in filter(is_temporary, os.listdir(self.path / name)):
                if left[1:].partition(".")[0] in own:
                    remove(self.path / name / left)  # of processes that were killed
        return True

    def _whole(self) -> WorkList:
        """All shards of the folder."""
        request = self._request()
        return WorkList(count=int(request["count"]), size=int(request["shard_size"]))

    def _is_listed(self, shards: Sequence[Shard]) -> bool:
        """Whether the manifest is that of all these shards, by its length."""
        try:
            found = (self.path / MANIFEST).stat().st_size
        except FileNotFoundError:
            return False
        return found == sum(self.record(shard).stat().st_size for shard in shards)

    def _list(self, shards: Sequence[Shard]) -> None:
        manifest = self.path / MANIFEST
        temporary = temporary_of(manifest)
        try:
            with temporary.open("xb") as file:
                for shard in shards:
                    file.write(self.record(shard).read_bytes())
            flush(temporary)
            os.replace(temporary, manifest)
        except OSError as error:
            raise explain(error, manifest) from error
        finally:
            temporary.unlink(missing_ok=True)


def _names(folder: Path) -> Iterator[str]:
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        yield from (entry.name for entry in entries)


def _json(request: Mapping[str, Any]) -> bytes:
    return (json.dumps(request, indent=2, ensure_ascii=False) + "\n").encode()


def digest(value: Any) -> str:
    """SHA-256 of a decoded sample, in hexadecimal, whatever form it is written in.

    Args:
        value: a tensor or array, a string, a number, None, or a sequence, mapping or dataclass of such.

    Raises:
        TypeError: it is something else."""
    sha256 = hashlib.sha256()
    for part in _parts(value):
        sha256.update(len(part).to_bytes(8, "little") + part)
    return sha256.hexdigest()


def _parts(value: Any) -> Iterator[bytes]:
    match value:
        case Tensor():
            yield from _parts(value.detach().cpu().contiguous().numpy())
        case np.ndarray():
            yield f"{value.dtype.str}{value.shape}".encode()
            yield np.ascontiguousarray(value).tobytes()
        case str():
            yield b"s" + value.encode("utf-8", "surrogatepass")
        case bytes():
            yield b"b" + value
        case None | bool() | int() | float() | np.generic():
            yield repr(value).encode()
        case Mapping():
            yield f"{{{len(value)}".encode()
            for key, part in value.items():
                yield from (*_parts(str(key)), *_parts(part))
        case Sequence():
            yield f"[{len(value)}".encode()
            for part in value:
                yield from _parts(part)
        case _ if is_dataclass(value):
            yield type(value).__name__.encode()
            for part in fields(value):
                yield from _parts(getattr(value, part.name))
        case _:
            if hasattr(value, "isoformat"):
                yield str(value.isoformat()).encode()
            else:
                raise TypeError(f"a sample of type {type(value).__name__} has no digest")
