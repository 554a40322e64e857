"""The model card of a run, RUN/card.md: what it was made from, how good it is next to real data, and what is not known.

It is written anew after training and after every evaluation ("Model Cards for Model Reporting", 2018, arXiv:1810.03993).
What only its owner knows, such as a licence and what it is for, is taken from RUN/NOTES.md.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from langevin.evaluation.report import MetricRow, grouped
from langevin.files import read_regular, write_atomic
from langevin.recipe.sampling import describe
from langevin.run.directory import Run
from langevin.run.display import duration
from langevin.run.ema_choice import read_choice
from langevin.training.best import read_best
from langevin.training.metrics import read_metrics

NAME, NOTES = "card.md", "NOTES.md"
MOST = 1 << 20  # bytes of the notes
NONE = f"Not stated. Write a file {NOTES} in the run, and it stands here after the next evaluation."
FEW = 1000  # training items below which a model is likely to repeat some


def write_card(run: Run, *, step: int, metrics: Sequence[MetricRow] = (), command: str = "") -> Path:
    """Write the card of a run at a training step.

    Args:
        metrics: of an evaluation; none where there was none.
        command: which made them."""
    path = run.path / NAME
    write_atomic(path, card_text(run, step=step, metrics=metrics, command=command, name=str(run.path)).encode())
    return path


def card_text(
    run: Run, *, step: int, name: str, metrics: Sequence[MetricRow] = (), command: str = "", again: bool = True
) -> str:
    """The card of a run, as Markdown.

    Args:
        name: what commands call the run; its last part is the title.
        again: whether the recipe is beside the card and names the data, so that it can be trained again."""
    recipe, facts = run.recipe, run.facts
    machine, sampling = facts.get("machine", {}), recipe.sampling
    lines = read_metrics(run.path / "metrics.jsonl")
    seconds = max((line["seconds"] for line in lines if isinstance(line.get("seconds"), int | float)), default=0.0)
    broken = facts.get("broken", {})
    items = int(facts["items"])
    took = f" in {duration(seconds)}" if seconds else ""
    sections = {
        "What it is": f"A model of {recipe.data.kind}, made by langevin: process {recipe.process.kind}, network "
        f"{recipe.network.kind}. {recipe.description}",
        "Licence, intended use, contact": notes(run.path) or NONE,
        "Training data": f"{items:,} items of {recipe.data.kind}, SHA-256 `{facts['data']}`. "
        + (f"{len(broken)} more could not be read and were left out." if broken else ""),
        "Training": f"{step:,} steps of {recipe.training.batch}{took}, seed {recipe.training.seed}, "
        f"{recipe.training.precision}, on {machine.get('gpu') or machine.get('processor', 'an unknown machine')}. "
        + "`langevin train recipe.yaml` with the recipe of this folder trains it again. " * again
        + kept_weights(run),
        "Sampling": f"{describe(sampling.sampler)}, {sampling.steps} steps, EMA {run.ema_length(None):g}. "
        + (f"{choice.line()}." if (choice := read_choice(run.path)) else ""),
        "Figures": table(metrics, command) if metrics else f"None yet: `langevin evaluate {name}`.",
        "Limits": "\n".join(f"- {line}" for line in limits(items, metrics)),
    }
    parts = "\n\n".join(f"## {head}\n\n{body.strip()}" for head, body in sections.items())
    return f"# {Path(name).name}\n\n{parts}\n"


def kept_weights(run: Run) -> str:
    """Which weights a run with `training.keep_best` draws with, in a sentence; "" for other runs."""
    best = read_best(run.checkpoints) if run.recipe.training.keep_best else None
    lines = [line for line in read_metrics(run.path / "metrics.jsonl") if line.get("val_loss")]
    return best.line(lines[-1]["step"], fmean(lines[-1]["val_loss"])) if best and lines else ""


def notes(run: Path) -> str:
    """What the owner of a run says of it; "" if nothing, or nothing that can be read."""
    try:
        return read_regular(run / NOTES, most=MOST).decode(errors="replace").strip()
    except OSError:
        return ""


def table(metrics: Sequence[MetricRow], command: str) -> str:
    """The metrics in Markdown, beside those of real data and of training data in place of samples."""
    lines = ["| metric | generated | real data | training data | better |", "|---|---|---|---|---|"]
    for group, members in grouped(metrics).items():
        for row in members:
            metric, *values = row.cells()[:4]
            name = f"{metric} ({group})" if group else metric
            lines.append("| " + " | ".join((name, *values, row.better)) + " |")
    by = f"By `{command}`. " if command else ""
    return "\n".join([*lines, "", f'{by}"Real data": held-out data in place of samples.'])


def limits(items: int, metrics: Sequence[MetricRow]) -> list[str]:
    """What is not to be expected of the model."""
    found = ["It draws from the distribution of its training data, with the gaps and the biases of these."]
    if items < FEW:
        found.append(f"It was trained on {items:,} items only: expect samples that are close to some of them.")
    copied = [row for row in metrics if row.copycat is not None and row.floor is not None]
    if copied:
        found.append(
            "Copying: the column of training data shows what each metric would be for a model that repeats its training "
            "data; compare it with the generated column."
        )
    else:
        found.append("Whether it repeats training data was not measured.")
    found.append(
        "Samples can be told from others only if they were drawn with a key (`--watermark`), and not always then."
    )
    return found


__all__ = ["NAME", "card_text", "write_card"]
