"""`langevin evaluate`: measure a run and write report.html."""

import time
from typing import Any

from langevin.cli.sample import check_drawing, loaded
from langevin.cli.show import LiveLine
from langevin.cli.table import command_of, show
from langevin.modalities.modality import Evaluation
from langevin.run.directory import open_run
from langevin.run.display import duration
from langevin.run.evaluate import evaluate_run


def run(args: Any) -> Evaluation:
    """Measure the run, and print the table and the path of the report.

    Raises:
        ValueError: options out of range, or too few samples or data."""
    check_drawing(args)
    line, begin = LiveLine(), time.perf_counter()
    run = open_run(args.run)
    model, step = loaded(args, run, line)
    evaluation, path = evaluate_run(
        run, model, args.options, step=step, count=args.count, seeds=args.seeds, batch=args.batch,
        curve=args.curve, command=command_of(args), display=line.display(),
    )  # fmt: skip
    show(evaluation.rows, title=f"{run.path}: {evaluation.title}")
    for text in evaluation.lines:
        print(text)
    line.say(f"evaluated in {duration(time.perf_counter() - begin)}: {path}")
    return evaluation
