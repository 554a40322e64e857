"""Where results are written: checked before any work, so that none is lost, and nothing of the user's is replaced."""

import os
from pathlib import Path


def require_writable(out: Path, *, folder: bool) -> Path:
    """Check that a file or a folder can be written at `out`. An existing file may be replaced, a folder must be empty.

    Returns the path to write: what a link of the user leads to, so that the link is kept.

    Raises:
        ValueError: it cannot, and what is in the way."""
    if folder and out.is_file():
        raise ValueError(f"--out {out} is a file, and a folder is written: choose another")
    if folder and out.is_dir() and any(out.iterdir()):
        raise ValueError(
            f"--out {out} holds files; choose another folder, so that nothing in it is mixed up or replaced"
        )
    if out.exists() and not out.is_file() and not out.is_dir():
        raise ValueError(f"--out {out} is neither a file nor a folder: choose another path, or - for standard output")
    if not folder and out.is_dir():
        raise ValueError(f"--out {out} is a folder, and a file is written: choose another name")
    above = next(parent for parent in (out.absolute(), *out.absolute().parents) if parent.exists())
    if above != out.absolute() and not above.is_dir():
        raise ValueError(f"--out {out} cannot be written, as {above} is a file: choose another path")
    if not os.access(above, os.W_OK):
        raise ValueError(f"--out {out} cannot be written: {above} may not be changed; choose another path")
    return out.resolve() if out.is_symlink() else out


def unused(path: Path) -> Path:
    """The path, or the first of NAME-2, NAME-3, ... at which there is nothing or an empty folder."""
    free, number = path, 2
    while os.path.lexists(free) and (free.is_symlink() or not free.is_dir() or any(free.iterdir())):
        free, number = path.with_name(f"{path.stem}-{number}{path.suffix}"), number + 1
    return free
