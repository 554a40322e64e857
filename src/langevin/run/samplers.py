"""Samplers and numbers of steps of runs at equal function evaluations: figures as JSON, a plot, a preview of each cell."""

import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langevin.diffusion.sampler import DPM2, DPM2S, Heun, ProbabilityFlow
from langevin.evaluation.report import plain
from langevin.files import write_atomic
from langevin.run.directory import Run
from langevin.run.generate import RunModel, changed
from langevin.run.ranking import Ranking

SHOWN = 10  # samples in the preview of a cell


@dataclass(frozen=True, kw_only=True)
class Case:
    """A run with a sampler and a number of steps.

    Args:
        name: of the run, in names of files.
        sampler: as `parse_sampler` reads it.
        model: draws so.
    """

    run: Run
    name: str
    sampler: str
    model: RunModel


def cases_of(
    runs: Sequence[Run], models: Sequence[RunModel], names: Sequence[str], samplers: Sequence[str], steps: Sequence[int]
) -> list[Case]:
    """Every run with every sampler at every number of function evaluations, checked before any work.

    Raises:
        ValueError: a sampler that does not fit a process or was not fitted to a run, or a run that draws in one step."""
    for one in runs:
        if one.recipe.method.one_step:
            raise ValueError(
                f"{one.path} draws in one step, so there are no samplers and steps to compare: evaluate it, or compare it "
                "with other runs without --samplers and --steps"
            )
    return [
        Case(run=one, name=name, sampler=text, model=at_nfe(model, text, nfe))
        for one, name, model in zip(runs, names, models, strict=True)
        for text in samplers
        for nfe in steps
    ]


def at_nfe(model: RunModel, text: str, nfe: int) -> RunModel:
    """The model with the sampler that `text` describes and the steps that take `nfe` evaluations, or one fewer."""
    model = changed(model, sampler=text)
    two_per_step = isinstance(model.sampling.sampler, Heun | DPM2 | DPM2S | ProbabilityFlow)
    return changed(model, steps=max(1, (nfe + 1) // 2) if two_per_step else nfe)


def measured(
    cases: Sequence[Case], ranking: Ranking, out: Path, file_name: Callable[[str], str]
) -> Iterator[dict[str, Any]]:
    """The figures of each case, of JSON types, as soon as they are known; a preview of each is written.

    Args:
        file_name: of a sampler's text."""
    out.mkdir(parents=True, exist_ok=True)
    for case in cases:
        found = ranking.rank(case.model)
        shown = found.samples.first(SHOWN).preview()
        name = f"{case.name}-{file_name(case.sampler)}-{found.samples.nfe}{shown.suffix}"
        write_atomic(out / name, shown.content)
        steps = case.model.sampling.steps
        yield {"run": str(case.run.path), "sampler": case.sampler, "steps": steps, **found.figures}


def write(out: Path, cells: Sequence[dict[str, Any]], ranking: Ranking) -> None:
    """Write comparison.json and comparison.png."""
    scorer = ranking.scorer
    content = {
        "measure": scorer.name, "count": ranking.measuring.count, "real_against_real": scorer.floor, "cells": list(cells),
    }  # fmt: skip
    write_atomic(out / "comparison.json", json.dumps(content, indent=1).encode())
    write_atomic(out / "comparison.png", plot(cells, name=scorer.name, floor=scorer.floor))


def plot(cells: Sequence[dict[str, Any]], *, name: str, floor: float) -> bytes:
    """A .png of the score against function evaluations, a line per run and sampler."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for key in dict.fromkeys((cell["run"], cell["sampler"]) for cell in cells):
        line = [cell for cell in cells if (cell["run"], cell["sampler"]) == key]
        label = plain(f"{Path(str(key[0])).name} {key[1]}")
        axes.plot([cell["nfe"] for cell in line], [cell["score"] for cell in line], marker="o", label=label)
    axes.axhline(floor, color="gray", linestyle=":", label="real vs real")
    axes.set(xlabel="function evaluations", ylabel=plain(name), xscale="log", yscale="log")
    axes.legend()
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    return content.getvalue()
