"""`langevin evaluate --likelihood` as it is shown: a table on the terminal, and sections of the report."""

from rich.console import Console
from rich.table import Table

from langevin.diffusion.likelihood.answers import BITS
from langevin.evaluation.likelihood import LikelihoodTable
from langevin.evaluation.report import Curves, Line, Section, Source
from langevin.run.likelihood import LikelihoodFound


def sections(found: LikelihoodFound, *, train: int, held_out: int, command: str) -> list[Section]:
    """The table, and where along the noise the bits are paid."""
    gaps = ", ".join(f"{name} {value:.3f}" for name, value in found.gaps.items())
    first, last = found.ends
    note = (
        f"{found.places} dimensions, log-SNR from {last:.4g} to {first:.4g}. Bounds and exact likelihoods are of "
        f"two models (the ancestral chain and the flow). What {len(found.knots) - 1} steps would add to the bound: "
        f"{gaps} bits a dimension. {' '.join(found.notes)}"
    )
    source = Source(samples={"training": train, "held-out": held_out}, seeds=[0], command=command)
    lines = []
    for name, curve in found.curves.items():
        integrand = 0.5 * curve.log_snr.exp() * curve.mmse * BITS / found.places
        lines.append(Line(label=name.replace("_", "-"), x=curve.log_snr.tolist(), y=integrand.tolist()))
    return [
        LikelihoodTable(heading="Likelihood", rows=found.rows, source=source, note=note),
        Curves(
            heading="Free energy over the noise",
            lines=lines,
            x_label="log-SNR",
            y_label="bits a dimension, a unit of log-SNR",
            caption="SNR / 2 times the squared error: the area under a curve is the bound's diffusion term.",
        ),
    ]


def show_likelihood(found: LikelihoodFound) -> None:
    """The table on the terminal."""
    table = Table(title="bits a dimension (standard errors over rows, draws)", title_justify="left")
    for name in ("method", "training", "held-out"):
        table.add_column(name, justify="left" if name == "method" else "right")
    for row in found.rows:
        table.add_row(*row.cells()[:3])
    Console().print(table)
