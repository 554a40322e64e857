"""The report's table of bits per dimension."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from langevin.diffusion.likelihood import Estimate
from langevin.evaluation import page
from langevin.evaluation.report import Source


@dataclass(frozen=True, kw_only=True)
class LikelihoodRow:
    """One likelihood, in bits per dimension on training and held-out data, and what it means."""

    method: str
    train: Estimate
    held_out: Estimate
    meaning: str

    def cells(self) -> tuple[str, ...]:
        """The texts of the row."""
        return self.method, bits(self.train), bits(self.held_out), self.meaning


def bits(estimate: Estimate) -> str:
    """Such as "2.913 (samples 0.012, draws 0.004)": the mean, and its standard errors if there are any."""
    errors = [
        f"{name} {value:.2g}"
        for name, value in (("samples", estimate.samples), ("draws", estimate.draws))
        if value is not None
    ]
    return f"{estimate.mean:.3f}" + (f" ({', '.join(errors)})" if errors else "")


@dataclass(frozen=True, kw_only=True)
class LikelihoodTable:
    """Likelihoods of one data set in bits per dimension, lower is better; each row says which kind it is."""

    heading: str
    rows: Sequence[LikelihoodRow]
    source: Source
    note: str = ""

    def html(self) -> str:
        """A section with one table row per method."""
        columns = ("Bits per dimension", "Training", "Held-out", "Meaning")
        table = page.table(columns, [row.cells() for row in self.rows], numbers=(1, 2))
        about = "In parentheses: standard errors over samples and over draws. " + self.note
        return page.section(self.heading, page.paragraph(about.strip()) + table + self.source.html())

    def data(self) -> dict[str, Any]:
        """The table, of JSON types."""
        rows = [asdict(row) for row in self.rows]
        return {"kind": "likelihood", "heading": self.heading, "rows": rows, "note": self.note} | self.source.data()
