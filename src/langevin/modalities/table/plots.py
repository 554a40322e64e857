"""The distributions of columns as a picture, generated beside that of the training data, drawn in milliseconds."""

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from langevin.modalities.table.columns import Column

MOST = 24  # columns in a picture
BARS, BINS = 10, 30
WIDE, HIGH, MARGIN, TITLE, FOOT = 420, 250, 14, 30, 34  # pixels of a plot
DATA, SAMPLES, INK, LINE = (196, 202, 209), (59, 125, 216), (28, 30, 33), (140, 146, 153)


def distribution(column: Column, at: np.ndarray) -> np.ndarray:
    """The distribution function of the training values at `at`."""
    x, p = np.array(column.values), np.array(column.probabilities)
    i = np.searchsorted(x, at, "right") - 1
    j = np.clip(i, 0, len(x) - 2)
    width = x[j + 1] - x[j]
    part = np.divide(at - x[j], width, out=np.zeros(len(at)), where=width > 0)
    inner = p[j] + np.clip(part, 0, 1) * (p[j + 1] - p[j])
    return np.where(i < 0, 0.0, np.where(at >= x[-1], 1.0, inner))


def marginals(columns: tuple[Column, ...], values: tuple[np.ndarray, ...]) -> bytes:
    """A PNG with a plot for each fitted column: the data as grey bars, the samples as blue ones."""
    shown = [(c, v) for c, v in zip(columns, values) if c.fitted][:MOST]
    across = min(4, len(shown))
    down = -(-len(shown) // across)
    image = Image.new("RGB", (across * WIDE, down * HIGH + TITLE), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((MARGIN, 9, MARGIN + 16, 21), fill=DATA)
    draw.text((MARGIN + 22, 6), "data", fill=INK, font=_font(15))
    draw.rectangle((MARGIN + 80, 9, MARGIN + 96, 21), fill=SAMPLES)
    draw.text((MARGIN + 102, 6), "samples", fill=INK, font=_font(15))
    for k, (column, part) in enumerate(shown):
        _plot(draw, column, part, (k % across) * WIDE, (k // across) * HIGH + TITLE)
    out = io.BytesIO()
    image.save(out, format="PNG", optimize=True)
    return out.getvalue()


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _plot(draw: ImageDraw.ImageDraw, column: Column, values: np.ndarray, left: int, top: int) -> None:
    heights, labels = (_categories if column.kind == "category" else _numbers)(column, values)
    title = column.name if len(column.name) <= 32 else column.name[:31] + "…"
    draw.text((left + MARGIN, top + 4), title, fill=INK, font=_font(16))
    base, room = top + HIGH - FOOT, HIGH - FOOT - 34
    wide = (WIDE - 2 * MARGIN) / heights.shape[1]
    scale = room / max(float(heights.max()), 1e-12)
    for i in range(heights.shape[1]):
        x = left + MARGIN + i * wide
        if column.kind == "category":
            draw.rectangle((x + 0.1 * wide, base - scale * heights[0, i], x + 0.48 * wide, base), fill=DATA)
            draw.rectangle((x + 0.5 * wide, base - scale * heights[1, i], x + 0.88 * wide, base), fill=SAMPLES)
            continue
        draw.rectangle((x, base - scale * heights[0, i], x + wide, base), fill=DATA)
    if column.kind != "category":
        points = list[tuple[float, float]]()
        for i, height in enumerate(heights[1].tolist()):
            x, y = left + MARGIN + i * wide, base - scale * height
            points += [(x, y), (x + wide, y)]
        draw.line(points, fill=SAMPLES, width=3, joint="curve")
    draw.line((left + MARGIN, base, left + WIDE - MARGIN, base), fill=LINE)
    for at, text in labels:
        font = _font(13)
        x = left + MARGIN + at * (WIDE - 2 * MARGIN) - draw.textlength(text, font=font) / 2
        x = min(max(x, left + 2), left + WIDE - 2 - draw.textlength(text, font=font))
        draw.text((x, base + 6), text, fill=INK, font=font)


def _categories(column: Column, values: np.ndarray) -> tuple[np.ndarray, list[tuple[float, str]]]:
    """Shares (2, bars) of the data and of the samples, and (place, text) of labels."""
    size = len(column.categories)
    mine = np.bincount(np.where(values < 0, size, values), minlength=size + 1) / max(1, len(values))
    real = np.append(np.array(column.frequencies) * column.present, 1 - column.present)
    names = [*column.categories, "missing"]
    keep = [*range(min(size, BARS)), *([size] if column.holes else [])]
    short = 44 // len(keep)
    labels = [
        ((k + 0.5) / len(keep), names[i] if len(names[i]) <= short else names[i][: short - 1] + "…")
        for k, i in enumerate(keep)
    ]
    return np.stack([real[keep], mine[keep]]), labels


def _numbers(column: Column, values: np.ndarray) -> tuple[np.ndarray, list[tuple[float, str]]]:
    """Shares (2, bins) of the data and of the samples, and (place, text) of labels."""
    x, p = np.array(column.values), np.array(column.probabilities)
    low, high = (float(x[min(np.searchsorted(p, q), len(x) - 1)]) for q in (0.005, 0.995))
    step = column.step or 0.0
    if step and (high - low) / step < BINS:
        edges = np.arange(low - step / 2, high + step, step)
    else:
        edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    real = np.diff(distribution(column, edges))
    real[0] += distribution(column, edges[:1])[0]
    real[-1] += 1 - distribution(column, edges[-1:])[0]
    known = values[~np.isnan(values)]
    mine = np.histogram(known.clip(edges[0], edges[-1]), edges)[0] / max(1, len(known))
    labels = [(k / 2, column.text(v)[:12]) for k, v in enumerate((edges[0], 0.5 * (edges[0] + edges[-1]), edges[-1]))]
    return np.stack([real, mine]), labels
