"""A run directory: its layout, and how it is written and read."""

from langevin.run.directory import Run, open_run

__all__ = ["Run", "open_run"]
