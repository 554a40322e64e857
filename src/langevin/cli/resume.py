"""`langevin resume`: continue a stopped run."""

from langevin.cli import on_ranks
from langevin.cli.show import LiveLine
from langevin.cli.train import reporting_of
from langevin.cli.verbs import Resume
from langevin.run.directory import Run
from langevin.run.train import resume_run


def run(args: Resume) -> Run | None:
    """Train a stopped run to its end; with --ranks None is returned."""
    if args.ranks != 1:
        on_ranks.resume(args)
        return None
    display = LiveLine().display()
    return resume_run(args.run, allow_code=args.allow_code, to=reporting_of(args), display=display)
