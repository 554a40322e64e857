"""`langevin classify`: see `texts`."""

from langevin.cli.texts import classify as run

__all__ = ["run"]
