"""The tables that `evaluate`, `compare` and `distil` print, and the command line that repeats an evaluation."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from langevin.cli.show import printable
from langevin.cli.verbs import Evaluate
from langevin.evaluation.report import MetricRow, grouped

COLUMNS = ("metric", "generated", "real vs\nreal", "copycat", "better")
CODED = (*COLUMNS[:-1], "codec", COLUMNS[-1])  # of a run in latents


def command_of(args: Any) -> str:
    """The command line of an evaluation with the options that differ from their defaults."""
    given = {f.name: getattr(args, f.name) for f in fields(Evaluate) if f.name != "run"}
    defaults = {f.name: f.default for f in fields(Evaluate)} | {f.name: f.default for f in fields(args.options)}
    changed = {k: v for k, v in (given | vars(args.options)).items() if v != defaults[k]}
    listed = {k: v if isinstance(v, tuple) else () if v is True else (v,) for k, v in changed.items()}
    named = {k.replace("_", "-"): shlex.join(map(str, values)) for k, values in listed.items()}
    return " ".join(
        ["langevin evaluate", shlex.quote(str(args.run)), *(f"--{k} {v}".strip() for k, v in named.items())]
    )


def show(rows: Sequence[MetricRow], *, title: str) -> None:
    """Print the table: a heading per group, its metrics below; names of metrics are not wrapped."""
    coded = any(row.codec is not None for row in rows)
    columns = CODED if coded else COLUMNS
    cells = [
        tuple(map(printable, (f"  {row.metric}" if row.group else row.metric, *row.cells(codec=coded)[1:-1])))
        for row in rows
    ]
    widths = [max(map(cell_len, (*name.split("\n"), *column))) for name, column in zip(columns, zip(*cells))]
    spare = Console().width - sum(widths[:-1]) - 2 * len(widths[:-1])
    widths[-1] = min(widths[-1], max(spare, len("higher")))  # only the last column may wrap
    console = Console(width=max(Console().width, sum(widths) + 2 * len(widths[:-1])))
    console.print(printable(title), style="italic", markup=False, highlight=False)
    console.print(_table(columns, widths, [], header=True), end="")
    for group, members in grouped(rows).items():
        if group:
            console.print(printable(group), style="bold", markup=False, highlight=False)
        console.print(_table(columns, widths, [cells[rows.index(row)] for row in members]), end="")
    console.print()


def _table(
    columns: Sequence[str], widths: Sequence[int], rows: Sequence[Sequence[str]], *, header: bool = False
) -> Table:
    table = Table(box=None, show_header=header, padding=(0, 2, 0, 0), pad_edge=False)
    for name, width in zip(columns, widths):
        words = name in ("metric", "better")
        table.add_column(name, width=width, justify="left" if words else "right", no_wrap=name != "better")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def show_groups(columns: Sequence[str], groups: Mapping[str, Sequence[Sequence[str]]]) -> None:
    """Print a table with a heading per group, as wide as it needs to be."""
    lines: list[Sequence[str]] = [columns]
    for group, rows in groups.items():
        lines += [(group, *[""] * (len(columns) - 1))] if group else []
        lines += [(f"  {first}" if group else first, *rest) for first, *rest in rows]
    texts = [[printable(cell) for cell in line] for line in lines]
    widths = [max(map(cell_len, column)) for column in zip(*texts, strict=True)]
    shown = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    for i, width in enumerate(widths):
        shown.add_column(width=width, no_wrap=True, justify="right" if 0 < i < len(columns) - 1 else "left")
    for line in texts:
        shown.add_row(*map(Text, line))
    Console(width=sum(widths) + 2 * len(widths)).print(shown)
