"""The content of a path on disk, or of one that continues into a shard: `photos.tar/cat/1.jpg`, or `photos/cat/1.jpg` where
`photos` holds shards, or `dataset.toml/cat/1.jpg`. Readers of files use these functions, so they read all alike."""

import errno
import io
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from langevin.files import read_regular
from langevin.modalities.dataset_files.folder import Listed, listed
from langevin.modalities.dataset_files.subsets import is_dataset_file
from langevin.modalities.shards.folder import Shards, is_shard, shards_at, were_opened

_DEEPEST = 32  # folders between a file and the shard that it is in


def is_whole(path: Path) -> bool:
    """Whether a file is read as a folder: a shard, or a dataset file of another trainer."""
    return is_shard(path) or is_dataset_file(path)


def files_at(path: Path) -> Shards | Listed | None:
    """The files of the shards of a folder, or of a file that is read as a folder; None for others.

    Raises:
        ValueError: it is damaged, or names what is not there."""
    return listed(path) if is_dataset_file(path) else shards_at(path)


def within(path: Path) -> tuple[Shards | Listed, str] | None:
    """The files that a path leads into, and the name there; None for others, and for what exists on disk."""
    if os.path.lexists(path):
        return None
    for parent in islice(path.parents, _DEEPEST):
        if (were_opened(parent) or is_whole(parent)) and (shards := files_at(parent)) is not None:
            return shards, path.relative_to(parent).as_posix()
    return None


def is_folder(path: Path) -> bool:
    """Whether a path is a folder, a file that is read as one, or a folder in such."""
    if path.is_dir() or is_whole(path):
        return True
    found = within(path)
    return found is not None and found[1] in found[0].folders


def exists(path: Path) -> bool:
    """Whether there is something at a path."""
    if path.exists() or is_folder(path):
        return True
    found = within(path)
    return found is not None and found[1] in found[0]


def is_file_in_shard(path: Path) -> bool:
    """Whether a path leads to a file in a shard."""
    found = within(path)
    return found is not None and found[1] in found[0]


def entries(folder: Path) -> Iterator[str]:
    """The names of files directly in a folder, on disk or in shards."""
    if folder.is_dir():
        yield from (entry.name for entry in folder.iterdir())
    found = (shards, ".") if (shards := files_at(folder)) is not None else within(folder)
    if found is not None:
        shards, prefix = found
        for name in shards.names:
            above, _, last = name.rpartition("/")
            if (above or ".") == prefix:
                yield last


def size_of(path: Path) -> int:
    """Bytes of a file. Raises `OSError` if there is none."""
    found = within(path)
    return path.stat().st_size if found is None else _there(found, path)[0].size(found[1])


def content(path: Path, *, most: int | None = None) -> bytes:
    """The bytes of a file; with `most`, of a regular one of at most so many.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger."""
    found = within(path)
    if found is None:
        return path.read_bytes() if most is None else read_regular(path, most=most)
    shards, name = _there(found, path)
    if most is not None and shards.size(name) > most:
        raise OSError(errno.EFBIG, f"more than {most:,} bytes", str(path))
    return shards.read(name)


def opened(path: Path) -> io.BufferedReader | io.BytesIO:
    """A file to read bytes from. Raises `OSError` if it cannot be read."""
    found = within(path)
    if found is None:
        return path.open("rb")
    shards, name = _there(found, path)
    return io.BytesIO(shards.read(name))


def opened_text(path: Path, *, errors: str = "strict", newline: str | None = None) -> io.TextIOWrapper:
    """A file to read UTF-8 from, without a byte order mark. Raises `OSError` if it cannot be read."""
    return io.TextIOWrapper(opened(path), encoding="utf-8-sig", errors=errors, newline=newline)


def text_of(path: Path, *, errors: str = "strict") -> str:
    """A file as text, without a byte order mark. Raises `OSError` or `UnicodeDecodeError`."""
    with opened_text(path, errors=errors) as file:
        return file.read()


def _there(found: tuple[Shards | Listed, str], path: Path) -> tuple[Shards | Listed, str]:
    if found[1] not in found[0]:
        raise FileNotFoundError(errno.ENOENT, "there is no such file", str(path))
    return found
