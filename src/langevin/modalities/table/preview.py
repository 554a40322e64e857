"""Samples of a table to look at: as values again, as aligned text, and as plots."""

import math
from typing import TYPE_CHECKING

import numpy as np

from langevin.modalities.modality import File, Samples
from langevin.modalities.table import plots, write
from langevin.modalities.table.columns import Column

if TYPE_CHECKING:
    from langevin.modalities.table.modality import Table

ROWS = 20  # samples in a text
WIDE = 18  # characters of a cell


def values_of(columns: tuple[Column, ...], rows: list[write.Row]) -> tuple[np.ndarray, ...]:
    """The values of columns from rows of texts, as `TableSet.values`."""
    found = list[np.ndarray]()
    for i, column in enumerate(columns):
        cells = [write.plain(row[i]) for row in rows]
        if column.kind == "category":
            codes = [-1 if cell is None else column.code(cell) for cell in cells]
            found.append(np.array([-1 if code is None else code for code in codes], dtype=np.int64))
        else:
            found.append(np.array([_number(column, cell) for cell in cells]))
    return tuple(found)


def _number(column: Column, cell: write.Cell) -> float:
    """The value of a cell; NaN of one that is missing, or was given and is none."""
    try:
        return math.nan if cell is None or not column.continuous else column.number(cell)
    except ValueError:
        return math.nan


def text_table(names: list[str], rows: list[write.Row]) -> str:
    """The first samples as aligned text."""
    shown = [[_short(name) for name in names]]
    shown += [[_short("" if cell is None else str(write.plain(cell))) for cell in row] for row in rows[:ROWS]]
    widths = [max(len(row[i]) for row in shown) for i in range(len(names))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in shown]
    return "\n".join([*lines, *([f"... {len(rows) - ROWS:,} more"] if len(rows) > ROWS else [])]) + "\n"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= WIDE else text[: WIDE - 1] + "…"


def preview(table: "Table", samples: Samples) -> File:
    """Plots of the columns, generated beside the data; of filled tables the first samples as text."""
    columns = write.written(table.columns)
    if samples.document or not any(column.fitted for column in columns):
        shown = text_table([column.name for column in columns], list(samples.values))
        return File(suffix=".txt", content=shown.encode())
    return File(suffix=".png", content=plots.marginals(columns, values_of(columns, list(samples.values))))
