"""`langevin classify`: the classes of files, by the plan of the run's modality, run like those of a verb of its own."""

from langevin.cli.apply import run

__all__ = ["run"]
