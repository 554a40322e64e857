"""`langevin evaluate`: measure a run, and write report.html."""

import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from langevin.cli import points
from langevin.cli.likelihood import sections as sections_of
from langevin.cli.likelihood import show_likelihood
from langevin.cli.measure_texts import measure_texts
from langevin.cli.show import LiveLine, counting, duration
from langevin.cli.table import command_of, show
from langevin.cli.verbs import Evaluate
from langevin.evaluation.report import Curves, Facts, Line, MetricRow, Metrics, Picture, Pictures, Report, Source
from langevin.evaluation.statistics import mean_interval
from langevin.modalities.image.data import Images
from langevin.modalities.image.preview import grid, png, side_by_side
from langevin.recipe.build import open_data
from langevin.recipe.modality import modality_of
from langevin.recipe.samplers import sampler_of
from langevin.recipe.tree import Sampling
from langevin.run.directory import Run, open_run
from langevin.run.generate import with_options
from langevin.run.likelihood import LikelihoodFound, in_float32, measure_likelihood
from langevin.run.measure import Measured, Point, judges, measure_curve, measure_run, require_enough, searched
from langevin.run.watch import LEVELS
from langevin.safety.memorisation import nearest
from langevin.training import machine
from langevin.training.checkpoint import write_atomic
from langevin.training.session import read_metrics
from langevin.training.snapshots import snapshots


def run(asked: Evaluate) -> Any:
    """Measure the run and write `report.html`, `report.json` and `evaluation.json` into it.

    Raises:
        ValueError: too few samples, seeds or rows to measure anything."""
    if asked.batch < 1:
        raise ValueError(f"--batch must be at least 1, got {asked.batch}")
    if asked.seeds < 1 or (asked.count is not None and asked.count < 8):
        raise ValueError(f"measuring needs at least 8 samples and 1 seed, got {asked.count} and {asked.seeds}")
    if asked.likelihood and asked.likelihood_rows < 2:
        raise ValueError(f"--likelihood-rows must be at least 2 for a standard error, got {asked.likelihood_rows}")
    made = open_run(asked.run)
    return MEASURES[modality_of(made.recipe).name](asked, made)


def measure_images(asked: Evaluate, made: Run) -> Measured:
    """Metrics in several feature spaces, class consistency, memorisation, loss by noise level."""
    line, begin = LiveLine(), time.perf_counter()
    built, step, complaints = made.load(average=asked.average, device=machine.device())
    for text in complaints:
        line.say(text)
    changes = {"steps": asked.steps, "sampler": asked.sampler, "guidance": asked.guidance, "average": asked.average}
    sampling = with_options(made.recipe.sampling, **changes)
    sampler_of(built.process, sampling, built.learned)  # refuses before any work what cannot be drawn with
    if asked.curve and sampling.sampler == "learned":
        raise ValueError(
            "--curve draws with the weights of snapshots, to which no solver was fitted: leave one of them out"
        )
    with counting("reading images") as progress:
        train, held_out = open_data(made.recipe, progress=progress)
    made.require_same(train.fingerprint, len(train))
    require_enough(train, held_out)
    # as many as the floor has: real images of which as many remain to be compared with
    count = asked.count or min(max(len(held_out), len(train) // 2, 8), 2000)
    with counting("training the classifier, steps") as progress:
        judged = judges(made.recipe, train, held_out, made.path / "evaluation", say=line.say, progress=progress)
    with counting("sampling") as progress:
        found = measure_run(
            replace(built, recipe=made.recipe), sampling, train, held_out, judged,
            count=count, seeds=range(asked.seeds), batch=asked.batch, progress=progress,
        )  # fmt: skip
    points: list[Point] = []
    if asked.curve:
        times = {m["step"]: m["seconds"] for m in _metrics(made) if "seconds" in m}
        saved = snapshots(made.path, sampling.average)
        with counting("sampling snapshots") as progress:
            points = measure_curve(
                built, sampling, train, judged, saved, times, count=count, batch=asked.batch, progress=progress
            )
    likely: LikelihoodFound | None = None
    if asked.likelihood:
        with counting("likelihood, rows") as progress:
            likely = measure_likelihood(
                in_float32(built), train, held_out, rows=asked.likelihood_rows, bound_rows=8 * asked.likelihood_rows,
                batch=min(asked.batch, 64), progress=progress,
            )  # fmt: skip
    command = command_of(asked)
    rows = [*found.measures.rows, *own_rows(found)]
    path = write_report(
        made, found, sampling, rows, train, held_out, points, likely, step=step, seeds=asked.seeds, command=command
    )
    figures = {
        "curve": [asdict(p) for p in points],
        "command": command,
        "step": step,
        "count": count,
        "seeds": asked.seeds,
        "sampling": asdict(sampling),
        **found.as_dict(),
        "likelihood": None if likely is None else likely.as_dict(),
    }
    write_atomic(made.path / "evaluation.json", json.dumps(figures, indent=1).encode())
    show(rows, title=f"{made.path}: {count} samples x {asked.seeds} seeds, {found.calls} network calls each")
    if likely is not None:
        show_likelihood(likely)
    line.say(f"evaluated in {duration(time.perf_counter() - begin)}: {path}")
    return found


MEASURES = {"image": measure_images, "toy": points.measure_points, "text": measure_texts}


def own_rows(found: Measured) -> list[MetricRow]:
    """Class consistency and memorisation in the table's form."""
    rows: list[MetricRow] = []
    if found.consistency is not None:
        rows.append(
            MetricRow(
                metric="class consistency",
                generated=found.consistency,
                floor=found.real_accuracy,
                better="higher",
                meaning="share of samples read as the class asked for, beside the accuracy on held-out images",
            )
        )
    rows += [
        MetricRow(
            metric=f"retrieval of {part}",
            generated=mean_interval([got.share]),
            standard_error=(got.share * (1 - got.share) / got.count) ** 0.5,
            floor=1.0,
            better="higher",
            meaning=f"share of {got.count} captions whose sample is nearest to its own image of {got.gallery} real ones",
        )
        for part, got in found.retrieval.items()
    ]
    memory = found.memory
    rows.append(
        MetricRow(
            metric="C_T, pixels",
            generated=mean_interval([memory.c_t]),
            floor=0.0,
            copycat=memory.c_t_copycat,
            better="near the floor",
            meaning="are samples nearer to training images than held-out images are? Far below zero means copying",
        )
    )
    rows.append(
        MetricRow(
            metric="authentic share, pixels",
            generated=mean_interval([memory.authentic]),
            floor=memory.authentic_held_out,
            copycat=0.0,
            better="near the floor",
            meaning="share of samples farther from their nearest training image than that image is from its own nearest",
        )
    )
    worst = found.gap.worst
    rows.append(
        MetricRow(
            metric=f"loss gap at log-SNR {LEVELS[worst].item():g}",
            generated=mean_interval([found.gap.gap[worst].item()]),
            standard_error=found.gap.standard_error[worst].item(),
            floor=0.0,
            better="near the floor",
            meaning="held-out minus training denoising loss where most significant; above 3 s.e. is memory",
        )
    )
    return rows


def write_report(
    made: Run,
    found: Measured,
    sampling: Sampling,
    rows: list[MetricRow],
    train: Images,
    held_out: Images,
    points: list[Point],
    likely: LikelihoodFound | None,
    *,
    step: int,
    seeds: int,
    command: str,
) -> Path:
    """report.html and report.json."""
    recipe = made.recipe
    network = {k: v for k, v in vars(recipe.network).items() if k not in ("ports", "channels", "dimensions")}
    source = Source(samples=found.measures.samples, seeds=list(range(seeds)), command=command)
    facts = {
        "data": f"{len(train):,} training and {len(held_out):,} held-out images of "
        + "x".join(map(str, train.shape[1:]))
        + (f", {len(recipe.classes)} classes" if recipe.classes else "")
        + (", captions" if recipe.words else ""),
        "network": ", ".join(f"{k} {v}" for k, v in network.items()),
        "trained": f"{step} steps of {recipe.training.batch}: {step * recipe.training.batch:,} images",
        "sampling": f"{sampling.sampler}, {found.calls} network calls, guidance {sampling.guidance:g}",
        **made.facts.get("machine", {}),
    }
    sections = [
        Pictures(heading="Samples", pictures=[_sheet(made, found)], note="Drawn, not chosen: the first of seed 0."),
        Metrics(heading="Measured", rows=rows, source=source, note=" ".join(found.measures.notes)),
        *(sections_of(likely, train=len(train), held_out=len(held_out), command=command) if likely else []),
        Pictures(
            heading="Nearest training images", pictures=[_neighbours(found, train)], note="Sample left, nearest right."
        ),
        Curves(
            heading="Denoising loss by noise level",
            lines=[Line(label=n.replace("_", "-"), x=LEVELS.tolist(), y=v) for n, v in found.losses.items()],
            x_label="log-SNR",
            y_label="squared error (1 = best linear guess)",
            caption="The same noise for both parts of the data; a gap is memory.",
            y_log=True,
        ),
        *_curve(points, next(iter(found.measures.rows)).metric),
        *_history(made),
        Facts(heading="How it was made", rows=facts, source=source),
    ]
    title = f"{recipe.name}: {recipe.about}" if recipe.about else recipe.name
    return Report(title=title, sections=sections, summary=recipe.result).write(made.path)


def _sheet(made: Run, found: Measured) -> Picture:
    images, names = found.generated[0], made.recipe.classes
    if found.labels is not None and names:
        per = 8
        order = torch.cat([(found.labels == c).nonzero()[:per, 0] for c in range(min(len(names), 12))])
        shown = grid(images[order], columns=per, captions=[names[i] for i in found.labels[order].tolist()])
    else:
        pick = torch.arange(min(32, len(images))) * len(images) // min(32, len(images))
        captions = [found.captions[i] for i in pick.tolist()] if found.captions else None
        shown = grid(images[pick], columns=8, captions=captions)
    write_atomic(made.samples / "evaluation.png", png(shown))
    return Picture(image=png(shown), caption=f"Samples of {made.recipe.name}")


def _neighbours(found: Measured, train: Images) -> Picture:
    images = found.generated[0]
    pick = torch.arange(min(16, len(images))) * len(images) // min(16, len(images))
    real = searched(train)
    _, index = nearest(real, images[pick])
    pairs = side_by_side(images[pick], real[index[:, 0]])
    return Picture(
        image=png(grid(pairs, columns=4)), caption="Samples beside their nearest training image (L2 in pixels)"
    )


def _metrics(made: Run) -> list[dict[str, Any]]:
    path = made.path / "metrics.jsonl"
    return read_metrics(path) if path.exists() else []


def _curve(points: list[Point], name: str) -> list[Curves]:
    if len(points) < 2:
        return []
    timed = all(p.seconds is not None for p in points)
    x = [p.seconds / 60 if p.seconds is not None and timed else float(p.step) for p in points]
    line = Line(label=name, x=x, y=[p.distance for p in points])
    return [
        Curves(
            heading="Quality over training", lines=[line], x_label="minutes of training" if timed else "step", y_label="FD",
            caption="Snapshots of the averaged weights, each sampled with the same seeds.", y_log=True,
        )
    ]  # fmt: skip


def _history(made: Run) -> list[Curves]:
    lines = _metrics(made)
    smooth = [(m["step"], m["smooth_loss"]) for m in lines if m.get("smooth_loss") is not None]
    if len(smooth) < 2:
        return []
    held = [(m["step"], sum(m["held_out_loss"]) / len(m["held_out_loss"])) for m in lines if "held_out_loss" in m]
    known = [(m["step"], sum(m["train_loss"]) / len(m["train_loss"])) for m in lines if "train_loss" in m]
    curves = [
        Curves(
            heading="Training",
            lines=[Line(label="training objective", x=[a for a, _ in smooth], y=[b for _, b in smooth])],
            x_label="step", y_label="loss", caption="The objective, smoothed over about 50 steps.",
        )
    ]  # fmt: skip
    if len(held) > 1:
        pair = [("held-out", held), ("train", known)]
        curves.append(
            Curves(
                heading="Denoising loss over training",
                lines=[Line(label=n, x=[a for a, _ in v], y=[b for _, b in v]) for n, v in pair],
                x_label="step", y_label="mean over noise levels", caption="Fixed images, fixed noise, average weights.",
            )
        )  # fmt: skip
    return curves
