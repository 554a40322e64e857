"""A run's likelihood in bits a dimension, on training and held-out data, beside Gaussian baselines of the training part."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch
from langevin.diffusion.free_energy import Curve, measure_curve
from langevin.diffusion.importance import Importance
from langevin.diffusion.likelihood import (
    Bound,
    Dequantisation,
    Estimate,
    Levels,
    TruncatedNormal,
    Uniform,
    bound,
    flow_likelihood,
    levels_of,
    mean_of,
)
from langevin.diffusion.likelihood.answers import BITS, join
from langevin.diffusion.noise import RowNoise, mix
from langevin.evaluation.density import LARGEST, GaussianMixture, choose_mixture, fit_gaussian, fit_levels
from langevin.evaluation.likelihood import LikelihoodRow
from langevin.modalities.image.codec import Pixels
from langevin.modalities.image.data import Images
from langevin.modalities.image.reader import Reader
from langevin.recipe.build import Built, reader
from langevin.run.measure import spread

FIT = 20_000  # training rows that baselines are fitted to, at most
EXACT_WORK = 512  # rows times dimensions up to which the trace is exact
CURVE_LEVELS, CURVE_ROWS = 26, 256


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
    places = math.prod(train.shape)
    work = _Work(built, parts, levels, batch, seed, progress)
    asked = (bound_rows, bound_rows // 2, rows, rows, CURVE_ROWS)
    work.total = sum(min(len(part), n) for part in parts.values() for n in asked)
    with _asking(built):
        bounds = work.bounds(density, bound_rows)
        table = _bound_rows(bounds)
        early = Importance(log_snr=(last, first - 2.0))
        table.append(
            _row("bound, ended at log-SNR 2 lower", work.bounds(early, bound_rows // 2), "how much the end matters")
        )
        count = 0 if places <= 256 and rows * places <= EXACT_WORK else 4
        for kind in (TruncatedNormal(), Uniform()):
            table.append(work.flow(kind, rows, first=first, last=last, steps=steps, probes=count))
        table += work.baselines()
        curves = work.curves(first, last)
    knots, gaps = _grids(curves["train"], built.recipe.sampling.steps, places)
    notes += work.notes
    return LikelihoodFound(
        rows=table, curves=curves, knots=knots, gaps=gaps, places=places, ends=(first, last), notes=tuple(notes)
    )


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


class _Work:
    """The parts of a measurement that share data and a count of what is done."""

    def __init__(
        self,
        built: Built,
        parts: dict[str, Images],
        levels: Levels,
        batch: int,
        seed: int,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.built, self.parts, self.levels, self.batch, self.seed = built, parts, levels, batch, seed
        self.progress = progress or (lambda done, total: None)
        self.done, self.total = 0, 0
        self.notes: list[str] = []
        device = next(built.network.parameters()).device
        self.readers = {name: reader(built.recipe, part, device=device) for name, part in parts.items()}

    def chunks(self, name: str, rows: int) -> Iterator[tuple[Tensor, Batch]]:
        """(item numbers, batch) of rows spread over a part, unmirrored."""
        read: Reader = self.readers[name]
        for items in spread(len(read.images), rows).split(self.batch):
            yield items, read(items)
            self.done += len(items)
            self.progress(self.done, self.total)

    def bounds(self, density: Importance, rows: int) -> dict[str, Bound]:
        found: dict[str, Bound] = {}
        for name in self.parts:
            got = [
                bound(
                    self.built.denoiser, self.built.process, b.x, condition=b.condition, levels=self.levels,
                    density=density, times=16, draws=2, seed=self.seed, names=items,
                )
                for items, b in self.chunks(name, rows)
            ]  # fmt: skip
            columns = {
                n: torch.cat([getattr(g, n) for g in got]).cpu() for n in ("prior", "diffusion", "reconstruction")
            }
            found[name] = Bound(**columns, places=got[0].places)
        return found

    def flow(
        self, kind: Dequantisation, rows: int, *, first: float, last: float, steps: int, probes: int
    ) -> LikelihoodRow:
        found: dict[str, Estimate] = {}
        worst = 0.0
        for name in self.parts:
            got = join([
                flow_likelihood(
                    self.built.denoiser, self.built.process, b.x, condition=b.condition, levels=self.levels,
                    dequantise=kind, first=first, last=last, steps=steps, probes=probes, dtype=torch.float32,
                    seed=self.seed, names=items,
                )
                for items, b in self.chunks(name, rows)
            ])  # fmt: skip
            found[name] = got.bits()
            worst = max(worst, float(got.error.mean()) * BITS / got.places)
        trace = "exact trace" if probes == 0 else f"{probes} Hutchinson probes"
        return LikelihoodRow(
            method=f"flow, {kind.kind.replace('_', ' ')} dequantisation",
            **found,
            meaning=f"{trace}, {steps} steps whose halving changes {worst:.1g}; {rows} rows a part",
        )

    def baselines(self) -> list[LikelihoodRow]:
        """Gaussian and mixture on uniformly dequantised training rows, asked about all held-out ones."""
        data = {name: self._dequantised(part) for name, part in self.parts.items()}
        d = data["train"].shape[1]
        raw = {name: part.read(spread(len(part), FIT)).flatten(1).long() for name, part in self.parts.items()}
        levels = fit_levels(raw["train"], self.levels.count)
        table = [
            LikelihoodRow(
                method="independent places",
                **{n: mean_of(-levels.log_probability(k)[:, None]).times(BITS / d) for n, k in raw.items()},
                meaning="frequencies of the recorded levels, a table a place: knows which levels there are",
            )
        ]
        few = len(data["train"]) < 2 * d
        table.append(self._baseline("Gaussian", fit_gaussian(data["train"], shrink=0.05 if few else 1e-3), data, ""))
        if d > LARGEST:
            self.notes.append(f"No mixture of Gaussians is fitted in {d} dimensions.")
        elif len(data["train"]) >= 8:
            mixture, chosen = choose_mixture(data["train"])
            table.append(self._baseline("Gaussian mixture", mixture, data, f", {chosen}"))
        return table

    def _dequantised(self, part: Images) -> Tensor:
        items = spread(len(part), FIT)
        codec = self.built.recipe.codec
        assert isinstance(codec, Pixels)
        x = codec.encode(part.read(items)).flatten(1)
        noise = RowNoise(seeds=mix(torch.full_like(items, self.seed), items), steps=torch.zeros_like(items))
        return Uniform().draw(x, self.levels, 1.0, noise)

    def _baseline(self, name: str, law: GaussianMixture, data: dict[str, Tensor], chosen: str) -> LikelihoodRow:
        entropy = data["train"].shape[1] * Uniform().entropy(self.levels, 1.0)
        unit = BITS / data["train"].shape[1]
        bits = {n: mean_of(-(law.log_density(x) + entropy)[:, None]).times(unit) for n, x in data.items()}
        return LikelihoodRow(
            method=name,
            **bits,
            meaning=f"full covariance{chosen}, fitted to {len(data['train']):,} rows; told nothing, uniform dequantisation",
        )

    def curves(self, first: float, last: float) -> dict[str, Curve]:
        levels = torch.linspace(last, first, CURVE_LEVELS, dtype=torch.float64)
        found: dict[str, Curve] = {}
        for name in self.parts:
            got = [
                (
                    measure_curve(self.built.denoiser, self.built.process, b, log_snr=levels, seed=self.seed, names=i)[
                        0
                    ],
                    len(i),
                )
                for i, b in self.chunks(name, CURVE_ROWS)
            ]
            total = sum(n for _, n in got)
            found[name] = Curve(log_snr=levels, mmse=torch.stack([c.mmse * (n / total) for c, n in got]).sum(0))
        return found


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


def _grids(curve: Curve, steps: int, places: int) -> tuple[tuple[float, ...], dict[str, float]]:
    """The constant-speed knots, and what finite steps cost beyond the curve's own energy on them and on even ones."""
    smooth = curve.monotone()
    even = torch.linspace(float(curve.log_snr[0]), float(curve.log_snr[-1]), steps + 1, dtype=torch.float64)
    knots, energy = smooth.constant_speed(steps), smooth.energy()
    cost = {"equal steps of log-SNR": smooth.finite(even), "constant speed": smooth.finite(knots)}
    gaps = {name: (value - energy) * BITS / places for name, value in cost.items()}
    return tuple(round(float(k), 6) for k in knots), gaps


@contextmanager
def _asking(built: Built) -> Iterator[None]:
    """Weights that ask for no gradient of their own, in evaluation: only x is differentiated."""
    wanted = [(p, p.requires_grad) for p in built.network.parameters()]
    training = built.network.training
    built.network.eval().requires_grad_(False)
    try:
        yield
    finally:
        for parameter, value in wanted:
            parameter.requires_grad_(value)
        built.network.train(training)


def in_float32(built: Built) -> Built:
    """The parts with a denoiser that computes in float32: the divergence of a bf16 network is noise."""
    return replace(built, denoiser=replace(built.denoiser, precision=torch.float32))
