"""`langevin compare`: runs x samplers x steps; one table, one plot, one picture."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from langevin.cli.show import LiveLine, counting, duration
from langevin.cli.verbs import Compare
from langevin.evaluation.frechet import Moments, frechet_distance
from langevin.modalities.image.data import Images
from langevin.modalities.image.preview import grid, png
from langevin.recipe.build import open_data
from langevin.recipe.modality import modality_of
from langevin.run.directory import open_run
from langevin.run.generate import with_options
from langevin.run.measure import REAL, draw_like_data, judges, require_enough, spread
from langevin.run.solvers import find
from langevin.training import machine
from langevin.training.checkpoint import write_atomic

SHOWN = 10  # samples of a cell in the picture


def run(asked: Compare) -> list[dict[str, Any]]:
    """Measure every cell at equal network calls, and write comparison.{json,png} and samples.png.

    Raises:
        ValueError: no runs, nothing to compare, or runs of different data."""
    if not asked.runs or not asked.samplers or not asked.steps or min(asked.steps) < 1 or asked.count < SHOWN:
        raise ValueError(f"compare needs runs, samplers, steps of at least 1 and at least {SHOWN} samples a cell")
    line, begin = LiveLine(), time.perf_counter()
    runs = [open_run(path) for path in asked.runs]
    if len({r.facts.get("data") for r in runs}) > 1:
        raise ValueError(
            "these runs are of different data, so their distances do not compare: " + ", ".join(map(str, asked.runs))
        )
    for made in runs:
        if modality_of(made.recipe).name != "image":
            raise ValueError(f"compare is for runs on images; measure {made.path} by `langevin evaluate {made.path}`")
    samplings = {
        (made.path, sampler, calls): with_options(
            made.recipe.sampling, sampler=sampler, guidance=asked.guidance,
            steps=max(1, (calls + 1) // 2) if sampler == "heun" else calls,
        )
        for made in runs for sampler in asked.samplers for calls in asked.steps
    }  # fmt: skip
    for made in runs:
        for (path, sampler, _), sampling in samplings.items():
            if path == made.path and sampler == "learned":
                find(path, sampling, made.width(None))  # refuses before any work what was not fitted
    train, held_out = open_data(runs[0].recipe)
    runs[0].require_same(train.fingerprint, len(train))
    require_enough(train, held_out)
    with counting("training the classifier, steps") as progress:
        place = runs[0].path / "evaluation"
        judged = judges(runs[0].recipe, train, held_out, place, say=line.say, progress=progress)
    name, space = next(iter(judged.spaces.items()))
    real, floor = _reference(space, train, held_out, asked.count)
    cells: list[dict[str, Any]] = []
    strips: list[torch.Tensor] = []
    for made in runs:
        built, _, complaints = made.load(device=machine.device())
        for text in complaints:
            line.say(text)
        for sampler in asked.samplers:
            for calls in asked.steps:
                sampling = samplings[made.path, sampler, calls]
                mark = time.perf_counter()
                images, used = draw_like_data(built, sampling, train, count=asked.count, seed=0, batch=256)
                cells.append({
                    "run": str(made.path), "sampler": sampler, "steps": sampling.steps, "calls": used,
                    "fd": frechet_distance(real, Moments.of(space(images))),
                    "seconds": time.perf_counter() - mark,
                })  # fmt: skip
                strips.append(images[spread(len(images), SHOWN)])
                line.update(
                    f"{made.path.name} {sampler} {used} calls: FD {cells[-1]['fd']:.3f}", last=not line.terminal
                )
    line.close()
    _write(asked.out, cells, strips, space=name, floor=floor, count=asked.count)
    line.say(f"compared {len(cells)} cells in {duration(time.perf_counter() - begin)}: {asked.out}")
    return cells


def _reference(space: Callable[[Tensor], Tensor], train: Images, held_out: Images, count: int) -> tuple[Moments, float]:
    """What all cells are compared with, and what `count` real images score (or as many as there are): held-out ones, or
    training images that the reference then leaves out."""
    items = spread(len(train), REAL)
    if len(held_out) >= count:
        real = Moments.of(space(train.read(items)))
        return real, frechet_distance(real, Moments.of(space(held_out.read(spread(len(held_out), count)))))
    order = items[torch.randperm(len(items), generator=torch.Generator().manual_seed(0))]
    part = min(count, len(order) // 2)
    real = Moments.of(space(train.read(order[part:])))
    return real, frechet_distance(real, Moments.of(space(train.read(order[:part]))))


def _write(
    out: Path, cells: list[dict[str, Any]], strips: list[torch.Tensor], *, space: str, floor: float, count: int
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    about = {"space": space, "count": count, "real_against_real": floor, "cells": cells}
    write_atomic(out / "comparison.json", json.dumps(about, indent=1).encode())
    names = [f"{Path(str(c['run'])).name} {c['sampler']} {c['calls']}" for c in cells for _ in range(SHOWN)]
    captions = [n if i % SHOWN == 0 else "" for i, n in enumerate(names)]
    write_atomic(out / "samples.png", png(grid(torch.cat(strips), columns=SHOWN, captions=captions)))
    _plot(out / "comparison.png", cells, space=space, floor=floor)
    table = Table(
        title=f"FD in {space} features, {count} samples a cell; real against real {floor:.3f}", title_justify="left"
    )
    for column in ("run", "sampler", "steps", "calls", "FD", "seconds"):
        table.add_column(column, justify="left" if column in ("run", "sampler") else "right")
    for c in cells:
        table.add_row(*(f"{c[k]:.3f}" if k == "fd" else f"{c[k]:.1f}" if k == "seconds" else str(c[k])
                        for k in ("run", "sampler", "steps", "calls", "fd", "seconds")))  # fmt: skip
    Console().print(table)


def _plot(path: Path, cells: list[dict[str, Any]], *, space: str, floor: float) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for key in dict.fromkeys((c["run"], c["sampler"]) for c in cells):
        mine = [c for c in cells if (c["run"], c["sampler"]) == key]
        axes.plot(
            [c["calls"] for c in mine], [c["fd"] for c in mine], marker="o", label=f"{Path(str(key[0])).name} {key[1]}"
        )
    axes.axhline(floor, color="gray", linestyle=":", label="real against real")
    axes.set(xlabel="network calls", ylabel=f"FD ({space})", xscale="log", yscale="log")
    axes.legend()
    figure.savefig(path, dpi=120)
