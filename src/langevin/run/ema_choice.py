"""Which EMA of the weights a finished run draws with, RUN/ema/choice.json: the length, and the figures that decided.

Every length has the same sets of samples or examples. One takes the place of the standard length only if it is the best
on average and better beyond the noise: 0 is below the one-sided 95 % interval of the differences, set by set.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from langevin.evaluation.statistics import mean_interval
from langevin.files import own_folder, read_regular, write_atomic

MOST = 1 << 20  # bytes of the file
NAME = "choice.json"


@dataclass(frozen=True, kw_only=True)
class EMAChoice:
    """The length that was chosen at the end of a run.

    Args:
        step: of the weights.
        length: what was chosen.
        standard: the length that stays unless another one is better beyond the noise.
        figure: what was measured; lower is better.
        count: samples or examples of a set.
        values: the figure of each set, by length.
    """

    step: int
    length: float
    standard: float
    figure: str
    count: int
    values: Mapping[float, Sequence[float]]

    def __post_init__(self) -> None:
        numbers = [value for found in self.values.values() for value in found]
        sizes = {len(found) for found in self.values.values()}
        if not {self.length, self.standard} <= self.values.keys() or len(sizes) != 1 or 0 in sizes:
            raise ValueError("an EMA length is chosen among lengths with the same sets each")
        if not all(map(math.isfinite, numbers)) or not all(0 < length <= 0.28 for length in self.values):
            raise ValueError("figures of EMA lengths are finite, and lengths between 0 and 0.28")

    def line(self) -> str:
        """The choice in a sentence, with the figures of all lengths."""
        lengths = " ".join(f"{length:g}" for length in self.values)
        figures = " ".join(f"{fmean(found):.3g}" for found in self.values.values())
        if self.length != self.standard:
            return f"EMA length {self.length:g} chosen of {lengths}: {self.figure} {figures}"
        return (
            f"EMA length {self.length:g} kept of {lengths}, as none is better beyond the noise: {self.figure} {figures}"
        )


def best_length(values: Mapping[float, Sequence[float]], standard: float) -> float:
    """The length of the least mean if it is better than the standard one beyond the noise, else the standard one.

    Args:
        values: the figure of each set, two or more, by length.
    """
    best = min(values, key=lambda length: fmean(values[length]))
    gains = [old - new for old, new in zip(values[standard], values[best], strict=True)]
    low = mean_interval(gains, level=0.9).low
    return best if low is not None and low > 0 else standard


def write_choice(directory: Path, choice: EMAChoice) -> None:
    """Record the choice in a run."""
    curve = [{"length": length, "values": list(found)} for length, found in choice.values.items()]
    content: dict[str, Any] = {k: v for k, v in asdict(choice).items() if k != "values"} | {"curve": curve}
    write_atomic(own_folder(directory, "ema") / NAME, json.dumps(content, indent=1).encode())


def read_choice(directory: Path) -> EMAChoice | None:
    """The choice of a run; None if there was none.

    Raises:
        ValueError: the file is damaged."""
    path = directory / "ema" / NAME
    if not path.is_file():
        return None
    try:
        tree: Any = json.loads(read_regular(path, most=MOST))
        curve = {float(point["length"]): [float(value) for value in point["values"]] for point in tree["curve"]}
        return EMAChoice(
            step=int(tree["step"]), length=float(tree["length"]), standard=float(tree["standard"]),
            figure=str(tree["figure"]), count=int(tree["count"]), values=curve,
        )  # fmt: skip
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise ValueError(
            f"{path} is damaged ({error}): remove it, and `langevin resume {directory}` chooses an EMA length again"
        ) from error
