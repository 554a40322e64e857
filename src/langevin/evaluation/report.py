"""A report of a run: a self-contained `report.html`, and `report.json` with the same figures.

A report is a title and sections: facts, metrics, pictures, curves. Each section makes its own HTML and JSON, so a new
kind of section needs no change here. Every table states its source: number of samples, seeds and command.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from PIL import Image
from torch import Tensor, uint8

from langevin.evaluation import page
from langevin.evaluation.statistics import Interval
from langevin.files import write_atomic

Better = Literal["lower", "higher", "near real", "near 1", ""]  # "" if neither direction is better
INKS = {"light": ("#1c1e21", "#dfe2e6"), "dark": ("#e7e9ec", "#2f343a")}  # text and grid
COLOURS = ("#3b7dd8", "#e07b39", "#3a9d6e", "#b85fb3", "#c9a227", "#7a8794")


class Section(Protocol):
    """A part of a report."""

    def html(self) -> str:
        """A self-contained HTML fragment, every text escaped."""
        ...

    def data(self) -> dict[str, Any]:
        """The same figures, of JSON types."""
        ...


@dataclass(frozen=True, kw_only=True)
class Source:
    """The source of a table: numbers of samples by name, seeds, and the exact command."""

    samples: Mapping[str, int]
    seeds: Sequence[int]
    command: str

    def html(self) -> str:
        """The line under the table."""
        samples = ", ".join(f"{name} {count:,}" for name, count in self.samples.items())
        return page.source(samples or "none", ", ".join(map(str, self.seeds)) or "none", self.command)

    def data(self) -> dict[str, Any]:
        """The same, of JSON types."""
        return {"samples": dict(self.samples), "seeds": list(self.seeds), "command": self.command}


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A table of names and values."""

    heading: str
    rows: Mapping[str, str | int | float | bool | None]
    source: Source
    note: str = ""

    def html(self) -> str:
        """A section with one table row per fact."""
        rows = [(name, number(value)) for name, value in self.rows.items()]
        table = page.table(("Fact", "Value"), rows)
        return page.section(self.heading, page.paragraph(self.note) + table + self.source.html())

    def data(self) -> dict[str, Any]:
        """The section, of JSON types."""
        return {
            "kind": "facts",
            "heading": self.heading,
            "rows": dict(self.rows),
            "note": self.note,
        } | self.source.data()


@dataclass(frozen=True, kw_only=True)
class MetricRow:
    """One metric, with its reference values.

    Args:
        metric: its name.
        generated: mean over seeds, with interval.
        better: in which direction it improves.
        meaning: what it measures, in words.
        values: one per seed.
        standard_error: of the estimate from one seed; None if the estimator has none.
        floor: the score of real data against real data, None if it does not apply.
        copycat: the score of training data in place of samples, None if it does not apply.
        codec: the score of the real data of `floor` as the codec gives it back, None without a codec that loses something:
            no sample is expected to do better.
        group: the feature space, or what else several metrics share; "" for none.
    """

    metric: str
    generated: Interval
    better: Better
    meaning: str
    values: tuple[float, ...] = ()
    standard_error: float | None = None
    floor: float | None = None
    copycat: float | None = None
    codec: float | None = None
    group: str = ""

    @property
    def name(self) -> str:
        """The metric with its group, for use outside the table."""
        return f"{self.metric}, {self.group}" if self.group else self.metric

    def cells(self, *, codec: bool = False) -> tuple[str, ...]:
        """The texts of the table row, with that of `codec` after `copycat` if there is such a column."""
        value = number(self.generated.estimate)
        if self.generated.half_width is not None:
            value += f" ± {number(self.generated.half_width, 2)}"
        elif self.standard_error is not None:
            value += f" (s.e. {number(self.standard_error, 2)})"
        coded = (number(self.codec),) if codec else ()
        return self.metric, value, number(self.floor), number(self.copycat), *coded, self.better, self.meaning


def grouped(rows: Sequence[MetricRow]) -> dict[str, list[MetricRow]]:
    """The rows by group: first those without one, then the groups in order of their first rows."""
    groups: dict[str, list[MetricRow]] = {"": []}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    return {group: members for group, members in groups.items() if members}


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """The table of metrics, with a heading per group."""

    heading: str
    rows: Sequence[MetricRow]
    source: Source
    note: str = ""

    def html(self) -> str:
        """A section with one table row per metric."""
        columns = ("Metric", "Generated", "Real vs. real", "Copycat", "Better", "Meaning")
        coded = any(row.codec is not None for row in self.rows)
        columns = (*columns[:4], "Codec", *columns[4:]) if coded else columns
        intervals = [row.generated for row in self.rows if row.generated.half_width is not None]
        about = f"± is the {intervals[0].level:.0%} interval of the mean over seeds. " if intervals else ""
        groups = {group: [row.cells(codec=coded) for row in rows] for group, rows in grouped(self.rows).items()}
        table = page.grouped_table(columns, groups, numbers=range(1, len(columns) - 2))
        return page.section(self.heading, page.paragraph((about + self.note).strip()) + table + self.source.html())

    def data(self) -> dict[str, Any]:
        """The section, of JSON types."""
        rows = [asdict(row) for row in self.rows]
        return {"kind": "metrics", "heading": self.heading, "rows": rows, "note": self.note} | self.source.data()


@dataclass(frozen=True, kw_only=True)
class Quotes:
    """Generated texts, as pairs of (what it was conditioned on, generated text); the first may be empty."""

    heading: str
    quotes: Sequence[tuple[str, str]]
    note: str = ""

    def html(self) -> str:
        """A section with one block per text, line breaks kept."""
        return page.section(self.heading, page.paragraph(self.note) + "".join(page.quote(*one) for one in self.quotes))

    def data(self) -> dict[str, Any]:
        """The same texts."""
        return {
            "kind": "quotes",
            "heading": self.heading,
            "quotes": [list(one) for one in self.quotes],
            "note": self.note,
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """A uint8 image `(h, w)` or `(c, h, w)` with c = 1, 3 or 4, or the bytes of a PNG or WebP file, which may move, and its
    caption."""

    image: Tensor | bytes
    caption: str

    def png(self) -> bytes:
        """The PNG or WebP file; ValueError for a tensor that is not a picture, or other bytes."""
        if isinstance(self.image, bytes):
            if not self.image.startswith(b"\x89PNG") and self.image[8:12] != b"WEBP":
                raise ValueError(f"Picture {self.caption!r}: the bytes are not a PNG or WebP file")
            return self.image
        image = self.image if self.image.ndim == 3 else self.image[None]
        if image.ndim != 3 or image.dtype != uint8 or image.shape[0] not in (1, 3, 4):
            raise ValueError(f"Picture {self.caption!r} needs uint8 (h, w) or (c, h, w), got {tuple(self.image.shape)}")
        array = np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())
        return _png(Image.fromarray(array[..., 0] if array.shape[2] == 1 else array))


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Pictures with captions, in a grid; or, if `wide`, each over the width of the page."""

    heading: str
    pictures: Sequence[Picture]
    note: str = ""
    wide: bool = False

    def html(self) -> str:
        """A section with the figures; small pictures are enlarged pixel by pixel."""
        parts = []
        for picture in self.pictures:
            png = picture.png()
            small = max(_size(png)) <= 512
            parts.append(page.figure(png, picture.caption, small=small))
        return page.section(self.heading, page.paragraph(self.note) + ("".join if self.wide else page.figures)(parts))

    def data(self) -> dict[str, Any]:
        """Captions, sizes and hashes of the pictures."""
        rows = [(picture.caption, picture.png()) for picture in self.pictures]
        facts = [{"caption": text, "size": _size(png), "sha256": hashlib.sha256(png).hexdigest()} for text, png in rows]
        return {"kind": "pictures", "heading": self.heading, "pictures": facts, "note": self.note}


@dataclass(frozen=True, kw_only=True, eq=False)
class Sound:
    """The bytes of a WAV file, and its caption."""

    wav: bytes
    caption: str


@dataclass(frozen=True, kw_only=True)
class Sounds:
    """Sounds to listen to, with captions."""

    heading: str
    sounds: Sequence[Sound]
    note: str = ""

    def html(self) -> str:
        """A section with one audio element per sound."""
        parts = [page.audio(sound.wav, sound.caption) for sound in self.sounds]
        return page.section(self.heading, page.paragraph(self.note) + page.figures(parts))

    def data(self) -> dict[str, Any]:
        """Captions and hashes of the sounds."""
        facts = [{"caption": s.caption, "sha256": hashlib.sha256(s.wav).hexdigest()} for s in self.sounds]
        return {"kind": "sounds", "heading": self.heading, "sounds": facts, "note": self.note}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One curve; `error`, if given, is drawn as a band of plus and minus that much."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    error: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y) or (self.error is not None and len(self.error) != len(self.x)):
            raise ValueError(
                f"Line {self.label!r} needs as many y (and errors) as x, got {len(self.x)} x and {len(self.y)} y"
            )


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Curves in one plot, drawn by matplotlib once for light and once for dark mode."""

    heading: str
    lines: Sequence[Line]
    x_label: str
    y_label: str
    caption: str
    x_log: bool = False
    y_log: bool = False

    def html(self) -> str:
        """A section with the plot."""
        light, dark = self._draw("light"), self._draw("dark")
        return page.section(self.heading, page.figure(light, self.caption, dark=dark))

    def data(self) -> dict[str, Any]:
        """Every point of the curves."""
        return {"kind": "curves", **asdict(self)}

    def _draw(self, mode: str) -> bytes:
        from matplotlib.figure import Figure  # slow to import, needed only where curves are drawn

        ink, grid = INKS[mode]
        drawing = Figure(figsize=(8, 4), layout="constrained", facecolor="none")
        axes = drawing.add_subplot(facecolor="none")
        for line, colour in zip(self.lines, COLOURS * (len(self.lines) // len(COLOURS) + 1)):
            axes.plot(line.x, line.y, label=plain(line.label), color=colour, linewidth=1.8)
            if line.error is not None:
                low, high = (np.asarray(line.y) + sign * np.asarray(line.error) for sign in (-1, 1))
                axes.fill_between(line.x, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.set_xscale("log" if self.x_log else "linear")
        axes.set_yscale("log" if self.y_log else "linear")
        axes.set_xlabel(plain(self.x_label), color=ink)
        axes.set_ylabel(plain(self.y_label), color=ink)
        axes.tick_params(colors=ink, which="both")
        axes.grid(color=grid, linewidth=0.8)
        axes.spines[:].set_visible(False)
        if len(self.lines) > 1:
            axes.legend(frameon=False, labelcolor=ink)
        content = io.BytesIO()
        drawing.savefig(content, format="png", dpi=150)
        return content.getvalue()


@dataclass(frozen=True, kw_only=True)
class Report:
    """A title, a summary of one or two sentences, and sections."""

    title: str
    sections: Sequence[Section]
    summary: str = ""

    def html(self) -> str:
        """The whole page."""
        return page.page(self.title, self.summary, "\n".join(section.html() for section in self.sections))

    def data(self) -> dict[str, Any]:
        """The same figures, of JSON types; numbers that are not finite become None."""
        sections = [section.data() for section in self.sections]
        return finite({"title": self.title, "summary": self.summary, "sections": sections})

    def write(self, directory: str | Path) -> Path:
        """Write `report.html` and `report.json` into a directory, each atomically; returns the page's path."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        write_atomic(directory / "report.json", (json.dumps(self.data(), indent=2, allow_nan=False) + "\n").encode())
        write_atomic(directory / "report.html", self.html().encode(errors="replace"))
        return directory / "report.html"


def number(value: str | int | float | bool | None, digits: int = 4) -> str:
    """A value as text: `digits` significant digits, thousands separated, a dash for None, NaN and infinity."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.{digits}g}" if abs(value) < 1e5 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else value


def finite(value: Any) -> Any:
    """Plain JSON types with None for numbers that are not finite."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def plain(text: str) -> str:
    """The text as matplotlib shows it unchanged: not read as mathematics, nor as a label to hide."""
    text = "".join(c if c.isprintable() else " " for c in text).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def _png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, format="PNG", optimize=True)
    return content.getvalue()


def _size(png: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(png)).size
