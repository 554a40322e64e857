"""`langevin compare`: runs side by side, each as it draws by itself; or runs x samplers x steps at equal evaluations."""

import io
import json
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from langevin.cli.out import require_writable, unused
from langevin.cli.sample import MOST, check_guidance, short
from langevin.cli.show import LiveLine, printable
from langevin.cli.verbs import Compare
from langevin.diffusion.sampler import DPM2, DPM2S, Heun, ProbabilityFlow
from langevin.evaluation.report import plain
from langevin.files import own_folder, write_atomic
from langevin.modalities.modality import Measuring, RequestContext, Samples
from langevin.modalities.options import options_of
from langevin.run.compare import measured_side_by_side, page_of
from langevin.run.directory import Run, load_model, open_run
from langevin.run.display import duration
from langevin.run.generate import RunModel, changed
from langevin.training import machine
from langevin.user_function import CodePermission

SHOWN = 10  # samples in the preview of a cell
SAMPLERS, STEPS, COUNT = ("dpm2m", "heun", "ddim"), (5, 10, 20), 500  # by default


def run(args: Compare) -> list[dict[str, Any]]:
    """Measure runs side by side, or every cell (a run, a sampler, a number of steps).

    Raises:
        ValueError: no runs, nothing to compare, runs of different data, or a folder that holds files."""
    check(args)
    line, code = LiveLine(), CodePermission.of((), allow=args.allow_code)
    runs = [open_run(path) for path in args.runs]
    if len({r.facts.get("data") for r in runs}) > 1:
        raise ValueError(
            "these runs are of different data, so their distances cannot be compared: " + ", ".join(map(str, args.runs))
        )
    out = args.out or unused(runs[0].path / "comparison")
    out = require_writable(out, folder=True)
    models = [load_model(one, device=machine.device(), code=code, say=line.say)[0] for one in runs]
    models = [guided(one, model, args.guidance) for one, model in zip(runs, models, strict=True)]
    beside = len(runs) > 1 and not args.samplers and not args.steps
    without = getattr(options_of(runs[0].recipe.data.kind).Evaluate, "UNUSED", {})
    if args.seeds is not None and not beside:
        raise ValueError("--seeds are of runs that are measured side by side, each as it draws by itself: leave it out")
    if args.seeds is not None and "seeds" in without:
        raise ValueError(f"--seeds has no effect here, as {without['seeds']}: leave it out")
    train, val = runs[0].open_data()
    measuring = Measuring(
        model=models[0], train=train, val=val, folder=own_folder(runs[0].path, "evaluation", create=False),
        facts=runs[0].facts, load=lambda path: load_model(open_run(path), device=machine.device(), code=code)[0],
        count=args.count if beside else args.count or COUNT, seeds=3 if args.seeds is None else args.seeds, say=line.say,
        progress=line.progress, guided=args.guidance not in (None, 1), command=command_of(args), run=runs[0].path,
    )  # fmt: skip
    if beside:
        return side_by_side(runs, models, measuring, out, line)
    return at_equal_evaluations(args, runs, models, measuring, out, line)


def guided(run: Run, model: RunModel, weight: float | None) -> RunModel:
    """The model with guidance of that weight. Raises `ValueError` for a run that takes none."""
    try:
        return model if weight is None else changed(model, guidance=weight)
    except ValueError as error:
        raise ValueError(f"{run.path}: {error}") from error


def command_of(args: Compare) -> str:
    """The command line that repeats a comparison side by side."""
    words = [f"--{n} {v:g}" for n in ("count", "seeds", "guidance") if (v := getattr(args, n)) is not None]
    return " ".join([shlex.join(["langevin", "compare", *map(str, args.runs)]), *words])


def named(runs: Sequence[Run]) -> list[str]:
    """A name of each run: that of its directory, numbered where several have one."""
    last = [one.path.name for one in runs]
    return [name if last.count(name) == 1 else f"{name}-{i}" for i, name in enumerate(last, 1)]


def side_by_side(
    runs: Sequence[Run], models: Sequence[RunModel], measuring: Measuring, out: Path, line: LiveLine
) -> list[dict[str, Any]]:
    """Write report.html and report.json, and print the table."""
    begin, names = time.perf_counter(), named(runs)
    options = options_of(runs[0].recipe.data.kind).Evaluate()
    table = measured_side_by_side(runs, models, names, options, measuring, line.say)
    line.close()
    path = page_of("Runs side by side: " + ", ".join(names), table).write(out)
    show_groups(table.columns, table.groups())
    line.say(f"compared {len(runs)} runs in {duration(time.perf_counter() - begin)}: {path}")
    sides: list[dict[str, Any]] = table.data()["sides"]
    return sides


def show_groups(columns: Sequence[str], groups: Mapping[str, Sequence[Sequence[str]]]) -> None:
    """Print a table with a heading per group, as wide as it needs to be."""
    lines: list[Sequence[str]] = [columns]
    for group, rows in groups.items():
        lines += [(group, *[""] * (len(columns) - 1))] if group else []
        lines += [(f"  {first}" if group else first, *rest) for first, *rest in rows]
    texts = [[printable(cell) for cell in line] for line in lines]
    widths = [max(map(cell_len, column)) for column in zip(*texts, strict=True)]
    shown = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    for i, width in enumerate(widths):
        shown.add_column(width=width, no_wrap=True, justify="right" if 0 < i < len(columns) - 1 else "left")
    for line in texts:
        shown.add_row(*map(Text, line))
    Console(width=sum(widths) + 2 * len(widths)).print(shown)


def at_equal_evaluations(
    args: Compare, runs: Sequence[Run], models: Sequence[RunModel], measuring: Measuring, out: Path, line: LiveLine
) -> list[dict[str, Any]]:
    """Write comparison.{json,png} and a preview of each cell, and print the table."""
    begin = time.perf_counter()
    for one in runs:
        if one.recipe.method.one_step:
            raise ValueError(
                f"{one.path} draws in one step, so there are no samplers and steps to compare: evaluate it, or compare it "
                "with other runs without --samplers and --steps"
            )
    # raises before any work if a sampler does not fit the process, or was not fitted to the run
    cases = [
        (one, name, text, at_nfe(model, text, nfe))
        for one, name, model in zip(runs, named(runs), models, strict=True)
        for text in args.samplers or SAMPLERS for nfe in args.steps or STEPS
    ]  # fmt: skip
    scorer = runs[0].recipe.data.scorer(measuring)
    cells: list[dict[str, Any]] = []
    for one, name, text, model in cases:
        mark = time.perf_counter()
        data = lambda: (measuring.train, measuring.val)  # noqa: E731
        like = RequestContext(model=model, data=data, count=measuring.count, seed=1_000_000)
        samples = model.run(one.recipe.data.plan_like(measuring.train, like))
        cells.append({
            "run": str(one.path), "sampler": text, "steps": model.sampling.steps, "nfe": samples.nfe,
            "score": scorer.score(samples), "seconds": time.perf_counter() - mark,
        })  # fmt: skip
        save_preview(samples, out / f"{name}-{short(text)}-{samples.nfe}")
        line.update(f"{one.path.name} {text} {samples.nfe} NFE: {cells[-1]['score']:.3f}", last=not line.terminal)
    line.close()
    write(out, cells, name=scorer.name, floor=scorer.floor, count=measuring.count or COUNT)
    line.say(f"compared {len(cells)} cells in {duration(time.perf_counter() - begin)}: {out}")
    return cells


def check(args: Compare) -> None:
    """Check the options before any work. Raises `ValueError` for one that is missing or out of range."""
    if not args.runs:
        raise ValueError("compare needs runs: one or more, as in `langevin compare RUN RUN`")
    if not all(1 <= steps <= 10_000 for steps in args.steps):
        raise ValueError(f"--steps must be between 1 and 10000, got {', '.join(map(str, args.steps))}")
    if args.count is not None and not SHOWN <= args.count <= MOST:
        raise ValueError(f"--count must be {SHOWN} to {MOST:,}, got {args.count}")
    if args.seeds is not None and not 1 <= args.seeds <= 1000:
        raise ValueError(f"--seeds must be 1 to 1000, got {args.seeds}")
    check_guidance(args.guidance)


def at_nfe(model: RunModel, text: str, nfe: int) -> RunModel:
    """The model with the sampler that `text` describes and the steps that take `nfe` evaluations, or one fewer."""
    model = changed(model, sampler=text)
    two_per_step = isinstance(model.sampling.sampler, Heun | DPM2 | DPM2S | ProbabilityFlow)
    return changed(model, steps=max(1, (nfe + 1) // 2) if two_per_step else nfe)


def save_preview(samples: Samples, out: Path) -> None:
    """Write a preview of the first samples of a cell."""
    shown = samples.first(SHOWN).preview()
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out.with_name(out.name + shown.suffix), shown.content)


def write(out: Path, cells: Sequence[dict[str, Any]], *, name: str, floor: float, count: int) -> None:
    """Write the table as JSON and on the terminal, and the plot."""
    out.mkdir(parents=True, exist_ok=True)
    content = {"measure": name, "count": count, "real_against_real": floor, "cells": cells}
    write_atomic(out / "comparison.json", json.dumps(content, indent=1).encode())
    plot(out / "comparison.png", cells, name=name, floor=floor)
    table = Table(title=f"{name}, {count} samples per cell; real vs real {floor:.3f}", title_justify="left")
    columns = ("run", "sampler", "steps", "nfe", "score", "seconds")
    for column in columns:
        table.add_column(column, justify="left" if column in ("run", "sampler") else "right")
    for cell in cells:
        shown = {**cell, "score": f"{cell['score']:.3f}", "seconds": f"{cell['seconds']:.1f}"}
        table.add_row(*(Text(printable(str(shown[key]))) for key in columns))
    Console().print(table)


def plot(path: Path, cells: Sequence[dict[str, Any]], *, name: str, floor: float) -> None:
    """Plot the score against function evaluations, a line per run and sampler."""
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
    write_atomic(path, content.getvalue())
