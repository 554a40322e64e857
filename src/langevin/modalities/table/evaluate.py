"""Evaluation of tables: distributions, pairs, a two-sample test, usefulness, privacy and the filling of holes, each beside
real data and rules of ten lines."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from langevin.evaluation.report import Better, Facts, MetricRow, Metrics, Picture, Pictures, Quotes, Section, Source
from langevin.evaluation.statistics import mean_interval
from langevin.modalities.modality import Evaluation, Measuring, RequestContext, Samples, Scorer
from langevin.modalities.table import baselines, imputation, metrics, plans, plots, preview, write
from langevin.modalities.table.data import TableSet
from langevin.modalities.table.imputation import Filling
from langevin.modalities.table.options import Evaluate
from langevin.modalities.table.read import column_index

if TYPE_CHECKING:
    from langevin.modalities.table.modality import Table

MOST = 5000  # samples per seed by default
FILLED = 500  # held-out samples with holes, at most
FIRST = 1_000_000


Score = Callable[[TableSet, int], float | None]  # (samples, seed) -> a number; None where it has no meaning


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A metric of generated samples, and its value for real ones."""

    name: str
    better: Better
    meaning: str
    of: Score
    floor: float | None


def evaluate(table: "Table", options: Evaluate, m: Measuring) -> Evaluation:
    """All metrics, with their floor and what rules reach.

    Raises:
        ValueError: too few samples, or a target that cannot be one."""
    train, val = m.train, m.val
    if len(train) < 16 or len(val) < 4:
        raise ValueError(f"evaluate needs 16 training and 4 validation samples, there are {len(train)} and {len(val)}")
    if not 0 < options.holes < 1 or not 1 <= options.imputations <= 1000:
        raise ValueError(
            f"--holes is a share between 0 and 1 and --imputations 1 to 1000, got {options.holes} and {options.imputations}"
        )
    target = target_of(train, options.target)
    count = m.count or min(max(len(train), 16), MOST)
    drawn = draws(table, m, count)
    generated = [as_set(table, samples) for samples in drawn]
    rules = {
        "Gaussian copula": baselines.gaussian_copula(table.columns, train, count, seed=1),
        "independent columns": baselines.independent(train, count, seed=1),
    }
    progress, rows, compared = m.progress("measuring"), list[MetricRow](), list[MetricRow]()
    measures = measures_of(train, val, target)
    for k, measure in enumerate(measures):
        row, of_rules = measured(measure, generated, rules)
        rows += row
        compared += of_rules
        progress(k + 1, len(measures))
    fillings = filled(table, options, m)
    rows += filling_rows(fillings, "run")
    compared += [row for name in fillings if name != "run" for row in filling_rows(fillings, name)]
    source = Source(samples={"generated": count, "training": len(train), "held out": len(val)},
                    seeds=list(range(m.seeds)), command=m.command)  # fmt: skip
    columns, first = write.written(table.columns), drawn[0]
    shown = plots.marginals(columns, preview.values_of(columns, list(first.values)))
    text = preview.text_table([column.name for column in columns], list(first.values))
    sections: list[Section] = [
        Pictures(
            heading="Columns",
            pictures=[Picture(image=shown, caption="Samples of seed 0, and the training data in grey")],
        ),
        Quotes(heading="Samples", quotes=[("", text)], note="The first samples of seed 0."),
        Metrics(heading="Measured", rows=rows, source=source),
        Metrics(heading="What rules of ten lines reach", rows=compared, source=source, note=RULES),
        by_column(table, train, val, generated[0], source),
    ]
    figures = {
        "count": count, "seeds": m.seeds, "nfe": first.nfe, "target": None if target is None else train.names[target],
        "metrics": {row.metric: list(row.values) or [row.generated.estimate] for row in rows},
        "floors": {row.metric: row.floor for row in rows},
        "rules": {row.metric: row.generated.estimate for row in compared},
        "imputation": {name: asdict(filling) for name, filling in fillings.items()},
    }  # fmt: skip
    return Evaluation(
        rows=rows, samples=first, sections=sections, figures=figures,
        title=f"{count} samples x {m.seeds} seeds, {first.nfe} function evaluations each",
    )  # fmt: skip


RULES = (
    "A Gaussian copula keeps the distribution of each column and correlations; independent columns keep the first alone. "
    "Holes are filled by the mean or mode, and by the cells of the training sample that is nearest in what is seen."
)


def target_of(train: TableSet, name: str | None) -> int | None:
    """The column that others predict; None if there is none. Raises `ValueError` for one that cannot be."""
    possible = metrics.predictable(train)
    if name is None:
        return possible[-1] if len(metrics.modelled(train)) > 1 and possible else None
    i = column_index(train.names, name, "--target")
    if i not in possible:
        raise ValueError(f"--target: '{name}' cannot be predicted: it has too many values, or too few cells have one")
    return i


def draws(table: "Table", m: Measuring, count: int) -> list[Samples]:
    """`count` samples per seed."""
    progress, drawn = m.progress("sampling"), list[Samples]()
    for seed in range(m.seeds):
        context = RequestContext(model=m.model, data=lambda: (m.train, m.val), count=count, seed=FIRST * (seed + 1))
        drawn.append(m.model.run(table.plan_like(m.train, context), batch=m.batch))
        progress(seed + 1, m.seeds)
    return drawn


def as_set(table: "Table", samples: Samples) -> TableSet:
    """Samples as a part of data, with all columns of the table."""
    columns = write.written(table.columns)
    values = dict(zip([c.name for c in columns], preview.values_of(columns, list(samples.values))))
    return TableSet(
        columns=table.columns, values=tuple(values.get(c.name, np.zeros(len(samples))) for c in table.columns)
    )


def measures_of(train: TableSet, val: TableSet, target: int | None) -> list[Measure]:
    """The metrics of generated samples against the training data."""

    def measure(name: str, better: Better, of: Score, meaning: str, real: float | None = None) -> Measure:
        return Measure(name=name, better=better, of=of, meaning=meaning, floor=of(val, 0) if real is None else real)

    found = [
        measure("marginals", "lower", lambda fake, seed: metrics.marginals(train, fake),
                "mean over columns of the Kolmogorov-Smirnov distance or the total variation to the training data"),
        measure("pairs", "lower", lambda fake, seed: metrics.pairs(train, fake),
                "mean difference of the association of two columns: rank correlation, Cramér's V or correlation ratio"),
        measure("two-sample AUC", "near real", lambda fake, seed: metrics.two_sample(train, fake, seed),
                "of boosted trees that tell samples from training data, cross-fitted; 0.5 if they cannot"),
    ]  # fmt: skip
    if target is not None:
        what = "accuracy" if train.columns[target].kind == "category" else "R²"
        found.append(
            measure(f"{what} of {train.names[target]}", "higher",
                    lambda fake, seed: metrics.utility(fake, val, target, seed),
                    "of boosted trees that are trained on samples and tested on held-out data; real: trained on real data",
                    real=metrics.utility(train, val, target))
        )  # fmt: skip
    found.append(
        measure("nearer to training", "near real",
                lambda fake, seed: metrics.nearer_to_training(train, val, fake, seed),
                "share of samples that are nearer to training samples than to as many held-out ones; 1 is learned by heart",
                real=0.5)
    )  # fmt: skip
    return found


def measured(
    measure: Measure, generated: list[TableSet], rules: dict[str, TableSet]
) -> tuple[list[MetricRow], list[MetricRow]]:
    """The rows of a metric: of the run, and of the rules."""
    values = tuple(v for seed, fake in enumerate(generated) if (v := measure.of(fake, seed)) is not None)
    if not values:
        return [], []
    row = MetricRow(
        metric=measure.name, generated=mean_interval(values), values=values, floor=measure.floor, better=measure.better,
        meaning=measure.meaning,
    )  # fmt: skip
    compared = [
        MetricRow(
            metric=f"{measure.name}, {name}", generated=mean_interval([measure.of(fake, 0) or 0.0]), floor=measure.floor,
            better=measure.better, meaning=f"of samples from {name}",
        )
        for name, fake in rules.items()
    ]  # fmt: skip
    return [row], compared


def by_column(table: "Table", train: TableSet, val: TableSet, fake: TableSet, source: Source) -> Facts:
    """The distance of each column."""
    rows = {
        train.names[
            i
        ]: f"{metrics.marginal_distance(train, fake, i):.3f} (held out {metrics.marginal_distance(train, val, i):.3f})"
        for i in metrics.modelled(train)
    }
    return Facts(heading="Distance of each column", rows=rows, source=source)


# -------------------------------------------------------------------------------------------------------------- imputation


def filled(table: "Table", options: Evaluate, m: Measuring) -> dict[str, Filling]:
    """Hidden cells of held-out samples filled by the run and by rules."""
    truth = metrics.some_of(m.val, FILLED, 0)
    hidden = imputation.hide(truth, options.holes, seed=0)
    if not hidden.any():
        return {}
    seen = imputation.without(truth, hidden)
    modelled = np.array([column.modelled for column in table.columns])
    given = plans.Given(
        table=TableSet(columns=table.columns, values=seen.values),
        known=np.stack([seen.there(i) for i in range(len(table.columns))], 1) & modelled,
        present=np.stack([truth.there(i) for i in range(len(table.columns))], 1) & modelled,
    )  # fmt: skip
    gone = ~given.present & modelled  # missing in the data: known to be
    given = plans.Given(table=given.table, known=given.known | gone, present=given.present)
    answers = imputed(table, given, options.imputations, m)
    return {
        "run": imputation.score(truth, hidden, answers),
        "mean or mode": imputation.score(truth, hidden, [baselines.mean_or_mode(m.train, seen)]),
        "hot deck": imputation.score(truth, hidden, [baselines.hot_deck(m.train, seen)]),
    }


def imputed(table: "Table", given: plans.Given, imputations: int, m: Measuring) -> list[tuple[np.ndarray, ...]]:
    """The values of all columns, `imputations` times."""
    count = len(given.known)
    index = np.tile(np.arange(count), imputations)
    context = RequestContext(model=m.model, data=lambda: (m.train, m.val), seed=50 * FIRST)
    samples = m.model.run(
        plans.samples_of(table, given.select(index), context, len(index)), batch=m.batch, progress=m.progress("filling")
    )
    values = as_set(table, samples).values
    return [tuple(v[k * count : (k + 1) * count] for v in values) for k in range(imputations)]


def filling_rows(fillings: dict[str, Filling], name: str) -> list[MetricRow]:
    """The rows of one way to fill holes."""
    filling = fillings.get(name)
    if filling is None:
        return []
    level, suffix = imputation.LEVEL, "" if name == "run" else f", {name}"
    entries: list[tuple[str, float | None, Better, str, float | None]] = [
        ("holes: error of numbers", filling.rmse, "lower", "of the mean of the answers, in standard deviations", None),
        ("holes: coverage", filling.coverage, "near real",
         f"share of hidden numbers within the central {level:.0%} of the answers; more where values repeat", level),
        ("holes: width", filling.width, "lower", "of these intervals, in standard deviations, if they cover", None),
        ("holes: right categories", filling.accuracy, "higher", "share of the likeliest answers that are right", None),
    ]  # fmt: skip
    return [
        MetricRow(metric=metric + suffix, generated=mean_interval([value]), better=better, meaning=meaning, floor=floor)
        for metric, value, better, meaning, floor in entries
        if value is not None
    ]


def scorer(table: "Table", m: Measuring) -> Scorer:
    """The distance of the two-sample test from chance, |AUC - 0.5|."""
    m.require_training("a classifier of real and generated samples")
    count = min(m.count or 2000, len(m.train))
    train, val = m.train, m.val
    floor = abs(metrics.two_sample(train, metrics.some_of(val, count, 0)) - 0.5)
    return Scorer(
        name="|two-sample AUC - 0.5|", floor=floor,
        score=lambda samples: abs(metrics.two_sample(train, as_set(table, samples)) - 0.5),
    )  # fmt: skip
