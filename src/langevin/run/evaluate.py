"""The evaluation of a run by its modality, and its report."""

import json
import os
import statistics
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from langevin.diffusion.light import BF16Weights, Int8Weights
from langevin.diffusion.sampler import FittedSolver
from langevin.evaluation.report import Curves, Facts, Line, Report, Section, Source, finite
from langevin.files import own_folder, write_atomic
from langevin.modalities.modality import Evaluation, Measuring
from langevin.recipe.sampling import describe
from langevin.run import light_table
from langevin.run.adapters import in_plain_network
from langevin.run.card import write_card
from langevin.run.directory import Run, load_model, open_run, put
from langevin.run.display import QUIET, Display
from langevin.run.ema_choice import read_choice
from langevin.run.generate import RunModel
from langevin.run.light import light_of, lightened
from langevin.run.ranking import Ranking
from langevin.training import machine
from langevin.training.metrics import read_metrics
from langevin.training.snapshots import snapshots

SCORED = 500  # samples per snapshot by default


def evaluate_run(
    run: Run, model: RunModel, options: Any, *, step: int, count: int | None = None, seeds: int = 3, batch: int = 256,
    curve: bool = False, light: Sequence[str] | None = None, command: str = "", guided: bool = False,
    display: Display = QUIET,
) -> tuple[Evaluation, Path]:  # fmt: skip
    """Measure the run, and write `report.html`, `report.json`, `evaluation.json` and `card.md` into it.

    Args:
        options: the options of the run's modality (its `Evaluate`).
        step: training step of the model's weights.
        count: samples per seed; None is the modality's default.
        seeds: independent sets of samples, for error bars.
        curve: also measure the run's EMA snapshots.
        light: also measure what makes drawing cheaper, by kind; empty is all that fits the run. `model` is then without
            any, and what the recipe has is measured too.
        command: the command line to name in the report.
        guided: whether it asks for guidance.

    Returns:
        The evaluation, and the path of report.html.

    Raises:
        ValueError: too few samples, seeds or data."""
    if seeds < 1 or (count is not None and count < 8):
        raise ValueError(f"an evaluation needs at least 8 samples and 1 seed, got {count} and {seeds}")
    if curve and isinstance(model.sampling.sampler, FittedSolver):
        raise ValueError(
            "--curve samples with snapshots of the weights, to which the learned sampler was not fitted: "
            "leave one of them out"
        )
    wanted = light_of(light, model.sampling) if light else ()
    own = run.recipe.sampling.light if light is not None else ()
    if light is not None:  # all ways are made from the run without any
        model = replace(model, sampling=replace(model.sampling, light=()))
    if curve and any(isinstance(one, BF16Weights | Int8Weights) for one in model.sampling.light):
        raise ValueError("--curve loads other weights, and sampling.light stores them in another form: leave one out")
    if not os.access(run.path, os.W_OK):
        raise ValueError(
            f"{run.path} is not writable, and the report is written there: copy the run, or change its rights"
        )
    for one in wanted:  # refused before any work
        lightened(model, (one,), run, say=display.say)
    train, val = run.open_data(progress=display.progress("reading data"))
    measuring = Measuring(
        model=model, train=train, val=val, folder=own_folder(run.path, "evaluation", create=False), facts=run.facts,
        load=lambda path: load_model(open_run(path), device=machine.device(), say=display.say)[0], count=count,
        seeds=seeds, batch=batch, command=command, say=display.say, progress=display.progress,
        guided=guided,
    )  # fmt: skip
    evaluation = run.recipe.data.evaluate(options, measuring)
    sections, points = quality_curve(run, model, measuring) if curve else ([], [])
    cheaper = {}
    if light is not None:
        ranking = Ranking.of(replace(measuring, count=measuring.count or light_table.COUNT))
        table = light_table.measured_light(run, ranking, wanted or None, own)
        sections, cheaper = [*sections, table], {"light": finite(table.data())}
        evaluation = replace(evaluation, lines=[*evaluation.lines, *table.lines()])
    display.close()
    figures = {
        "command": command, "step": step, "sampling": asdict(model.sampling), "curve": points, **cheaper,
        **evaluation.figures,
    }  # fmt: skip
    write_atomic(run.path / "evaluation.json", json.dumps(figures, indent=1).encode())
    if evaluation.samples is not None:
        preview = evaluation.samples.preview()
        write_atomic(run.samples / f"evaluation{preview.suffix}", preview.content)
    write_card(run, step=run.last_step, metrics=evaluation.rows, command=command)
    return evaluation, write_report(run, model, evaluation, sections, step=step, command=command)


def write_report(
    run: Run, model: RunModel, evaluation: Evaluation, curve: Sequence[Section], *, step: int, command: str
) -> Path:
    """Write report.html and report.json: the modality's sections, training curves, and the run's configuration."""
    recipe = run.recipe
    network = {k: v for k, v in vars(recipe.network).items() if isinstance(v, int | float | str)}
    facts = {
        "data": f"{recipe.data.kind}, {run.facts['items']:,} training items",
        "network": ", ".join(f"{k} {v}" for k, v in network.items()),
        "process": recipe.process.kind,
        "trained": f"{step} steps of {recipe.training.batch}: {step * recipe.training.batch:,} samples",
        "sampling": f"{describe(model.sampling.sampler)}, {model.sampling.steps} steps",
        **run.facts.get("machine", {}),
    }
    source = Source(samples={"training": run.facts["items"]}, seeds=[recipe.training.seed], command=command)
    sections = [
        *evaluation.sections,
        *curve,
        *ema_curve(run),
        *history(run),
        Facts(heading="How it was made", rows=facts, source=source),
    ]
    title = f"{recipe.name}: {recipe.description}" if recipe.description else recipe.name
    return Report(title=title, sections=sections, summary=recipe.measured).write(run.path)


def quality_curve(run: Run, model: RunModel, m: Measuring) -> tuple[list[Section], list[dict[str, Any]]]:
    """The modality's score for each of the run's EMA snapshots, on the same seeds: a section, and the points as JSON."""
    ranking = Ranking.of(replace(m, count=m.count or SCORED))
    seconds = {
        line["step"]: line["seconds"] for line in metrics_of(run) if isinstance(line.get("seconds"), int | float)
    }
    points: list[dict[str, Any]] = []
    progress, saved = m.progress("sampling snapshots"), snapshots(run.path, run.ema_length(model.sampling.ema))
    weights = {name: tensor.clone() for name, tensor in model.parts.network.state_dict().items()}
    try:
        for i, (step, tensors) in enumerate(saved):
            put(model.built, in_plain_network(run, tensors, device=model.device))
            score = ranking.rank(model).score
            logged = [s for s in seconds if s <= step]
            points.append({"step": step, "seconds": seconds[max(logged)] if logged else None, "distance": score})
            progress(i + 1, len(saved))
    finally:
        model.parts.network.load_state_dict(weights)
    if len(points) < 2:
        return [], points
    name = ranking.scorer.name
    timed = all(point["seconds"] is not None for point in points)
    x = [point["seconds"] / 60 if timed else float(point["step"]) for point in points]
    return [
        Curves(
            heading="Quality over training", lines=[Line(label=name, x=x, y=[p["distance"] for p in points])],
            x_label="minutes of training" if timed else "step", y_label=name, y_log=True,
            caption="Snapshots of the EMA of the weights, each sampled with the same seeds.",
        )
    ], points  # fmt: skip


def ema_curve(run: Run) -> list[Section]:
    """The figures by which the run's EMA length was chosen."""
    choice = read_choice(run.path)
    if choice is None or len(choice.values) < 2:
        return []
    lengths = sorted(choice.values)
    means = [statistics.fmean(choice.values[length]) for length in lengths]
    return [
        Curves(
            heading="EMA length", lines=[Line(label=choice.figure, x=lengths, y=means)], x_label="EMA length, of the run",
            y_label=choice.figure, caption=f"Means of sets of {choice.count}, at the end of training. {choice.line()}.",
        )
    ]  # fmt: skip


def metrics_of(run: Run) -> list[dict[str, Any]]:
    """The lines of the run's metrics.jsonl."""
    return read_metrics(run.path / "metrics.jsonl")


def history(run: Run) -> list[Section]:
    """Curves of the objective and of the denoising loss over training."""
    lines = metrics_of(run)
    smooth = [(m["step"], m["smooth_loss"]) for m in lines if isinstance(m.get("smooth_loss"), int | float)]
    if len(smooth) < 2:
        return []
    curves: list[Section] = [
        Curves(
            heading="Training", x_label="step", y_label="loss", caption="The objective, smoothed over about 50 steps.",
            lines=[Line(label="training objective", x=[a for a, _ in smooth], y=[b for _, b in smooth])],
        )
    ]  # fmt: skip
    keys = {"validation": "val_loss", "train": "train_loss"}
    means = {
        label: [(m["step"], statistics.fmean(m[key])) for m in lines if isinstance(m.get(key), list) and m[key]]
        for label, key in keys.items()
    }
    if all(len(points) > 1 for points in means.values()):
        curves.append(
            Curves(
                heading="Denoising loss over training", x_label="step", y_label="mean over noise levels",
                caption="Fixed examples, fixed noise, EMA of the weights.",
                lines=[Line(label=n, x=[a for a, _ in v], y=[b for _, b in v]) for n, v in means.items()],
            )
        )  # fmt: skip
    return curves
