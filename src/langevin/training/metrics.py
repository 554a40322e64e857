"""`metrics.jsonl`: the log of a training run, one JSON object per line.

Lines of steps have `loss`. Lines of evaluations have the values that `Hooks.measure` returned. Lines with `event` record a
decision: `plan` (the new number of steps of the whole run) or `threads` (their count from the next step on).
"""

import json
import math
from pathlib import Path
from typing import Any

from langevin.training import checkpoint
from langevin.training.loop import StepReport


class Metrics:
    """Appends to the file. Lines later than step `after`, from which a run is resumed, are dropped first."""

    def __init__(self, path: Path, *, after: int = 0) -> None:
        self.path = path
        self._earlier: list[dict[str, Any]] = []
        if path.exists():
            self._earlier = [line for line in read_metrics(path) if line.get("step", 0) <= after]
            checkpoint.write_atomic(path, "".join(json.dumps(line) + "\n" for line in self._earlier).encode())

    def last(self, name: str) -> float | None:
        """The newest value of that name in the lines before the resume."""
        return next((line[name] for line in reversed(self._earlier) if line.get(name) is not None), None)

    def write(self, **values: Any) -> None:
        """Append a line.

        Raises:
            OSError: the disk is full or not writable."""
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")
        except OSError as error:
            raise checkpoint.explain(error, self.path) from error


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All complete lines of a metrics file; a line that a killed process left incomplete is skipped."""
    lines: list[dict[str, Any]] = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines


def evaluated(path: Path, step: int) -> bool:
    """Whether a metrics file has an evaluation after `step` steps; False if there is no file."""
    lines = read_metrics(path) if path.exists() else []
    return any(line.get("step") == step and line.keys().isdisjoint({"loss", "event"}) for line in lines)


class SmoothLoss:
    """An exponential moving average of the loss over about 50 steps, and the last value of each term."""

    def __init__(self, loss: float | None) -> None:
        self.loss = math.nan if loss is None else loss
        self.terms: dict[str, float] = {}

    def add(self, report: StepReport) -> None:
        self.terms |= report.terms
        if math.isfinite(report.loss):
            self.loss = report.loss if math.isnan(self.loss) else self.loss + 0.02 * (report.loss - self.loss)


def rounded(value: float) -> float | None:
    """The value to 6 decimals; None for what JSON cannot hold, nan and infinity."""
    return round(value, 6) if math.isfinite(value) else None
