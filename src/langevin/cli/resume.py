"""`langevin resume`: continue a stopped run."""

from langevin.cli import on_ranks
from langevin.cli.on_ranks import reporting_of
from langevin.cli.show import LiveLine
from langevin.cli.train import launch_of
from langevin.cli.verbs import Resume
from langevin.run.directory import Run, open_run
from langevin.run.train import resume_run


def run(args: Resume) -> Run | None:
    """Train a stopped run to its end; with --ranks None is returned."""
    display, where = LiveLine().display(), launch_of(args)
    if args.ranks != 1:
        on_ranks.resume(args)
        return None
    if where is not None:
        from langevin.run.ray_train import Resumed, train_on_ray

        open_run(args.run)
        resumed = Resumed(run=args.run.absolute(), allow_code=args.allow_code, reporting=reporting_of(args))
        return train_on_ray(resumed, where, display)
    return resume_run(args.run, allow_code=args.allow_code, to=reporting_of(args), display=display)
