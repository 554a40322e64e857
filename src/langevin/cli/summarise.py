"""`langevin summarise`: see `texts`."""

from langevin.cli.texts import summarise as run

__all__ = ["run"]
