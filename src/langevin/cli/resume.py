"""`langevin resume`: continue a stopped run."""

from langevin.cli.show import LiveLine
from langevin.cli.train import launch_of
from langevin.cli.verbs import Resume
from langevin.run.directory import Run, open_run
from langevin.run.train import resume_run


def run(args: Resume) -> Run:
    """Train a stopped run to its end."""
    display, where = LiveLine().display(), launch_of(args)
    if where is not None:
        from langevin.run.ray_train import Resumed, train_on_ray

        open_run(args.run)
        resumed = Resumed(run=args.run.absolute(), allow_code=args.allow_code, tensorboard=args.tensorboard)
        return train_on_ray(resumed, where, display)
    return resume_run(args.run, allow_code=args.allow_code, tensorboard=args.tensorboard, display=display)
