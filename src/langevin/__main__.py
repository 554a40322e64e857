"""`python -m langevin`, the same as the `langevin` command."""

from langevin.cli import entry

entry()
