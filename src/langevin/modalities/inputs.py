"""Types of options that name files. No torch here."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Reads:
    """Marks an option that names a file: one that a server's client sends along, or one of this machine alone.

    Args:
        mask_of: the option whose image the file is a mask of, which a page can let one draw.
    """

    uploaded: bool = True
    mask_of: str = ""


InputFile = Annotated[str, Reads()]  # a file with what a request is about
LocalFunction = Annotated[str, Reads(uploaded=False)]  # MODULE:FUNCTION of this machine's Python
LocalFile = Annotated[Path, Reads(uploaded=False)]  # a file that belongs to the machine, which no client may name


def marker_of(hint: Any) -> Reads | None:
    """How an option reads a file, if it does."""
    if get_origin(hint) is Annotated:
        inner, *rest = get_args(hint)
        return next((one for one in rest if isinstance(one, Reads)), None) or marker_of(inner)
    return next(filter(None, map(marker_of, get_args(hint))), None) if get_args(hint) else None


def files_named(options: Any) -> list[Path]:
    """The files and folders that options name."""
    hints = get_type_hints(type(options), include_extras=True)
    named = [getattr(options, one.name) for one in fields(options) if marker_of(hints[one.name]) is not None]
    return [Path(path) for value in named for path in values_of(value)]


def values_of(value: Any) -> tuple[Any, ...]:
    """The values of an option that may have one, none or several."""
    return value if isinstance(value, tuple) else () if value is None else (value,)  # pyright: ignore[reportUnknownVariableType]
