"""Types of options that name files and other runs. No torch here."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

M = TypeVar("M")


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


@dataclass(frozen=True)
class NamesRun:
    """Marks an option that names another run, whose model the plan of the request uses."""


OtherRun = Annotated[str, NamesRun()]  # a directory; for a server's client, the name of a run that is served


def marker_of(hint: Any) -> Reads | None:
    """How an option reads a file, if it does."""
    return _mark(hint, Reads)


def _mark(hint: Any, kind: type[M]) -> M | None:
    """The mark of a kind in the type of an option, if it has one."""
    if get_origin(hint) is Annotated:
        inner, *rest = get_args(hint)
        return next((one for one in rest if isinstance(one, kind)), None) or _mark(inner, kind)
    return next((found for part in get_args(hint) if (found := _mark(part, kind)) is not None), None)


def files_named(options: Any) -> list[Path]:
    """The files and folders that options name."""
    hints = get_type_hints(type(options), include_extras=True)
    named = [getattr(options, one.name) for one in fields(options) if marker_of(hints[one.name]) is not None]
    return [Path(path) for value in named for path in values_of(value)]


def runs_named(options: Any) -> dict[str, str]:
    """The runs that options name, by the name under which a plan requests their models: that of the option, with a number
    for an option of several."""
    hints, found = get_type_hints(type(options), include_extras=True), dict[str, str]()
    for one in fields(options):
        value = getattr(options, one.name)
        if _mark(hints[one.name], NamesRun) is not None:
            several = isinstance(value, tuple)
            found |= {f"{one.name}-{i}" if several else one.name: run for i, run in enumerate(values_of(value))}
    return found


def values_of(value: Any) -> tuple[Any, ...]:
    """The values of an option that may have one, none or several."""
    return value if isinstance(value, tuple) else () if value is None else (value,)  # pyright: ignore[reportUnknownVariableType]
