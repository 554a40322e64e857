"""Evaluation of points: distances with their floor; for SDEs also the marginals over time and the prior mismatch."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from langevin.diffusion.noise import SampleNoise
from langevin.evaluation.report import Curves, Line, MetricRow, Metrics, Picture, Pictures, Section, Source
from langevin.evaluation.statistics import mean_interval
from langevin.evaluation.suite import measure
from langevin.methods.models import SDEModel
from langevin.modalities.modality import Evaluation, Measuring, RequestContext, Samples
from langevin.modalities.points.metrics import Distance, coordinates, distance
from langevin.modalities.points.snapshots import Snapshot, along, picture

if TYPE_CHECKING:
    from langevin.modalities.points.modality import Points

MOST = 5000  # samples per seed by default
FEATURES = 10_000  # training points used as reference, at most


def evaluate(points: "Points", m: Measuring) -> Evaluation:
    """Sliced W1, and the metrics of `evaluation.suite` with the coordinates as features, each with its floor.

    Raises:
        ValueError: too few points."""
    train, val = m.train, m.val
    if len(train) < 8 or len(val) < 8:
        raise ValueError(f"evaluate needs 8 training and 8 validation points, there are {len(train)} and {len(val)}")
    count = m.count or min(len(val), MOST)
    drawn = draws(points, m, count)
    generated, nfe = [samples.values for samples in drawn], max(samples.nfe for samples in drawn)
    measures = measure({"coordinates": coordinates}, train.values[:FEATURES], val.values, generated, seed=0)
    w1 = distance(generated, train.values, val.values)
    rows = [distance_row(w1), *measures.rows]
    snapshots, remark = on_the_way(points, m)
    source = Source(samples=measures.samples, seeds=list(range(m.seeds)), command=m.command)
    pictures = [Picture(image=drawn[0].preview().content, caption="Samples of seed 0, and the data distribution")]
    if snapshots:
        marginals = picture(snapshots)
        pictures.append(
            Picture(image=marginals, caption="Marginals from data to prior: forward SDE, sampler, Fokker-Planck")
        )
    sections: list[Section] = [
        Pictures(heading="Samples", pictures=pictures, note=remark),
        Metrics(heading="Measured", rows=rows, source=source, note=" ".join(measures.notes)),
        *_distances(snapshots),
    ]
    figures = {
        "count": count, "seeds": m.seeds, "measures": measures.as_dict(), "wasserstein": asdict(w1), "end": remark,
        "nfe": nfe, "on_the_way": [
            {"t": s.t, "forward": s.forward_gap, "reverse": s.reverse_gap, "floor": s.floor} for s in snapshots
        ],
    }  # fmt: skip
    return Evaluation(
        rows=rows, samples=drawn[0], sections=sections, figures=figures, lines=[remark] if remark else [],
        title=f"{count} samples x {m.seeds} seeds, {nfe} function evaluations each",
    )  # fmt: skip


def draws(points: "Points", m: Measuring, count: int) -> list[Samples]:
    """`count` samples per seed."""
    progress, drawn = m.progress("sampling"), list[Samples]()
    for seed in range(m.seeds):
        context = RequestContext(model=m.model, data=lambda: (m.train, m.val), count=count, seed=1_000_000 * (seed + 1))
        drawn.append(m.model.run(points.plan_like(m.train, context), batch=m.batch))
        progress(seed + 1, m.seeds)
    return drawn


def distance_row(far: Distance) -> MetricRow:
    """The distance as a row of the metrics table."""
    return MetricRow(
        metric="W1 to validation points",
        generated=mean_interval(far.generated),
        values=far.generated,
        floor=far.floor,
        better="near real",
        meaning="sliced Wasserstein-1 distance to the validation points, in units of the data",
    )


def on_the_way(points: "Points", m: Measuring) -> tuple[list[Snapshot], str]:
    """For an SDE, its marginals over time and the prior mismatch in words; else ([], "")."""
    model = m.model.parts
    if not isinstance(model, SDEModel):
        return [], ""
    count = min(len(m.train), 4000)
    rows = torch.arange(count)
    x: Tensor = points.codec.encode(m.train.values[:count])
    gap = model.process.with_statistics(x, SampleNoise(seeds=rows, steps=torch.full_like(rows, 1)))[1]
    return along(points, model, m.model.sampling, x, points.codec.encode(m.val.values)), str(gap)


def _distances(snapshots: list[Snapshot]) -> list[Section]:
    if not snapshots:
        return []
    times = [s.t for s in snapshots]
    named = {
        "forward": [s.forward_gap for s in snapshots],
        "backward": [s.reverse_gap for s in snapshots],
        "floor": [s.floor for s in snapshots],
    }
    return [
        Curves(
            heading="Distance of the marginals",
            lines=[Line(label=n, x=times, y=v) for n, v in named.items()],
            x_label="t",
            y_label="W1",
            y_log=True,
            caption="W1 to the SDE simulated from validation points. Forward: the SDE simulated from training points. "
            "Backward: the sampler. Floor: two halves of the reference.",
        )
    ]
