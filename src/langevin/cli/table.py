"""What `evaluate` prints, and the command line that repeats it."""

import shlex
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from langevin.cli.verbs import Evaluate
from langevin.evaluation.report import MetricRow


def command_of(asked: Evaluate) -> str:
    """The command line that repeats this."""
    changed = {k: v for k, v in vars(asked).items() if k != "run" and v != getattr(Evaluate, k)}
    named = {k.replace("_", "-"): v for k, v in changed.items()}
    options = [f"--{k}" if v is True else f"--{k} {v}" for k, v in named.items()]
    return " ".join(["langevin evaluate", shlex.quote(str(asked.run)), *options])


def show(rows: Sequence[MetricRow], *, title: str) -> None:
    """The table on the terminal."""
    table = Table(title=title, title_justify="left")
    for name in ("metric", "generated", "real vs real", "copycat", "better"):
        table.add_column(name, justify="left" if name in ("metric", "better") else "right")
    for row in rows:
        table.add_row(*row.cells()[:5])
    Console().print(table)
