"""The index of a shard as a file: beside the shard if it was packed here, else in the user's cache.

An index is used only while it fits: by the size of its shard, by when a cached one was changed, and by the headers of a few
files. Every read compares the header of its file again. An index that does not fit is made anew.
"""

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from langevin.files import kept_folder, read_regular, write_atomic
from langevin.modalities.shards.shard import Member, Shard, hidden, scanned, unsafe

SUFFIX = ".index"  # after the name of the shard
_FORMAT = "langevin shard index 1"
_LARGEST = 2**31  # bytes of an index


def indexed(path: Path) -> Shard:
    """The files of a shard, by its index if there is one that fits, else by a pass over it.

    Raises:
        BadShard: it is no tar archive, or is cut short or damaged."""
    try:
        found = path.stat()
    except OSError:
        return scanned(path)  # which says why
    stamp = [found.st_size, found.st_mtime_ns]
    name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:32]
    kept = kept_folder("shards") / f"{name}.json"
    for file, wanted in ((Path(f"{path}{SUFFIX}"), None), (kept, stamp)):
        shard = _read(file, path, found.st_size, wanted)
        if shard is not None and shard.agrees():
            return shard
    shard = scanned(path)
    with suppress(OSError):  # a cache that cannot be written is none
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(kept, encoded(shard, stamp=stamp))
    return shard


def encoded(shard: Shard, *, stamp: list[int] | None = None) -> bytes:
    """The content of an index.

    Args:
        stamp: size and time of change of the shard, for an index that stays on this machine."""
    tree = {
        "format": _FORMAT, "shard": shard.path.name, "size": shard.size, "stamp": stamp,
        "members": shard.members, "refused": shard.refused,
    }  # fmt: skip
    return json.dumps(tree, separators=(",", ":")).encode()


def _read(file: Path, path: Path, size: int, stamp: list[int] | None) -> Shard | None:
    """The index in a file; None without one, or if it is of another shard or was not written here."""
    try:
        tree: Any = json.loads(read_regular(file, most=_LARGEST))
        if tree["format"] != _FORMAT or tree["size"] != size or (stamp is not None and tree["stamp"] != stamp):
            return None
        members = tuple(Member(str(n), int(o), int(s), str(h)) for n, o, s, h in tree["members"])
        refused = tuple((str(name), str(reason)) for name, reason in tree["refused"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    if any(
        m.offset < 512 or m.size < 0 or m.offset + m.size > size or unsafe(m.name) or hidden(m.name) for m in members
    ):
        return None
    return Shard(path=path, size=size, members=members, refused=refused)
