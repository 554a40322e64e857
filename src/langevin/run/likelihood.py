"""A run's likelihood in bits a dimension, on training and held-out data, beside laws fitted to the training part.

Like is set beside like. The chain's bound stands over the chain's own likelihood, from the same paths of the same rows; the
flow's likelihood over the bound with one noise at the clean end and one decoder, on the same rows: of the first two the
bound is never the lower, of the second either may be.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.free_energy import Curve
from langevin.diffusion.importance import Importance
from langevin.diffusion.likelihood import (
    Bound,
    Decoded,
    Likelihood,
    TruncatedNormal,
    Uniform,
    Weighted,
    levels_of,
    mean_of,
)
from langevin.diffusion.likelihood.answers import BITS
from langevin.evaluation.likelihood import LikelihoodRow
from langevin.modalities.image.data import Images
from langevin.recipe.build import Built
from langevin.run.asked import CURVE_ROWS, Asked, asking
from langevin.run.baselines import baselines

EXACT_WORK = 512  # rows times dimensions up to which the trace is exact
CHAIN_STEPS, PATHS = 128, 8


@dataclass(frozen=True, kw_only=True)
class LikelihoodFound:
    """Everything `evaluate --likelihood` found.

    Args:
        rows: the table.
        curves: E|x - D|^2 by log-SNR of each part.
        knots: the grid of least free energy for the run's step count, log-SNR, as `sampling.grid: {kind: knots}` reads it.
        gaps: bits a dimension that finite steps add to the bound, by grid.
        notes: what a reader must know.
    """

    rows: list[LikelihoodRow]
    curves: dict[str, Curve]
    knots: tuple[float, ...]
    gaps: dict[str, float]
    places: int
    ends: tuple[float, float]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Figures of JSON types."""
        return {
            "rows": [asdict(row) for row in self.rows],
            "curves": {n: {"log_snr": c.log_snr.tolist(), "mmse": c.mmse.tolist()} for n, c in self.curves.items()},
            "knots": list(self.knots),
            "gaps_bits_per_dimension": self.gaps,
            "dimensions": self.places,
            "log_snr_ends": list(self.ends),
            "notes": list(self.notes),
        }


def measure_likelihood(
    built: Built,
    train: Images,
    held_out: Images,
    *,
    rows: int = 64,
    bound_rows: int = 512,
    steps: int = 48,
    batch: int = 64,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> LikelihoodFound:
    """The bound on `bound_rows` and the flow's likelihood on `rows` of each part, and what both are compared with.

    Raises:
        ValueError: the codec states no scale, or too few rows to give a standard error."""
    levels = levels_of(built.recipe.codec)
    if min(rows, bound_rows, len(train), len(held_out)) < 2:
        raise ValueError(
            f"a standard error needs two or more rows, asked were {min(rows, bound_rows)} of {len(train)} training and "
            f"{len(held_out)} held-out images"
        )
    parts = {"train": train, "held_out": held_out}
    density, notes = _times(built)
    first, last = density.ends(built.process.schedule)
    places, told = math.prod(train.shape), bool(built.recipe.classes or built.recipe.words)
    work = Asked(built, parts, levels, batch, seed, progress)
    counts = (min(CURVE_ROWS, bound_rows), bound_rows, bound_rows // 2, *([bound_rows] if told else []), *([rows] * 5))
    work.total = sum(min(len(part), n) for part in parts.values() for n in counts)
    with asking(built):
        curves = work.curves(first, last, min(CURVE_ROWS, bound_rows))
        table = _bound_rows(work.bounds(density, bound_rows))
        if told:
            free = work.bounds(density, bound_rows, told=False)
            table.insert(1, _row("bound, told nothing", free, "of x, where the rows above are of x given what is told"))
        early = Importance(log_snr=(last, first - 2.0))
        table.append(
            _row("bound, ended at log-SNR 2 lower", work.bounds(early, bound_rows // 2), "how much the end matters")
        )
        table += _chain_rows(work.chain(curves["train"].monotone().constant_speed(CHAIN_STEPS), rows, PATHS), rows)
        count = 0 if places <= 256 and rows * places <= EXACT_WORK else 4
        same = work.bounds(density, rows, draws=4)
        for kind in (Decoded(), TruncatedNormal(), Uniform()):
            found = work.flow(kind, rows, first=first, last=last, steps=steps, probes=count)
            table.append(_flow_row(kind.kind, found, count, rows))
            if isinstance(kind, Decoded):
                table.append(_difference(same, found))
    others, absent = baselines(built.recipe, levels, parts, seed)
    knots, gaps = _grids(curves["train"], built.recipe.sampling.steps, places)
    return LikelihoodFound(
        rows=table + others, curves=curves, knots=knots, gaps=gaps, places=places, ends=(first, last),
        notes=(*notes, *absent),
    )  # fmt: skip


def _times(built: Built) -> tuple[Importance, list[str]]:
    """The log-SNR that the run was trained on, and what to say where that is not known to be enough."""
    times = built.recipe.learning.times
    notes = (
        ["Told the class or caption of each row where the run is: bits of x given what is told."]
        if (built.recipe.classes or built.recipe.words)
        else []
    )
    if isinstance(times, Importance):
        return times, notes
    notes.append(
        "This run was trained for samples, with few steps at the small noise that likelihood is made of: its bits say "
        "little. Recipes that end in -likelihood are made for this."
    )
    return Importance(), notes


def _bound_rows(bounds: dict[str, Bound]) -> list[LikelihoodRow]:
    """The total and its terms."""
    said = {
        "total": "lossless variational bound of the recorded levels, in continuous time",
        "prior": "what is left to tell at the noisiest level",
        "diffusion": "the denoising errors, half the integral of E|x - D|^2 over SNR",
        "reconstruction": "what is left to tell at the cleanest level",
    }
    bits = {name: got.bits() for name, got in bounds.items()}
    rows = [
        LikelihoodRow(
            method=f"bound: {term}" if term != "total" else "bound",
            **{n: b[term] for n, b in bits.items()},
            meaning=text,
        )
        for term, text in said.items()
    ]
    return rows


def _row(method: str, bounds: dict[str, Bound], meaning: str) -> LikelihoodRow:
    return LikelihoodRow(method=method, **{n: got.bits()["total"] for n, got in bounds.items()}, meaning=meaning)


def _chain_rows(found: dict[str, Weighted], rows: int) -> list[LikelihoodRow]:
    """The bound of a chain of finitely many steps, its own likelihood, and what lies between, on the same paths."""
    bits = {name: got.bits() for name, got in found.items()}
    carried = min(float(got.effective.mean()) for got in found.values())
    of = f"{CHAIN_STEPS} ancestral steps of constant speed; {rows} rows a part"
    said = {
        "bound": f"mean of -log2 of the weights of {PATHS} paths from data to noise, {of}",
        "exact": f"-log2 of their mean, the chain's own likelihood from above: {carried:.1f} of {PATHS} paths carry it",
        "gap": "bound less exact, row by row: never below 0",
    }
    return [
        LikelihoodRow(method=f"chain: {name}", **{part: b[name] for part, b in bits.items()}, meaning=text)
        for name, text in said.items()
    ]


def _flow_row(kind: str, found: dict[str, Likelihood], probes: int, rows: int) -> LikelihoodRow:
    worst = max(float(got.error.mean()) * BITS / got.places for got in found.values())
    trace, steps = "exact trace" if probes == 0 else f"{probes} Hutchinson probes", next(iter(found.values())).steps
    return LikelihoodRow(
        method=f"flow, {kind.replace('_', ' ')} dequantisation",
        **{name: got.bits() for name, got in found.items()},
        meaning=f"{trace}, {steps} steps whose halving changes {worst:.1g}; {rows} rows a part",
    )


def _difference(bounds: dict[str, Bound], flows: dict[str, Likelihood]) -> LikelihoodRow:
    """The chain's bound less the flow's likelihood, both with the forward noise and its decoder at the clean end."""

    def paired(name: str) -> Tensor:
        return bounds[name].nats.mean(1) - flows[name].nats.mean(1).cpu()

    return LikelihoodRow(
        method="bound less flow, decoded",
        **{n: mean_of(paired(n)[:, None]).times(BITS / bounds[n].places) for n in bounds},
        meaning="row by row, one end and one decoder: two models, chain and flow, so either may be the lower",
    )


def _grids(curve: Curve, steps: int, places: int) -> tuple[tuple[float, ...], dict[str, float]]:
    """The constant-speed knots, and what finite steps cost beyond the curve's own energy on them and on even ones."""
    smooth = curve.monotone()
    even = torch.linspace(float(curve.log_snr[0]), float(curve.log_snr[-1]), steps + 1, dtype=torch.float64)
    knots, energy = smooth.constant_speed(steps), smooth.energy()
    cost = {"equal steps of log-SNR": smooth.finite(even), "constant speed": smooth.finite(knots)}
    gaps = {name: (value - energy) * BITS / places for name, value in cost.items()}
    return tuple(round(float(k), 6) for k in knots), gaps


def in_float32(built: Built) -> Built:
    """The parts with a denoiser that computes in float32: the divergence of a bf16 network is noise."""
    return replace(built, denoiser=replace(built.denoiser, precision=torch.float32))
