"""What is on disk, or an error that says what is there instead."""

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path


def existing_path(path: str, what: str) -> Path:
    """The path, or an error that names the nearest thing that does exist."""
    wanted = Path(path).expanduser()
    try:
        if wanted.exists():
            return wanted
        parent = wanted.parent
        if not parent.is_dir():
            above = next(folder for folder in parent.absolute().parents if folder.is_dir())
            raise ValueError(f"There is no {what} {wanted}: not even {parent} exists; {above} does")
        hint = did_you_mean(wanted.name, [entry.name for entry in list_entries(parent)], parent)
    except PermissionError as error:
        raise ValueError(f"{wanted} may not be looked at: permission denied; check its rights") from error
    raise ValueError(f"There is no {what} {wanted}{hint}")


def list_entries(folder: Path) -> list[Path]:
    """What lies in a directory itself. Raises `ValueError` where it is closed."""
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise ValueError(f"{folder} cannot be listed: {error.strerror or error}; check its rights") from error


def did_you_mean(name: str, known: Iterable[str], parent: Path | None = None) -> str:
    """A hint at the known name most like this one, to end an error's sentence; empty where none is like it."""
    lower = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), list(lower), n=1, cutoff=0.5)
    if not close:
        return ""
    return f"; did you mean {parent / lower[close[0]] if parent else repr(lower[close[0]])}?"


def some(names: Sequence[str], *, limit: int = 3, between: str = ", ") -> str:
    """The first few of many names, and how many more there are."""
    shown = between.join(names[:limit])
    return shown if len(names) <= limit else f"{shown}{between}and {len(names) - limit:,} more"
