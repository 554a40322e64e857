"""The errors that are shown as a message, without a traceback, and their messages."""

import os
import sys

MEMORY = (
    "out of memory; ask for fewer samples (--count), fewer at a time (--batch, or training.batch in a recipe), or a "
    "smaller network"
)


def errors() -> tuple[type[Exception], ...]:
    """ValueError, OSError, MemoryError and divergence; any other exception but `out_of_memory` is a bug."""
    if "torch" not in sys.modules:
        return (ValueError, OSError, MemoryError)
    from langevin.training.loop import Diverged

    return (ValueError, OSError, MemoryError, Diverged)


def message(error: Exception) -> str | None:
    """What to tell the user of an error; None for one that is a bug."""
    if isinstance(error, MemoryError):
        return MEMORY
    if isinstance(error, RuntimeError) and "torch" in sys.modules:
        from langevin.training.machine import out_of_memory

        if out_of_memory(error):
            return MEMORY
    if isinstance(error, OSError):
        return _of_system(error)
    return str(error) if isinstance(error, errors()) else None


def _of_system(error: OSError) -> str:
    """An error of the operating system in words, with the path that it is about."""
    path = error.filename
    if path is None:
        raw = error.errno is not None and error.strerror == os.strerror(error.errno)
        return (
            f"standard output or a file could not be written: {error.strerror}" if raw else error.strerror or str(error)
        )
    match error:
        case FileNotFoundError():
            return f"there is no file or folder {path}"
        case IsADirectoryError():
            return f"{path} is a folder, and a file is needed"
        case NotADirectoryError() | FileExistsError():
            return f"{path} cannot be made, as a file is in the way: choose another path"
        case PermissionError():
            return f"{path} may not be read or written: permission denied; check its rights, or choose another path"
        case _:
            return f"{path}: {error.strerror}"
