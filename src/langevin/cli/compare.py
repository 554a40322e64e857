"""`langevin compare`: runs side by side, each as it draws by itself; or runs x samplers x steps at equal evaluations."""

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from langevin.cli.out import require_writable, unused
from langevin.cli.sample import MOST, check_guidance, short
from langevin.cli.show import LiveLine, printable
from langevin.cli.table import show_groups
from langevin.cli.verbs import Compare
from langevin.files import own_folder, write_atomic
from langevin.modalities.modality import Measuring
from langevin.modalities.options import options_of
from langevin.run.compare import measured_side_by_side, page_of
from langevin.run.compare_picture import picture_of
from langevin.run.directory import Run, load_model, open_run
from langevin.run.display import duration
from langevin.run.generate import RunModel, changed
from langevin.run.ranking import Ranking
from langevin.run.samplers import SHOWN, cases_of, measured, write
from langevin.training import machine
from langevin.user_function import CodePermission

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
    """Write report.html, report.json and, where samples are pictures, samples.png; print the table."""
    begin, names = time.perf_counter(), named(runs)
    options = options_of(runs[0].recipe.data.kind).Evaluate()
    table = measured_side_by_side(runs, models, names, options, measuring, line.say)
    picture = picture_of(models, names, measuring)
    line.close()
    path = page_of("Runs side by side: " + ", ".join(names), table, picture).write(out)
    if picture is not None:
        write_atomic(out / "samples.png", picture)
    show_groups(table.columns, table.groups())
    line.say(f"compared {len(runs)} runs in {duration(time.perf_counter() - begin)}: {path}")
    sides: list[dict[str, Any]] = table.data()["sides"]
    return sides


def at_equal_evaluations(
    args: Compare, runs: Sequence[Run], models: Sequence[RunModel], measuring: Measuring, out: Path, line: LiveLine
) -> list[dict[str, Any]]:
    """Write comparison.{json,png} and a preview of each cell, and print the table."""
    begin, cells = time.perf_counter(), list[dict[str, Any]]()
    cases = cases_of(runs, models, named(runs), args.samplers or SAMPLERS, args.steps or STEPS)
    ranking = Ranking.of(measuring)
    for cell in measured(cases, ranking, out, short):
        cells.append(cell)
        text = f"{Path(cell['run']).name} {cell['sampler']} {cell['nfe']} NFE: {cell['score']:.3f}"
        line.update(text, last=not line.terminal)
    line.close()
    write(out, cells, ranking)
    show_cells(cells, ranking)
    line.say(f"compared {len(cells)} cells in {duration(time.perf_counter() - begin)}: {out}")
    return cells


def show_cells(cells: Sequence[dict[str, Any]], ranking: Ranking) -> None:
    """Print the figures of the cells."""
    about = f"{ranking.measuring.count} samples per cell; real vs real {ranking.scorer.floor:.3f}"
    table = Table(title=f"{ranking.scorer.name}, {about}", title_justify="left")
    columns = {
        "run": "run",
        "sampler": "sampler",
        "steps": "steps",
        "nfe": "nfe",
        "score": "score",
        "seconds": "s/sample",
    }
    for key, column in columns.items():
        table.add_column(column, justify="left" if key in ("run", "sampler") else "right")
    for cell in cells:
        shown = {**cell, "score": f"{cell['score']:.3f}", "seconds": f"{cell['seconds']:.2g}"}
        table.add_row(*(Text(printable(str(shown[key]))) for key in columns))
    Console().print(table)


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
