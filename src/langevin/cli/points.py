"""`langevin evaluate` of points: distances beside their floor, the densities on the way against the grid, the end's gap."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from langevin.cli.show import LiveLine, counting, duration
from langevin.cli.table import command_of, show
from langevin.cli.verbs import Evaluate
from langevin.diffusion.noise import RowNoise
from langevin.diffusion.process import Drift
from langevin.evaluation.report import (
    Curves,
    Facts,
    Line,
    MetricRow,
    Metrics,
    Picture,
    Pictures,
    Report,
    Section,
    Source,
)
from langevin.evaluation.statistics import mean_interval
from langevin.evaluation.suite import Measures, measure
from langevin.modalities.toy.codec import Coordinates
from langevin.modalities.toy.metrics import Distance, coordinates, distance
from langevin.recipe.build import Built, open_data
from langevin.recipe.entry import Code
from langevin.recipe.modality import TOY
from langevin.recipe.tree import Sampling
from langevin.run.directory import Run
from langevin.run.flow import Snapshot, along, picture
from langevin.run.generate import generate, with_options
from langevin.training import machine
from langevin.training.checkpoint import write_atomic

MOST = 5000  # samples a seed, unless asked otherwise


def measure_points(asked: Evaluate, made: Run) -> Measures:
    """Sliced W1 and the usual metrics in the points' own coordinates, each beside what real points score.

    Raises:
        ValueError: too few points held out, or snapshots asked for."""
    if asked.curve:
        raise ValueError("--curve is for images; the report of points shows the loss over training instead")
    line, begin = LiveLine(), time.perf_counter()
    code = Code.of((), allow=asked.allow_code)
    built, step, complaints = made.load(average=asked.average, device=machine.device(), code=code)
    for text in complaints:
        line.say(text)
    train, held_out = open_data(made.recipe)
    made.require_same(train.fingerprint, len(train))
    if len(train) < 8 or len(held_out) < 8:
        raise ValueError(
            f"measuring needs 8 training and 8 held-out points, there are {len(train)} and {len(held_out)}"
        )
    changes = {"steps": asked.steps, "sampler": asked.sampler, "average": asked.average, "guidance": asked.guidance}
    sampling = with_options(made.recipe.sampling, **changes)
    count = asked.count or min(len(held_out), MOST)
    generated, calls = draws(built, sampling, train.shape, count=count, seeds=asked.seeds, batch=max(asked.batch, 2000))
    found = measure({"coordinates": coordinates}, train.values[:10_000], held_out.values, generated, seed=0)
    far = distance(generated, train.values, held_out.values)
    rows = [far_row(far), *found.rows]
    source = Source(samples=found.samples, seeds=list(range(asked.seeds)), command=command_of(asked))
    snapshots, remark = on_the_way(built, train.values, held_out.values)
    line.say(remark) if remark else None
    path = write_report(made, built, rows, found, source, generated[0], snapshots, remark, step=step, calls=calls)
    figures = {
        "command": command_of(asked), "step": step, "count": count, "seeds": asked.seeds, "sampling": asdict(sampling),
        "measures": found.as_dict(), "wasserstein": asdict(far), "end": remark, "network_calls": calls,
        "on_the_way": [{"t": s.t, "forward": s.forward_gap, "reverse": s.reverse_gap, "floor": s.floor} for s in snapshots],
    }  # fmt: skip
    write_atomic(made.path / "evaluation.json", json.dumps(figures, indent=1).encode())
    show(rows, title=f"{made.path}: {count} samples x {asked.seeds} seeds, {calls} network calls each")
    line.say(f"evaluated in {duration(time.perf_counter() - begin)}: {path}")
    return found


def draws(
    built: Built, sampling: Sampling, shape: tuple[int, ...], *, count: int, seeds: int, batch: int
) -> tuple[list[Tensor], int]:
    """Samples (count, d), one tensor a seed, and the network calls that each took."""
    generated: list[Tensor] = []
    calls = 0
    with counting("sampling") as progress:
        for seed in range(seeds):
            names = torch.arange(count) + 1_000_000 * (seed + 1)
            drawn = generate(built, sampling, shape=shape, seeds=names, condition=None, batch=batch)
            generated.append(drawn.images)
            calls = max(calls, drawn.calls)
            progress(seed + 1, seeds)
    return generated, calls


def far_row(far: Distance) -> MetricRow:
    """The distance in the table's form."""
    return MetricRow(
        metric="W1 held-out",
        generated=mean_interval(far.generated),
        values=far.generated,
        floor=far.floor,
        better="near the floor",
        meaning="how far a sample is moved, on average along directions, to make held-out points of the samples",
    )


def on_the_way(built: Built, train: Tensor, held_out: Tensor) -> tuple[list[Snapshot], str]:
    """States between data and prior, simulated forward and sampled backward; and the gap at the end. Of drifts only."""
    process = built.process
    if not isinstance(process, Drift):
        return [], ""
    count = min(len(train), 4000)
    rows = torch.arange(count)
    codec = built.recipe.codec
    assert isinstance(codec, Coordinates)
    x = codec.encode(train[:count])
    gap = process.measured(x, RowNoise(seeds=rows, steps=torch.full_like(rows, 1)))[1]
    return along(built, x, codec.encode(held_out)), str(gap)


def write_report(
    made: Run, built: Built, rows: list[MetricRow], found: Measures, source: Source, samples: Tensor,
    snapshots: list[Snapshot], remark: str, *, step: int, calls: int,
) -> Path:  # fmt: skip
    """report.html and report.json, and the pictures beside the run's samples."""
    recipe = made.recipe
    cloud = TOY.picture(samples, recipe, names=None, columns=None)
    write_atomic(made.samples / "evaluation.png", cloud)
    pictures = [Picture(image=cloud, caption="Samples of seed 0 beside what they should be")]
    if snapshots:
        way = picture(built, snapshots)
        write_atomic(made.samples / "flow.png", way)
        pictures.append(
            Picture(image=way, caption="From data to prior: simulated forward, sampled backward, and the truth")
        )
    sections: list[Section] = [
        Pictures(heading="Samples", pictures=pictures, note=remark),
        Metrics(heading="Measured", rows=rows, source=source, note=" ".join(found.notes)),
    ]
    if snapshots:
        times = [s.t for s in snapshots]
        named = {"forward": [s.forward_gap for s in snapshots], "backward": [s.reverse_gap for s in snapshots],
                 "chance": [s.floor for s in snapshots]}  # fmt: skip
        sections.append(
            Curves(
                heading="Distance on the way", lines=[Line(label=n, x=times, y=v) for n, v in named.items()], x_label="t",
                y_label="W1", y_log=True,
                caption="Forward: simulated from training against held-out points. Backward: sampled.",
            )
        )  # fmt: skip
    facts: dict[str, Any] = {
        "data": f"{recipe.data.kind}, rows of {samples.shape[1]}",
        "process": f"{built.process.kind}", "trained": f"{step} steps of {recipe.training.batch}",
        "sampling": f"{recipe.sampling.sampler}, {calls} network calls", **made.facts.get("machine", {}),
    }  # fmt: skip
    sections.append(Facts(heading="How it was made", rows=facts, source=source))
    return Report(title=f"{recipe.name}: {recipe.about}", sections=sections, summary=recipe.result).write(made.path)
