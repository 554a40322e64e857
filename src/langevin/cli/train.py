"""`langevin train`: train a run on data or by a recipe."""

from langevin.cli.sample import check_seed
from langevin.cli.show import LiveLine
from langevin.cli.verbs import Train
from langevin.run.directory import Run
from langevin.run.train import Wanted, train_run


def run(args: Train) -> Run:
    """Train, and return the finished run."""
    if args.seed is not None:
        check_seed(args.seed)
    return train_run(Wanted(**vars(args)), LiveLine().display())
