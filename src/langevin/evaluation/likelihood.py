"""The report's table of bits a dimension."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from langevin.diffusion.likelihood import Estimate
from langevin.evaluation import page
from langevin.evaluation.report import Source


@dataclass(frozen=True, kw_only=True)
class LikelihoodRow:
    """One way to state a likelihood, bits a dimension on training and held-out data, and what it says."""

    method: str
    train: Estimate
    held_out: Estimate
    meaning: str

    def cells(self) -> tuple[str, ...]:
        """Texts of the table's columns."""
        return self.method, bits(self.train), bits(self.held_out), self.meaning


def bits(found: Estimate) -> str:
    """2.913 (rows 0.012, draws 0.004): standard errors, where there are any."""
    errors = [
        f"{name} {value:.2g}" for name, value in (("rows", found.rows), ("draws", found.draws)) if value is not None
    ]
    return f"{found.mean:.3f}" + (f" ({', '.join(errors)})" if errors else "")


@dataclass(frozen=True, kw_only=True)
class LikelihoodTable:
    """Likelihoods of one data set, lower is better; every row says what kind it is of."""

    heading: str
    rows: Sequence[LikelihoodRow]
    source: Source
    note: str = ""

    def html(self) -> str:
        """Section with one row a method."""
        columns = ("Bits a dimension", "Training", "Held-out", "What it says")
        table = page.table(columns, [row.cells() for row in self.rows], numbers=(1, 2))
        about = "In brackets: standard errors over rows and over draws. " + self.note
        return page.section(self.heading, page.paragraph(about.strip()) + table + self.source.html())

    def data(self) -> dict[str, Any]:
        """Figures of JSON types."""
        rows = [asdict(row) for row in self.rows]
        return {"kind": "likelihood", "heading": self.heading, "rows": rows, "note": self.note} | self.source.data()
