"""A run's likelihood in bits per dimension, on training and held-out data, with baselines fitted to the training part.

Differences are taken only between comparable quantities. The bound of the ancestral chain and the chain's likelihood
use the same paths of the same examples: the bound is never the lower one. The bound and the flow's likelihood use the
same noise at the clean end, the same decoder and the same examples: they are of two models, so either may be lower.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from langevin.diffusion.free_energy import Curve
from langevin.diffusion.importance import Importance
from langevin.diffusion.likelihood import (
    Decoded,
    ELBOTerms,
    ExactLikelihood,
    ImportanceWeightedPaths,
    TruncatedNormal,
    UniformDequantisation,
    levels_of,
    mean_of,
)
from langevin.diffusion.likelihood.results import BITS
from langevin.evaluation.likelihood import LikelihoodRow
from langevin.methods import Diffusion
from langevin.methods.models import GaussianModel
from langevin.modalities.image.likelihood.baselines import baselines
from langevin.modalities.image.likelihood.evaluator import CURVE_ROWS, LikelihoodEvaluator, without_weight_gradients
from langevin.modalities.modality import Measuring

if TYPE_CHECKING:
    from langevin.modalities.image.modality import Image

EXACT_WORK = 512  # examples times dimensions up to which the trace is computed exactly
CHAIN_STEPS, PATHS = 128, 8


@dataclass(frozen=True, kw_only=True)
class LikelihoodFound:
    """All results of `evaluate --likelihood`.

    Args:
        rows: the table.
        curves: E|x - D|^2 by log-SNR, of each part.
        knots: log-SNR of the constant-speed grid at the run's number of sampling steps, to use in a `fixed` grid.
        gaps: bits per dimension that a finite number of steps adds to the bound, by grid.
        ends: the cleanest and the noisiest log-SNR.
        notes: caveats.
    """

    rows: list[LikelihoodRow]
    curves: dict[str, Curve]
    knots: tuple[float, ...]
    gaps: dict[str, float]
    dimensions: int
    ends: tuple[float, float]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Figures of JSON types."""
        return {
            "rows": [asdict(row) for row in self.rows],
            "curves": {n: {"log_snr": c.log_snr.tolist(), "mmse": c.mmse.tolist()} for n, c in self.curves.items()},
            "knots": list(self.knots),
            "gaps_bits_per_dimension": self.gaps,
            "dimensions": self.dimensions,
            "log_snr_ends": list(self.ends),
            "notes": list(self.notes),
        }


def measure_likelihood(
    image: "Image",
    model: GaussianModel,
    m: Measuring,
    *,
    examples: int = 64,
    bound_examples: int = 512,
    steps: int = 48,
    batch: int = 64,
    seed: int = 0,
) -> LikelihoodFound:
    """The ELBO on `bound_examples` and the flow's likelihood on `examples` images of each part, with baselines.

    Raises:
        ValueError: the codec has no levels, or there are too few examples for a standard error."""
    train, val = m.train, m.val
    if min(examples, bound_examples, len(train), len(val)) < 2:
        raise ValueError(
            f"a standard error needs two or more examples: got {min(examples, bound_examples)} of {len(train)} training "
            f"and {len(val)} validation images"
        )
    levels = levels_of(image.codec)
    # the divergence of the flow is lost in the rounding of bf16
    model = replace(model, denoiser=replace(model.denoiser, precision=torch.float32))
    conditional = bool(image.classes or image.captions)
    density, notes = trained_times(model, conditional)
    first, last = density.ends(model.process.schedule)
    dimensions = math.prod(train.shape)
    work = LikelihoodEvaluator(model, m, levels, batch, seed)
    counts = (
        min(CURVE_ROWS, bound_examples),
        bound_examples,
        bound_examples // 2,
        *([bound_examples] if conditional else []),
    )
    work.total = sum(min(len(part), n) for part in (train, val) for n in (*counts, *([examples] * 5)))
    with without_weight_gradients(model):
        curves = work.curves(first, last, min(CURVE_ROWS, bound_examples))
        table = _bound_rows(work.bounds(density, bound_examples))
        if conditional:
            free = work.bounds(density, bound_examples, conditional=False)
            table.insert(1, _row("bound, unconditional", free, "the same without the condition"))
        early = Importance(log_snr=(last, first - 2.0))
        table.append(
            _row("bound, ended at log-SNR 2 lower", work.bounds(early, bound_examples // 2), "effect of the clean end")
        )
        table += _chain_rows(
            work.chain(curves["train"].monotone().constant_speed(CHAIN_STEPS), examples, PATHS), examples
        )
        table += _flow_rows(work, density, examples, (first, last), steps, dimensions)
    others, absent = baselines(image, levels, {"train": train, "held_out": val}, seed)
    knots, gaps = _grids(curves["train"], m.model.sampling.steps, dimensions)
    return LikelihoodFound(
        rows=table + others, curves=curves, knots=knots, gaps=gaps, dimensions=dimensions, ends=(first, last),
        notes=(*notes, *absent),
    )  # fmt: skip


def _flow_rows(
    work: LikelihoodEvaluator, density: Importance, examples: int, ends: tuple[float, float], steps: int, size: int
) -> list[LikelihoodRow]:
    """The flow's likelihood under each dequantisation, and its difference to the bound with the same decoder."""
    probes = 0 if size <= 256 and examples * size <= EXACT_WORK else 4
    same = work.bounds(density, examples, draws=4)
    table: list[LikelihoodRow] = []
    for kind in (Decoded(), TruncatedNormal(), UniformDequantisation()):
        flows = work.flow(kind, examples, first=ends[0], last=ends[1], steps=steps, probes=probes)
        table.append(_flow_row(kind.kind, flows, probes, examples))
        if isinstance(kind, Decoded):
            table.append(_difference(same, flows))
    return table


def trained_times(model: GaussianModel, conditional: bool) -> tuple[Importance, list[str]]:
    """The log-SNR density that the run was trained on, and notes on it."""
    assert isinstance(model.method, Diffusion), "a likelihood is of a diffusion model"
    times = model.method.times
    notes = ["Bits of x given its class or caption."] if conditional else []
    if isinstance(times, Importance):
        return times, notes
    notes.append(
        "This run was trained for sample quality, with few steps at the small noise that dominates the likelihood: its "
        "bits say little. Recipes that end in -likelihood are for this."
    )
    return Importance(), notes


def _bound_rows(bounds: dict[str, ELBOTerms]) -> list[LikelihoodRow]:
    """The bound and its terms."""
    meanings = {
        "total": "continuous-time variational bound on the lossless code length of the recorded levels",
        "prior": "KL divergence to the prior at the noisiest level",
        "diffusion": "denoising errors, half the integral of E|x - D|^2 over SNR",
        "reconstruction": "negative log-likelihood of the decoder at the cleanest level",
    }
    bits = {name: terms.bits() for name, terms in bounds.items()}
    rows = [
        LikelihoodRow(
            method=f"bound: {term}" if term != "total" else "bound",
            **{n: b[term] for n, b in bits.items()},
            meaning=text,
        )
        for term, text in meanings.items()
    ]
    return rows


def _row(method: str, bounds: dict[str, ELBOTerms], meaning: str) -> LikelihoodRow:
    return LikelihoodRow(method=method, **{n: terms.bits()["total"] for n, terms in bounds.items()}, meaning=meaning)


def _chain_rows(chains: dict[str, ImportanceWeightedPaths], examples: int) -> list[LikelihoodRow]:
    """The bound of the ancestral chain, its likelihood, and their difference, on the same paths."""
    bits = {name: paths.bits() for name, paths in chains.items()}
    effective = min(float(paths.effective.mean()) for paths in chains.values())
    steps = f"{CHAIN_STEPS} ancestral steps of constant speed; {examples} examples per part"
    meanings = {
        "bound": f"mean of -log2 of the weights of {PATHS} paths from data to noise, {steps}",
        "exact": f"-log2 of their mean, an upper bound of the chain's bits; effective paths {effective:.1f} of {PATHS}",
        "gap": "bound minus exact, per example: never below 0",
    }
    return [
        LikelihoodRow(method=f"chain: {name}", **{part: b[name] for part, b in bits.items()}, meaning=text)
        for name, text in meanings.items()
    ]


def _flow_row(kind: str, flows: dict[str, ExactLikelihood], probes: int, examples: int) -> LikelihoodRow:
    worst = max(float(flow.error.mean()) * BITS / flow.dimensions for flow in flows.values())
    trace, steps = "exact trace" if probes == 0 else f"{probes} Hutchinson probes", next(iter(flows.values())).steps
    return LikelihoodRow(
        method=f"flow, {kind.replace('_', ' ')} dequantisation",
        **{name: flow.bits() for name, flow in flows.items()},
        meaning=f"{trace}, {steps} steps, error up to {worst:.1g}; {examples} examples per part",
    )


def _difference(bounds: dict[str, ELBOTerms], flows: dict[str, ExactLikelihood]) -> LikelihoodRow:
    """The bound minus the flow's likelihood, both with the forward noise and its decoder at the clean end."""

    def paired(name: str) -> Tensor:
        return bounds[name].nats.mean(1) - flows[name].nats.mean(1).cpu()

    return LikelihoodRow(
        method="bound minus flow, decoded",
        **{n: mean_of(paired(n)[:, None]).times(BITS / bounds[n].dimensions) for n in bounds},
        meaning="per example, same clean end and decoder; chain and flow are two models, so either may be lower",
    )


def _grids(curve: Curve, steps: int, dimensions: int) -> tuple[tuple[float, ...], dict[str, float]]:
    """The constant-speed knots, and the bits that finite steps add to the bound, on them and on equal steps."""
    smooth = curve.monotone()
    equal = torch.linspace(float(curve.log_snr[0]), float(curve.log_snr[-1]), steps + 1, dtype=torch.float64)
    knots, energy = smooth.constant_speed(steps), smooth.energy()
    cost = {"equal steps of log-SNR": smooth.finite(equal), "constant speed": smooth.finite(knots)}
    gaps = {name: (value - energy) * BITS / dimensions for name, value in cost.items()}
    return tuple(round(float(k), 6) for k in knots), gaps
