"""`metrics.jsonl`: the log of a training run, one JSON object per line.

Lines of steps have `loss`. Lines of evaluations have the values that `Hooks.measure` returned. Lines with `event` record a
decision: `plan` (the new number of steps of the whole run) or `threads` (their count from the next step on).
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from langevin.files import append, explain, read_regular, write_atomic

_MOST = 2**30  # bytes of the file


class Metrics:
    """Appends to the file. Lines later than step `after`, from which a run is resumed, are dropped first."""

    def __init__(self, path: Path, *, after: int = 0) -> None:
        self.path = path
        try:
            kept = [text for text, line in _lines(path) if line["step"] <= after]
        except OSError:
            return  # there is no file yet, or a disk that cannot read it may still append
        write_atomic(path, "".join(text + "\n" for text in kept).encode())

    def write(self, **values: Any) -> None:
        """Append a line.

        Raises:
            OSError: the disk is full or not writable."""
        try:
            with append(self.path) as file:
                file.write(json.dumps(values) + "\n")
        except OSError as error:
            raise explain(error, self.path, run=self.path.parent) from error


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file; what a killed process or a bad disk has left of others is skipped.

    It is a log: what it lacks is missing in curves, and decides nothing."""
    try:
        return [{k: v for k, v in line.items() if _is_figure(k, v)} for _, line in _lines(path)]
    except OSError:
        return []


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(text, object) for each line that is an object with a step. Raises OSError if the file cannot be read."""
    for text in read_regular(path, most=_MOST).decode("utf-8", "replace").split("\n"):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict) and type(line.get("step")) is int:
            yield text, line


def _is_figure(key: str, value: object) -> bool:
    if isinstance(value, list):
        return all(map(_is_number, value))
    return value is None or _is_number(value) or key in ("event", "terms")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def evaluated(path: Path, step: int) -> bool:
    """Whether a metrics file has an evaluation after `step` steps; False if there is no file."""
    return any(line.get("step") == step and line.keys().isdisjoint({"loss", "event"}) for line in read_metrics(path))


def rounded(value: float) -> float | None:
    """The value to 6 decimals; None for what JSON cannot hold, nan and infinity."""
    return round(value, 6) if math.isfinite(value) else None
