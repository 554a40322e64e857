"""Several runs on the same data beside each other, each drawn as its recipe says: one table, one picture, one page."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from langevin.evaluation import page
from langevin.evaluation.report import MetricRow, Picture, Pictures, Report, Source, number
from langevin.modalities.modality import Evaluation, Measuring, RequestContext, Samples
from langevin.recipe.sampling import describe
from langevin.run.directory import Run, open_run
from langevin.run.display import duration
from langevin.run.evaluate import metrics_of
from langevin.run.generate import RunModel
from langevin.run.memory import peak_bytes, weight_bytes
from langevin.training.references import referred

TIMED = 16  # samples whose drawing is timed, and whose memory is counted


@dataclass(frozen=True, kw_only=True)
class Side:
    """A run and what was measured of it.

    Args:
        name: of its column.
        facts: how it was trained, and what drawing from it costs.
    """

    name: str
    evaluation: Evaluation
    facts: Mapping[str, str]

    @property
    def coded(self) -> bool:
        """Whether its scores have a ceiling, that of a codec that loses something."""
        return any(row.codec is not None for row in self.evaluation.rows)

    def cells(self, metric: MetricRow | None) -> tuple[str, ...]:
        """The texts of a metric: the run's score, and its codec's if scores have a ceiling."""
        texts = ("none", number(None)) if metric is None else (metric.cells()[1], number(metric.codec))
        return texts[: 1 + self.coded]


@dataclass(frozen=True, kw_only=True)
class SideBySide:
    """A section with a column for each run."""

    heading: str
    sides: Sequence[Side]
    source: Source
    note: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """Metric, references, and the runs, each with the ceiling of its codec if that loses something."""
        own = [name for side in self.sides for name in (side.name, f"Codec of {side.name}")[: 1 + side.coded]]
        return ("Metric", "Real vs. real", "Copycat", *own, "Better")

    def facts(self) -> list[tuple[str, ...]]:
        """The texts of the rows of facts: the name, and that of each run."""
        names = dict.fromkeys(name for side in self.sides for name in side.facts)
        return [(name, *(side.facts.get(name, "–") for side in self.sides)) for name in names]

    def metrics(self) -> dict[str, list[tuple[str, ...]]]:
        """The texts of the rows of metrics by group, in the order of the first run that has each."""
        groups = dict[str, list[tuple[str, ...]]]()
        found = [{row.name: row for row in side.evaluation.rows} for side in self.sides]
        for name in dict.fromkeys(name for rows in found for name in rows):
            some = next(rows[name] for rows in found if name in rows)
            cells = [cell for side, rows in zip(self.sides, found, strict=True) for cell in side.cells(rows.get(name))]
            line = (some.metric, number(some.floor), number(some.copycat), *cells, some.better)
            groups.setdefault(some.group or "metrics", []).append(line)
        return groups

    def groups(self) -> dict[str, list[tuple[str, ...]]]:
        """The rows of one table by group: the facts, then the metrics."""
        spread = [(name, "", "", *self._at_runs(texts), "") for name, *texts in self.facts()]
        return {"": spread} | self.metrics()

    def _at_runs(self, texts: Sequence[str]) -> list[str]:
        """A text for each run at its column, with an empty one for its codec."""
        return [cell for side, text in zip(self.sides, texts, strict=True) for cell in (text, "")[: 1 + side.coded]]

    def html(self) -> str:
        """A table of facts, and one of metrics."""
        facts = page.table(("Run", *(side.name for side in self.sides)), self.facts())
        metrics = page.grouped_table(self.columns, self.metrics(), numbers=tuple(range(1, len(self.columns) - 1)))
        return page.section(self.heading, page.paragraph(self.note) + facts + metrics + self.source.html())

    def data(self) -> dict[str, Any]:
        """Every row of every run, of JSON types."""
        sides = [
            {"name": side.name, "facts": dict(side.facts), "rows": [asdict(row) for row in side.evaluation.rows]}
            for side in self.sides
        ]
        return {"kind": "side by side", "heading": self.heading, "sides": sides, "note": self.note} | self.source.data()


def measured_side_by_side(
    runs: Sequence[Run], models: Sequence[RunModel], names: Sequence[str], options: Any, measuring: Measuring,
    say: Callable[[str], None],
) -> SideBySide:  # fmt: skip
    """Measure each run with the judges of the first one, on the same data and seeds.

    Args:
        options: of the evaluation of the runs' modality.
        measuring: that of the first run."""
    sides = list[Side]()
    for run, model, name in zip(runs, models, names, strict=True):
        say(f"measuring {name}")
        own = replace(measuring, model=model, facts=run.facts, run=run.path)
        evaluation = run.recipe.data.evaluate(options, own)
        sides.append(Side(name=name, evaluation=evaluation, facts=facts_of(run, model, measuring)))
    samples = {} if measuring.count is None else {"per run and seed": measuring.count}
    source = Source(samples=samples, seeds=list(range(measuring.seeds)), command=measuring.command)
    return SideBySide(
        heading="Side by side", sides=sides, source=source,
        note="Each run draws as its recipe says. A distance far below that of real data means copying. Training counts "
        "the runs that a run was made with: the autoencoder of its latents, and the run that it starts from. No sample is "
        "expected to be nearer to real data than what a run's codec gives back. Memory is that of the weights, of a codec "
        "too, and of the tensors that are alive at once.",
    )  # fmt: skip


def facts_of(run: Run, model: RunModel, measuring: Measuring) -> dict[str, str]:
    """How a run was trained, and how it draws."""
    weights, held = sum(p.numel() for p in model.parts.network.parameters()), weight_bytes(model)
    seconds, nfe, peak = cost(model, measuring)
    return {
        "method": f"{run.recipe.method.kind}, {run.recipe.process.kind}",
        "network": f"{run.recipe.network.kind}, {weights / 1e6:.2f} M weights",
        "training": training_of(run),
        "sampling": "one step" if run.recipe.method.one_step else f"{describe(model.sampling.sampler)}, NFE {nfe}",
        "seconds a sample": number(seconds, 2),
        f"memory of drawing {TIMED} at once": f"{(held + peak) / 1e6:.3g} MB, {held / 1e6:.3g} MB of it weights",
    }


def training_of(run: Run) -> str:
    """How long a run was trained, and each run that it was made with: those it refers to, and those it starts from."""
    texts, seen, left = [duration(seconds_of(run))], {run.path.resolve()}, made_with(run)
    while left:
        path = left.pop(0)
        if path.resolve() in seen:
            continue
        seen.add(path.resolve())
        try:
            other = open_run(path)
        except ValueError:
            texts.append(f"that of {path.name}, which is gone")
            continue
        texts.append(f"{duration(seconds_of(other))} of {path.name}")
        left += made_with(other)
    return " + ".join(texts)


def made_with(run: Run) -> list[Path]:
    """The runs that a run refers to, and the one that it starts from; that is looked for beside it if it was moved."""
    paths = [Path(path) for path in referred(asdict(run.recipe))]
    if run.recipe.init_from:
        start = Path(run.recipe.init_from)
        paths.append(start if start.is_dir() else run.path.absolute().with_name(start.name))
    return paths


def seconds_of(run: Run) -> float:
    """The seconds that a run was trained for."""
    return max((m["seconds"] for m in metrics_of(run) if isinstance(m.get("seconds"), int | float)), default=0.0)


def cost(model: RunModel, measuring: Measuring) -> tuple[float, int, int]:
    """Seconds to draw and decode a sample of a batch on this machine, its function evaluations, and the bytes of tensors
    that are alive at once for it, the weights left out."""

    def draw(seed: int) -> Samples:
        context = RequestContext(model=model, data=lambda: (measuring.train, measuring.val), count=TIMED, seed=seed)
        return model.run(model.modality.plan_like(measuring.train, context), batch=TIMED)

    peak, spent, nfe = peak_bytes(lambda: draw(1)), math.inf, 0  # it warms up too
    for seed in (2, 3):
        begun = time.perf_counter()
        nfe, spent = draw(seed).nfe, min(spent, time.perf_counter() - begun)
    return spent / TIMED, nfe, peak


def page_of(title: str, table: SideBySide, picture: bytes | None) -> Report:
    """The page: samples of all runs in one picture, the table, and further samples of each run."""
    caption = "the previews of each run, of the same seeds; not cherry-picked"
    together = [] if picture is None else [Picture(image=picture, caption=caption)]
    first = [Pictures(heading="Samples", pictures=[one], wide=True) for one in together]
    shown = [
        Pictures(heading=side.name, pictures=[Picture(image=preview.content, caption=f"first samples of {side.name}")])
        for side in table.sides
        if side.evaluation.samples is not None
        and (preview := side.evaluation.samples.first(16).preview()).suffix in (".png", ".webp")
    ]
    return Report(title=title, sections=[*first, table, *shown])
