"""CIFAR-10's binary files as a table, from a directory, from the archive, or downloaded once into a cache."""

import gzip
import hashlib
import io
import os
import posixpath
import tarfile
import urllib.request
import zlib
from functools import partial
from pathlib import Path

from langevin.modalities.image.byte_store import ByteStore
from langevin.modalities.image.data_report import DataReport
from langevin.modalities.image.decode import file_bytes
from langevin.modalities.image.paths import refuse_pickles
from langevin.modalities.image.sources import Cifar10
from langevin.modalities.image.table import Table
from langevin.modalities.image.unreadable import Broken
from langevin.modalities.paths import existing_path, list_entries, regular, some

_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
_FILES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_UNPACKED, _MEMBERS = 2**29, 1000  # bytes and files of an archive at most; the official has 184 MB and 9
_RECORD = 1 + 3 * 32 * 32  # a label, then the red, green and blue planes


def open_cifar10(source: Cifar10) -> Table:
    """All records of the six files. Raises `ValueError` for missing files, `Broken` for a truncated one."""
    path = existing_path(source.path, "file or folder") if source.path is not None else _from_cache(source.download)
    contents = _from_directory(path) if path.is_dir() else _from_archive(path)
    classes = tuple(contents.get("batches.meta.txt", b"").decode("utf-8", "replace").split()) or _CLASSES
    missing = [name for name in _FILES if name not in contents]
    if missing:
        raise ValueError(f"{path} is not all of CIFAR-10: {some(missing)} is missing; unpack it again from {_URL}")
    spool, labels, names, test_from, remarks = ByteStore(), list[str](), list[str](), 0, list[str]()
    for name in _FILES:
        content = contents.pop(name)
        count, rest = divmod(len(content), _RECORD)
        if rest or not count:
            raise Broken(
                f"has {len(content):,} bytes, no whole number of {_RECORD}-byte records: it is cut short or "
                f"something else; fetch it again from {_URL}",
                str(path / name),
            )
        if count != 10_000:
            remarks.append(f"{name} holds {count:,} images instead of 10,000: this is not the official CIFAR-10.")
        test_from = len(labels) if name == "test_batch.bin" else test_from
        for row in range(count):
            label = content[row * _RECORD]
            if label >= len(classes):
                raise Broken(
                    f"has the label {label} in record {row}; there are {len(classes)} classes", str(path / name)
                )
            spool.append(content[row * _RECORD + 1 : (row + 1) * _RECORD])
            labels.append(classes[label])
            names.append(f"{name}:{row}")
    return Table(
        where=str(path),
        names=names,
        fetch=spool.read,
        raw=(3, 32, 32),
        labels=labels,
        classes=classes,
        test_from=test_from,
        notes=DataReport(remarks=tuple(remarks)),
        files={".bin": len(_FILES)},
    )


def _from_directory(path: Path) -> dict[str, bytes]:
    if (path / "cifar-10-batches-bin").is_dir():
        path = path / "cifar-10-batches-bin"
    entries = {entry.name for entry in list_entries(path)}
    if "data_batch_1.bin" not in entries:
        refuse_pickles(path, entries)
    found = [path / name for name in (*_FILES, "batches.meta.txt") if name in entries]
    for file in found:
        if regular(file) and file.stat().st_size > 10_000 * _RECORD:
            raise Broken(f"has {file.stat().st_size:,} bytes, too many for CIFAR-10", str(file))
    return {file.name: file_bytes(file) for file in found}


class _Bounded(io.RawIOBase):
    """What is unpacked from a .gz file, up to `_UNPACKED` bytes: a member that is passed over is unpacked as well."""

    def __init__(self, file: gzip.GzipFile) -> None:
        self._file = file

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        assert whence == 0, "tarfile seeks from the start"
        return self._file.seek(self._within(offset))

    def read(self, size: int = -1) -> bytes:
        return self._file.read(self._within(self.tell() + size) - self.tell())

    def _within(self, position: int) -> int:
        if not 0 <= position <= _UNPACKED:
            raise tarfile.ReadError(f"it unpacks to more than {_UNPACKED:,} bytes")
        return position


def _from_archive(path: Path) -> dict[str, bytes]:
    """The needed members of a `.tar.gz`, read in memory: no path of the archive is ever written to."""
    if not regular(path):
        raise Broken("is not a regular file", str(path))
    contents: dict[str, bytes] = {}
    python = []
    try:
        with gzip.open(path) as unpacked, tarfile.open(fileobj=_Bounded(unpacked), mode="r:") as archive:
            for count, member in enumerate(archive):
                if count > _MEMBERS:
                    raise Broken(f"holds more than {_MEMBERS} files, too many for CIFAR-10", str(path))
                name = posixpath.basename(member.name)
                python += [name] if name in ("data_batch_1", "batches.meta") else []
                if member.isreg() and name in (*_FILES, "batches.meta.txt"):
                    if member.size > 10_000 * _RECORD:
                        raise Broken(f"holds {name} with {member.size:,} bytes, too many for CIFAR-10", str(path))
                    file = archive.extractfile(member)
                    contents[name] = file.read() if file else b""
    except (tarfile.TarError, zlib.error, OSError, EOFError, ValueError) as error:
        if isinstance(error, Broken):
            raise
        raise Broken(f"is not a complete .tar.gz archive ({error}); fetch it again from {_URL}", str(path)) from error
    refuse_pickles(path, python if not contents else ())
    return contents


def _from_cache(download: bool) -> Path:
    """The archive in the cache, downloaded if `download`; its md5 sum is checked every time."""
    target = Path("~/.cache/langevin/cifar-10-binary.tar.gz").expanduser()
    if not target.exists():
        if not download:
            raise ValueError(
                f"Cifar10: there is no copy at {target}. Put it there, from {_URL} (170 MB), or add "
                "data.download=true to `langevin train`, or set data.path to the .tar.gz or to the folder it unpacks to"
            )
        _download(target)
    if (md5 := _md5(target)) != _MD5:
        raise Broken(f"has the md5 sum {md5} instead of {_MD5}: delete it and fetch it again", str(target))
    return target


def _download(target: Path) -> None:
    """Download to a temporary file next to the target, and move it there when it is complete."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        with urllib.request.urlopen(_URL, timeout=60) as response, part.open("wb") as file:
            while block := response.read(2**20):
                file.write(block)
        if _md5(part) != _MD5:
            raise ValueError(f"Cifar10: what {_URL} sent is not the known file (its md5 sum differs); try again")
        os.replace(part, target)
    except OSError as error:
        raise ValueError(f"Cifar10: {_URL} could not be fetched ({error}); try again, or set path") from error
    finally:
        part.unlink(missing_ok=True)


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False)).hexdigest()
