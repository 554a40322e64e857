"""Detection of the modality of a path: each modality scores how well it can read the data there."""

from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from langevin.modalities import union
from langevin.modalities.modality import Detected
from langevin.modalities.options import kinds, options_of

CLOSE = 0.1  # scores that differ by less count as equal


def candidates(path: Path) -> list[Detected]:
    """The modalities that can read the path, best first.

    Raises:
        ValueError: the path does not exist."""
    if not path.exists():
        raise ValueError(f"there is nothing at {path}")
    detected = [member.detect(path) for member in get_args(union.AnyModality)]
    return sorted((d for d in detected if d is not None), key=lambda d: -d.score)


def chosen(path: Path, kind: str | None = None) -> Any:
    """The modality that reads the path best, configured for it, or the one of that `kind`.

    Raises:
        ValueError: no modality reads it, or two read it equally well."""
    detected = candidates(path)
    if kind is not None:
        members = {member.__dataclass_fields__["kind"].default: member for member in get_args(union.AnyModality)}
        if kind not in members:
            near = "".join(f"did you mean '{name}'? " for name in get_close_matches(kind, members, n=1))
            raise ValueError(f"there is no data.kind '{kind}'; {near}choose {', '.join(members)}")
        if "path" not in members[kind].__dataclass_fields__:
            raise ValueError(
                f"data.kind={kind} has a path for each of its parts: describe it in a recipe, and train that"
            )
        return next((d.modality for d in detected if d.modality.kind == kind), None) or members[kind](path=str(path))
    if not detected:
        known = "\n".join(f"  {options_of(name).RECOGNISED}" for name in kinds())
        raise ValueError(f"{path} holds nothing that can be trained on. What can be read:\n{known}")
    if len(detected) > 1 and detected[0].score - detected[1].score < CLOSE:
        first, second = detected[:2]
        raise ValueError(
            f"{path} can be read as {first.modality.kind} ({first.reason}) and as {second.modality.kind} ({second.reason}) "
            f"and neither fits better: say which, data.kind={first.modality.kind} or data.kind={second.modality.kind}"
        )
    return detected[0].modality
