"""Options of each modality: the `options` modules in the folders next to this file, imported without torch."""

from difflib import get_close_matches
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, get_args


@cache
def kinds() -> tuple[str, ...]:
    """Kinds of the modalities in this package: the folders that have an `options` module."""
    return tuple(sorted(path.parent.name for path in Path(__file__).parent.glob("*/options.py")))


def options_of(kind: str) -> ModuleType | Any:
    """The options module of a modality, with `Sample`, `Evaluate` and optionally `VERBS`.

    A module may have `ENDPOINTS`: of OpenAI's API, such as "audio/speech" -> a function from fields of a request, as
    keywords, to options; a server then answers it. A class of options may have `UNUSED`: options of the verb that have no
    effect with it -> why, which are refused. `Sample` may have `EACH`: its options whose values samples take in turn, that
    of --each first. `Chat`, the options of `langevin chat`, has `request(turns)`, from turns of (user or assistant, text)
    to options of a request for the next; its modality then has `require_replies()`, and `record(turns)`, the turns as its
    data holds them.

    Raises:
        ValueError: there is no such modality."""
    if kind in kinds():
        return import_module(f"langevin.modalities.{kind}.options")
    member = _members().get(kind)
    if member is None:
        known = [*kinds(), *_members()]
        near = "".join(f"; did you mean '{name}'?" for name in get_close_matches(kind, known, n=1)) or "."
        raise ValueError(f"there is no modality '{kind}'{near} Known are {', '.join(known)}")
    return import_module(member.__module__)


def _members() -> dict[str, Any]:
    """Members of the union outside this package, by kind."""
    from langevin.modalities import union  # imports torch

    members = {member.__dataclass_fields__["kind"].default: member for member in get_args(union.AnyModality)}
    return {kind: member for kind, member in members.items() if kind not in kinds()}


def requests() -> dict[str, tuple[str, type[Any]]]:
    """CLI verbs that only one modality has: verb -> (kind, options class)."""
    verbs = [(kind, verb) for kind in kinds() for verb in getattr(options_of(kind), "VERBS", ())]
    return {verb.__name__.lower(): (kind, verb) for kind, verb in verbs}


__all__ = ["kinds", "options_of", "requests"]
