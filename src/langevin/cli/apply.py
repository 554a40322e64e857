"""Verbs that a modality brings (`modalities.options.requests`): its plan, run by the driver of plans."""

from pathlib import Path
from typing import Any

from langevin.cli.sample import check_drawing, check_seed, chosen, deliver, loaded, named_out
from langevin.cli.show import LiveLine
from langevin.files import own_folder
from langevin.modalities.modality import RequestContext
from langevin.run.directory import open_run


def run(args: Any) -> Path | None:
    """Run the request, and write its result to a file or to standard output.

    Raises:
        ValueError: a run of another modality or task, or options out of range."""
    check_seed(args.seed)
    line = LiveLine()
    run = open_run(args.run)
    owner = type(args.options).__module__.split(".")[-2]
    if run.recipe.data.kind != owner:
        raise ValueError(f"this verb is for runs of {owner}, and {args.run} is one of {run.recipe.data.kind}")
    check_drawing(args)
    out = named_out(args.out, run, forms=getattr(args.options, "FORMS", None))
    model, _ = loaded(args, run, line)
    plan = run.recipe.data.plan(
        args.options,
        RequestContext(
            model=model, data=run.open_data, seed=args.seed, say=line.say, batch=args.batch,
            progress=line.progress("done"), guided=args.guidance not in (None, 1), chosen=chosen(args),
            folder=own_folder(run.path, "cache", create=False),
        ),
    )  # fmt: skip
    samples = model.run(plan, batch=args.batch)
    line.close()
    deliver(samples, out)
    return out
