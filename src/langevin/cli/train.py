"""`langevin train`: train a run on data or by a recipe."""

from langevin.cli.show import LiveLine
from langevin.cli.verbs import Train
from langevin.run.directory import Run
from langevin.run.train import Wanted, train_run


def run(args: Train) -> Run:
    """Train, and return the finished run."""
    return train_run(Wanted(**vars(args)), LiveLine().display())
