"""Writing files so that nothing is lost: whole or not at all, never through a link that someone else has placed.

Every file that the package writes passes here or is in a directory that was created here.
"""

import errno
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

WINDOWS = os.name == "nt"
PAUSES = (0.01, 0.03, 0.1, 0.3, 0.6)  # seconds between tries to rename
STALE = 3600.0  # seconds after which a temporary file is taken to be that of a killed process
_BINARY = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_NO_LINKS, _NO_WAIT = getattr(os, "O_NOFOLLOW", 0), getattr(os, "O_NONBLOCK", 0)


def write_atomic(path: Path, data: bytes) -> None:
    """Replace a file atomically: after a crash it holds the old content or the new. Its permissions are kept.

    A link at `path` is replaced, and the file that it leads to stays as it is.

    Raises:
        OSError: the disk is full or not writable, with what to do."""
    temporary = temporary_of(path)
    try:
        mode = _mode_of(path)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINKS | _BINARY, 0o666)
        with os.fdopen(handle, "wb") as file:
            if mode is not None:
                os.chmod(temporary, mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        replace(temporary, path)
        flush(path.parent)
    except OSError as error:
        raise explain(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def write_folder(path: Path) -> Iterator[Path]:
    """An empty folder to fill with files, which becomes `path` at the end; after an error there is nothing at `path`.

    An empty folder that is there already stays the same folder, and gets all files at the end.

    Raises:
        ValueError: something is at `path` already, other than an empty folder.
        OSError: the disk is full or not writable, with what to do."""
    if os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir())):
        raise ValueError(f"{path} holds files already: choose another name, or remove it")
    there = path.is_dir()
    temporary = temporary_of(path / "files" if there else path)
    try:
        temporary.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        yield temporary
        files = sorted(temporary.iterdir())
        for file in files:
            flush(file)
        if there:
            for file in files:
                replace(file, path / file.name)
        else:
            replace(temporary, path)
        flush(temporary.parent)
    except OSError as error:
        raise explain(error, path) from error
    finally:
        remove(temporary)


def replace(source: Path, target: Path) -> None:
    """Rename, in the place of what is there. Windows refuses it while another process reads the target, or a scanner does,
    so there it is tried again for a second.

    Raises:
        OSError: it could not be renamed."""
    for pause in PAUSES if WINDOWS else ():
        try:
            return os.replace(source, target)
        except PermissionError:
            time.sleep(pause)
    return os.replace(source, target)


def read_regular(path: Path, *, most: int) -> bytes:
    """The content of a regular file of at most `most` bytes; of a pipe or device, which could be read without end, nothing.

    Raises:
        OSError: it cannot be read, or is another kind of file, or larger."""
    handle = os.open(path, os.O_RDONLY | _NO_WAIT | _BINARY)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"more than {most:,} bytes", str(path))
    return content


def append(path: Path) -> IO[str]:
    """Open a text file to append to.

    Raises:
        OSError: it is a link, or a pipe that nobody reads, or not writable."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | _NO_LINKS | _NO_WAIT | _BINARY, 0o666)
    return os.fdopen(handle, "a", encoding="utf-8")


def kept_folder(name: str) -> Path:
    """A folder for what can be made again, in `LANGEVIN_CACHE`, or ~/.cache/langevin."""
    return Path(os.environ.get("LANGEVIN_CACHE") or "~/.cache/langevin").expanduser() / name


def own_folder(directory: Path, name: str, *, create: bool = True) -> Path:
    """The folder `directory / name`, created if it does not exist.

    Raises:
        ValueError: it is a link, so that files elsewhere would be changed."""
    folder = directory / name
    if folder.is_symlink():
        raise ValueError(
            f"{folder} is a link to {os.readlink(folder)}, and only files in {directory} itself are written: "
            "replace the link by a folder"
        )
    if create:
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def remove(path: Path) -> None:
    """Remove a file, a folder with all its content, or a link but not what it leads to; nothing may be there."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)


def temporary_of(path: Path) -> Path:
    """A name beside `path` that nobody else uses or can foresee."""
    return path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}.tmp")


def is_temporary(name: str) -> bool:
    """Whether a name is one that `temporary_of` gives."""
    return name.startswith(".") and name.endswith(".tmp")


def sweep(folder: Path) -> None:
    """Remove the temporary files in a folder that killed processes have left."""
    for path in folder.glob(".*.tmp"):
        try:
            if time.time() - path.lstat().st_mtime > STALE:
                remove(path)
        except OSError:
            continue  # its writer has just finished


def flush(path: Path) -> None:
    """Flush a file, or a folder's directory entries, to the disk. Windows cannot flush folders and does not need to."""
    folder = path.is_dir()
    if folder and WINDOWS:
        return
    handle = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def explain(error: Exception, path: Path, *, size: int = 0, run: Path | None = None) -> OSError:
    """An OSError whose message says what failed and, if the disk is full, what to do.

    Args:
        size: bytes that are needed, 0 if unknown.
        run: the directory of a run that is being trained."""
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
    reason = getattr(error, "strerror", None) or error
    if not full:
        return OSError(getattr(error, "errno", None) or errno.EIO, f"could not write {path}: {reason}")
    needed = f" ({size / 1e6:.1f} MB)" if size else ""
    return OSError(
        errno.ENOSPC,
        f"disk full while writing {path}{needed}: {reason}. To go on, free some disk space"
        + (f"; `langevin resume {run}` continues the run" if run else " and repeat the command"),
    )


def _mode_of(path: Path) -> int | None:
    """The permissions of the regular file at `path`; None if nothing or a link is there.

    Raises:
        OSError: a folder, device or the like is there, which a file must not replace."""
    try:
        found = path.lstat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(found):
        return None
    if not stat.S_ISREG(found):
        raise OSError(errno.EISDIR if stat.S_ISDIR(found) else errno.EINVAL, "something other than a file is there")
    return stat.S_IMODE(found) & 0o777
