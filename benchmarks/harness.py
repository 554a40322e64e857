"""What all benchmarks share: options, interleaved pairs of runs, medians with their range, tables, and a last line of JSON.

A peer and we are timed in turns within one process, so that whatever else the machine does falls on both. A ratio is the
median of the ratios of pairs that ran one after the other, and its range says how far it can be trusted.
"""

import argparse
import importlib
import json
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType


def options(description: str, *, pairs: int = 5) -> argparse.ArgumentParser:
    """A parser with the options of every benchmark."""
    parser = argparse.ArgumentParser(
        description=description.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--pairs", type=int, default=pairs, help="interleaved runs of each side; fewer than 5 are noise"
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights, data and noise")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, to see that it runs; its figures mean nothing"
    )
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options; a quick run makes two pairs, any other at least five."""
    asked = parser.parse_args()
    if asked.quick:
        asked.pairs = 2
    elif asked.pairs < 5:
        parser.error(f"--pairs {asked.pairs}: a median needs at least 5 pairs (or --quick, for no figures at all)")
    return asked


def peer() -> ModuleType:
    """diffusers, or an end with one line."""
    try:
        return importlib.import_module("diffusers")
    except ImportError as error:
        raise SystemExit(f"diffusers cannot be imported ({error}): pip install 'langevin[bench]'") from error


def interleave(runs: Mapping[str, Callable[[], float]], *, pairs: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Each run's figure, once a pair, in turns: first, second, ..., first, second, ...; `warm_up` rounds are dropped."""
    figures: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(warm_up + pairs):
        for name, run in runs.items():
            figure = run()
            if i >= warm_up:
                figures[name].append(figure)
    return figures


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """The median of per-pair ratios, and the least and greatest of them."""

    median: float
    least: float
    greatest: float

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.least:.3g} to {self.greatest:.3g})"


def ratio(above: Sequence[float], below: Sequence[float]) -> Ratio:
    """above / below, pair by pair."""
    each = [a / b for a, b in zip(above, below, strict=True)]
    return Ratio(median=statistics.median(each), least=min(each), greatest=max(each))


def spread(values: Sequence[float]) -> float:
    """Range over median: the noise of repeated runs, as a share."""
    return (max(values) - min(values)) / statistics.median(values)


def show(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table: the first column to the left, the others to the right."""
    texts = [[f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(head), *texts]) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True)))

    print(f"\n{title}\n{line(head)}\n{line(['-' * w for w in widths])}")
    for cells in texts:
        print(line(cells))


def load() -> float:
    """Processes that want to run, averaged over the last minute; beyond the cores, figures are those of a queue."""
    return round(os.getloadavg()[0], 2)


def introduce(facts: Mapping[str, object], asked: argparse.Namespace) -> dict[str, object]:
    """Print the machine and the options; returns the beginning of the JSON object."""
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    print(f"load {load()} at the start; options {vars(asked)}", flush=True)
    if asked.quick:
        print("a quick run: it shows that the benchmark works, and its figures mean nothing")
    return {"machine": dict(facts), "options": vars(asked), "load_before": load()}


def conclude(figures: Mapping[str, object]) -> None:
    """The last line: everything as one JSON object, floats to five digits."""

    def short(value: object) -> object:
        if isinstance(value, float):
            return float(f"{value:.5g}")
        if isinstance(value, Ratio):
            return {"median": short(value.median), "range": [short(value.least), short(value.greatest)]}
        if isinstance(value, Mapping):
            return {name: short(part) for name, part in value.items()}
        return [short(part) for part in value] if isinstance(value, list | tuple) else value

    print()
    print(json.dumps(short({**figures, "load_after": load()})))
