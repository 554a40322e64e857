"""The files of one tar archive: their names, and where their bytes are."""

import hashlib
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

SUFFIX = ".tar"
BLOCK = 512  # bytes; of a header, and the unit of contents
_ESCAPE = re.compile("%2E|%25")
_DRIVE = re.compile(r"[A-Za-z]:")


class BadShard(ValueError):
    """A shard that cannot be used, with its name and what to do."""


class Changed(OSError):
    """The bytes of a file in a shard are not those that were indexed."""


class Member(NamedTuple):
    """A file in a shard: the first byte of its content, their number, and the start of their SHA-256, if known."""

    name: str
    offset: int
    size: int
    sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A tar archive of `size` bytes and the files in it.

    Args:
        refused: (name, reason) of what is in it and is not read: links, devices, and names that lead out of it.
    """

    path: Path
    size: int
    members: tuple[Member, ...]
    refused: tuple[tuple[str, str], ...] = ()

    def read(self, member: Member) -> bytes:
        """The bytes of a file, by one seek.

        Raises:
            Changed: they are not what was indexed.
            OSError: the shard cannot be read."""
        with self.path.open("rb") as file:
            if not _heads(file, member):
                raise Changed(f"is not where the index of {self.path.name} says: the shard has changed, start again")
            content = file.read(member.size)
        if len(content) != member.size:
            raise Changed(f"is cut short in {self.path.name}: fetch that shard again")
        if member.sha256 and hashlib.sha256(content).hexdigest()[: len(member.sha256)] != member.sha256:
            raise Changed(f"is damaged in {self.path.name}: its content is not what was packed; fetch that shard again")
        return content

    def agrees(self) -> bool:
        """Whether the archive still has this size, and a few of its files are where they should be."""
        some = self.members[:: max(1, len(self.members) // 8)] + self.members[-1:]
        try:
            with self.path.open("rb") as file:
                return self.path.stat().st_size == self.size and all(_heads(file, member) for member in some)
        except OSError:
            return False


def _heads(file: IO[bytes], member: Member) -> bool:
    """Whether the header of a regular file of that size is before the content, where `file` is then."""
    file.seek(member.offset - BLOCK)
    try:
        found = tarfile.TarInfo.frombuf(file.read(BLOCK), "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    long = not member.name.isascii() or len(escaped(member.name)) > 80  # then the name may be in a header of its own
    return found.isreg() and found.size == member.size and (long or _plain(found.name) == member.name)


def scanned(path: Path) -> Shard:
    """The index of an archive, from its headers; contents are passed over.

    Raises:
        BadShard: it is no tar archive, or is cut short or damaged."""
    members, refused, end = dict[str, Member](), list[tuple[str, str]](), 0
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                for info in archive:
                    archive.members = []  # pyright: ignore[reportAttributeAccessIssue] - it would keep all of them
                    if info.isreg() and not info.issparse() and info.size >= 0:
                        end = info.offset_data + -(-info.size // BLOCK) * BLOCK
                    else:
                        end = max(end, info.offset_data)
                    reason = _refused(info)
                    if reason:
                        refused.append((info.name, reason))
                    elif info.isreg() and not hidden(name := _plain(info.name)):
                        if name in members:
                            refused.append((name, "is there twice, and the last one is read"))
                        members[name] = Member(name, info.offset_data, info.size)
            _require_end(path, file, end, size, len(members))
    except tarfile.TarError as error:
        raise BadShard(f"{path} {_why(path, error)}") from error
    except (OSError, ValueError, OverflowError) as error:
        if isinstance(error, BadShard):
            raise
        reason = getattr(error, "strerror", None) or error
        raise BadShard(f"{path} cannot be read as a shard ({reason}): fetch it again, or remove it") from error
    return Shard(path=path, size=size, members=tuple(members.values()), refused=tuple(refused))


def _require_end(path: Path, file: IO[bytes], end: int, size: int, count: int) -> None:
    file.seek(end)
    mark = file.read(BLOCK)
    if end > size or len(mark) < BLOCK:
        raise BadShard(
            f"{path} is cut short: after {count:,} files its end is missing. Fetch or pack it again, or remove it to train "
            "without it"
        )
    if mark.strip(b"\0"):
        raise BadShard(
            f"{path} is damaged at byte {end:,}, after {count:,} files: fetch or pack it again, or remove it to train "
            "without it"
        )


def _why(path: Path, error: Exception) -> str:
    with path.open("rb") as file:
        head = file.read(4)
    if not head:
        return "is empty (0 bytes): fetch it again, or remove it"
    if head.startswith((b"\x1f\x8b", b"BZh", b"\x28\xb5\x2f\xfd", b"\xfd7zX")):
        return "is compressed, and files in it cannot be sought: unpack it to a plain .tar (gunzip, zstd -d, xz -d)"
    if "end of data" in str(error):
        return "is cut short: its end is missing. Fetch or pack it again, or remove it to train without it"
    return f"is no tar archive, or is damaged ({str(error)[:80]}): fetch it again, or remove it"


def _plain(name: str) -> str:
    """The name of which `escaped` is that in the archive."""
    while name.startswith("./"):
        name = name[2:]
    folder, slash, last = name.rstrip("/").rpartition("/")
    return folder + slash + _ESCAPE.sub(lambda found: "." if found[0] == "%2E" else "%", last)


def escaped(name: str) -> str:
    """A name whose only dot is that of its suffix, as all after the first dot is a suffix in the format."""
    folder, slash, last = name.rpartition("/")
    stem, dot, suffix = _ESCAPE.sub(lambda found: "%25" + found[0][1:], last).rpartition(".")
    return folder + slash + stem.replace(".", "%2E") + dot + suffix


def hidden(name: str) -> bool:
    """Whether a file is hidden, or in a hidden folder; such are not read from folders either."""
    return any(part.startswith(".") for part in name.split("/"))


def _refused(info: tarfile.TarInfo) -> str:
    """Why what is in an archive is not read; empty for files and folders."""
    if info.issym() or info.islnk():
        return "is a link"
    if info.isdir():
        return ""
    if not info.isreg() or info.issparse() or info.size < 0:
        return "is no regular file"
    return unsafe(_plain(info.name))


def unsafe(name: str) -> str:
    """Why a name is refused: it leads out of the shard, or is none; empty for others."""
    parts = name.split("/")
    if not name or "" in parts or any(ord(c) < 32 or ord(c) == 127 for c in name):
        return "has no usable name"
    if ".." in parts or name.startswith("/") or "\\" in name or _DRIVE.match(name):
        return "has a name that leads out of the shard"
    return ""
