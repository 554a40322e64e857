"""Samples of a table to look at: the first ones, and the distribution of each column beside that of the data."""

import io
from typing import TYPE_CHECKING

import numpy as np

from langevin.evaluation.report import COLOURS, INKS, plain
from langevin.modalities.modality import File, Samples
from langevin.modalities.table import write
from langevin.modalities.table.columns import Column

if TYPE_CHECKING:
    from langevin.modalities.table.modality import Table

MOST = 24  # columns in a picture
ROWS = 20  # samples in a text
WIDE = 18  # characters of a cell
BARS = 12  # categories of a plot


def values_of(columns: tuple[Column, ...], rows: list[write.Row]) -> tuple[np.ndarray, ...]:
    """The values of columns from rows of texts, as `TableSet.values`."""
    found = list[np.ndarray]()
    for i, column in enumerate(columns):
        cells = [write.plain(row[i]) for row in rows]
        if column.kind == "category":
            codes = [-1 if cell is None else column.code(cell) for cell in cells]
            found.append(np.array([-1 if code is None else code for code in codes], dtype=np.int64))
        else:
            found.append(np.array([np.nan if c is None or not column.continuous else column.number(c) for c in cells]))
    return tuple(found)


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
    if samples.document or not any(column.modelled for column in columns):
        shown = text_table([column.name for column in columns], list(samples.values))
        return File(suffix=".txt", content=shown.encode())
    return File(suffix=".png", content=marginals(columns, values_of(columns, list(samples.values)), _reference(table)))


def _reference(table: "Table") -> dict[str, np.ndarray]:
    """The values of the training data by column."""
    train = table.open()[0]
    return dict(zip(train.names, train.values))


def marginals(columns: tuple[Column, ...], generated: tuple[np.ndarray, ...], real: dict[str, np.ndarray]) -> bytes:
    """A PNG with a plot for each modelled column: the data in grey, the samples in colour."""
    from matplotlib.figure import Figure  # half of the time to import the package

    shown = [(i, c) for i, c in enumerate(columns) if c.modelled and c.name in real][:MOST]
    across = min(4, len(shown))
    down = -(-len(shown) // across)
    ink, grid = INKS["light"]
    figure = Figure(figsize=(3 * across, 2.1 * down), layout="constrained", dpi=90)
    axes = figure.subplots(down, across, squeeze=False).flatten()
    for axis in axes[len(shown) :]:
        axis.set_axis_off()
    for axis, (i, column) in zip(axes, shown):
        _plot(axis, column, generated[i], real[column.name])
        axis.set_title(plain(column.name), fontsize=9, color=ink)
        axis.tick_params(labelsize=7, colors=ink)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.spines["bottom"].set_color(grid)
        axis.set_yticks([])
    axes[0].legend(["data", "samples"], fontsize=7, frameon=False)
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _plot(axis: object, column: Column, generated: np.ndarray, real: np.ndarray) -> None:
    """One column: bars of the shares of categories and of missing cells, or histograms."""
    draw: object = axis
    if column.kind == "category":
        names = [*column.categories[:BARS]]
        parts = [
            np.bincount(v[v >= 0], minlength=len(column.categories))[:BARS] / max(1, len(v)) for v in (real, generated)
        ]
        if column.holes:
            names.append("missing")
            parts = [np.append(part, (v < 0).mean()) for part, v in zip(parts, (real, generated))]
        at = np.arange(len(names))
        draw.bar(at - 0.2, parts[0], 0.4, color="#b9c0c8")  # type: ignore[attr-defined]
        draw.bar(at + 0.2, parts[1], 0.4, color=COLOURS[0])  # type: ignore[attr-defined]
        draw.set_xticks(at, [plain(_short(name)[:9]) for name in names], rotation=30 if len(names) > 3 else 0)  # type: ignore[attr-defined]
        return
    known, mine = real[~np.isnan(real)], generated[~np.isnan(generated)]
    low, high = np.quantile(known, [0.005, 0.995])
    edges = np.linspace(low, high, 31)
    if edges[-1] <= edges[0]:
        edges = np.linspace(known.min() - 0.5, known.max() + 0.5, 31)
    draw.hist(known.clip(edges[0], edges[-1]), edges, density=True, color="#b9c0c8")  # type: ignore[attr-defined]
    draw.hist(mine.clip(edges[0], edges[-1]), edges, density=True, histtype="step", color=COLOURS[0], linewidth=1.4)  # type: ignore[attr-defined]
    if column.kind == "date":
        ticks = np.linspace(edges[0], edges[-1], 3)
        draw.set_xticks(ticks, [column.text(v)[:10] for v in ticks])  # type: ignore[attr-defined]
