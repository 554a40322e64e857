"""`langevin evaluate`: measure a run and write report.html."""

import time
from typing import Any

from langevin.cli.sample import MOST, check_drawing, loaded
from langevin.cli.show import LiveLine, output
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
    if args.count is not None and not 8 <= args.count <= MOST:
        raise ValueError(f"--count must be 8 to {MOST:,}, got {args.count}")
    if args.seeds is not None and not 1 <= args.seeds <= 1000:
        raise ValueError(f"--seeds must be 1 to 1000, got {args.seeds}")
    line, begin = LiveLine(), time.perf_counter()
    run = open_run(args.run)
    model, step = loaded(args, run, line)
    evaluation, path = evaluate_run(
        run, model, args.options, step=step, count=args.count, seeds=3 if args.seeds is None else args.seeds,
        batch=args.batch, curve=args.curve, light=args.light, command=command_of(args),
        guided=args.guidance not in (None, 1), display=line.display(),
    )  # fmt: skip
    show(evaluation.rows, title=f"{run.path}: {evaluation.title}")
    for text in evaluation.lines:
        output(text)
    line.say(f"evaluated in {duration(time.perf_counter() - begin)}: {path}")
    return evaluation
