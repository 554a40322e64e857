"""The likelihood as a table for the terminal, and as sections of the report."""

from langevin.diffusion.likelihood.results import BITS
from langevin.evaluation.likelihood import LikelihoodTable
from langevin.evaluation.report import Curves, Line, Section, Source
from langevin.modalities.image.likelihood.measure import LikelihoodFound


def sections_of(found: LikelihoodFound, *, train: int, val: int, command: str) -> list[Section]:
    """The table, and the bits by noise level."""
    gaps = ", ".join(f"{name} {value:.3f}" for name, value in found.gaps.items())
    first, last = found.ends
    note = (
        f"{found.dimensions} dimensions, log-SNR from {last:.4g} to {first:.4g}. The bound is of the ancestral chain; "
        f"the flow is another model. {len(found.knots) - 1} steps would add to the bound: "
        f"{gaps} bits per dimension. {' '.join(found.notes)}"
    )
    source = Source(samples={"training": train, "validation": val}, seeds=[0], command=command)
    lines = []
    for name, curve in found.curves.items():
        integrand = 0.5 * curve.log_snr.exp() * curve.mmse * BITS / found.dimensions
        lines.append(Line(label=name.replace("_", "-"), x=curve.log_snr.tolist(), y=integrand.tolist()))
    return [
        LikelihoodTable(heading="Likelihood", rows=found.rows, source=source, note=note),
        Curves(
            heading="Free energy by noise level",
            lines=lines,
            x_label="log-SNR",
            y_label="bits per dimension and unit of log-SNR",
            caption="SNR / 2 times the squared error: the area under a curve is the bound's diffusion term.",
        ),
    ]


def lines_of(found: LikelihoodFound) -> list[str]:
    """The table as text for the terminal."""
    cells = [("method", "training", "validation"), *(row.cells()[:3] for row in found.rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(3)]
    title = "bits per dimension (standard errors over images, draws)"
    return [title, *(f"{a:{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}".rstrip() for a, b, c in cells)]
