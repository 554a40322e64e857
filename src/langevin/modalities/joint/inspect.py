"""What `inspect` reports of the parts of joint data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langevin.modalities.modality import Progress


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """The findings of every part, by name."""

    parts: Mapping[str, Any]

    def lines(self) -> list[str]:
        return [f"{name}: {line}" for name, found in self.parts.items() for line in found.lines()]

    def as_dict(self) -> dict[str, Any]:
        return {name: found.as_dict() for name, found in self.parts.items()}


def inspect(parts: Mapping[str, Any], *, progress: Progress | None = None) -> Inspection:
    """Inspect every part. Raises `ValueError` for one without data."""
    return Inspection(parts={name: part.inspect(progress=progress) for name, part in parts.items()})
