"""The report of a text run: bits per character, variety and task metrics, each with its baseline."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from langevin.evaluation.report import Better, Curves, Line, MetricRow, Metrics, Quotes, Section, Source
from langevin.evaluation.statistics import mean_interval
from langevin.modalities.modality import Evaluation, Measuring, Samples, Scorer, spread
from langevin.modalities.text.batches import CorpusWindows, PairExamples
from langevin.modalities.text.measure import (
    TEXTS,
    WRITING_SEED,
    Baseline,
    MeasuredText,
    Variety,
    measure_text,
    references,
)
from langevin.modalities.text.metrics.rouge import rouge
from langevin.modalities.text.metrics.variety import gram_divergence
from langevin.modalities.text.options import Evaluate
from langevin.modalities.text.task import Seq2Seq

if TYPE_CHECKING:
    from langevin.modalities.text.modality import Text


def evaluate(text: "Text", options: Evaluate, m: Measuring) -> Evaluation:
    """The metrics of a run, with an autoregressive run to compare with."""
    require_prompted(text, m)
    measured = measure_text(text, m, baseline_of(text, options.baseline, m))
    rows = table(measured)
    source = Source(
        samples={"examples": measured.costs["own"].examples, "texts": m.count or TEXTS},
        seeds=[WRITING_SEED],
        command=m.command,
    )
    quoted = [f"\n{given[-300:]} -> {written}" if given else f"\n{written}" for given, written in measured.quotes[:4]]
    return Evaluation(
        rows=rows, samples=None, sections=sections(measured, rows, source), figures=measured.as_dict(), lines=quoted,
        title=f"validation text, {measured.costs['own'].characters:,} characters",
    )  # fmt: skip


def require_prompted(text: "Text", m: Measuring) -> None:
    """Check that guidance has an effect, if the user asks for it. Raises `ValueError` if it has none."""
    if m.guided and not isinstance(text.task, Seq2Seq):
        raise ValueError("--guidance has no effect here, as texts are drawn without a prompt: leave it out")


def baseline_of(text: "Text", given: Path | None, m: Measuring) -> Baseline | None:
    """The autoregressive run to compare with, on the same validation examples; None if there is none.

    Raises:
        ValueError: a run that is not autoregressive, or of other data, task or codec."""
    run = m.run or m.folder.parent
    path = given or run.with_name(run.name + "-causal")
    if given is None and not (path / "recipe.yaml").is_file():
        if not text.tokens_of(m.model).autoregressive:
            m.say(
                "no autoregressive run to compare with: train one with process.kind=autoregressive "
                f"network.attention=causal --out {path}, and it is measured too"
            )
        return None
    other = m.load(path)
    baseline = other.modality
    if not isinstance(baseline, type(text)) or not baseline.tokens_of(other).autoregressive:
        raise ValueError(f"--baseline {path} is no autoregressive run (process.kind autoregressive)")
    if (baseline.task, baseline.val_fraction, baseline.codec, other.data_fingerprint) != (
        text.task, text.val_fraction, text.codec, m.model.data_fingerprint,
    ):  # fmt: skip
        raise ValueError(f"{path} has other data, task or codec than {run}: they cannot be compared")
    return baseline, baseline.tokens_of(other), baseline.batches(m.val, device=other.device)


def scorer(text: "Text", m: Measuring) -> Scorer:
    """The score that `compare` minimises: letter 3-gram divergence from validation text for a corpus, else 1 - ROUGE-1.

    Raises:
        ValueError: a task that does not generate text, or too little validation text."""
    require_prompted(text, m)
    examples = text.examples(m.val)
    if isinstance(examples, CorpusWindows):
        items = spread(len(examples), 3 * (m.count or TEXTS))
        if len(items) < 3:
            raise ValueError(f"validation text of {len(items)} windows is too little to compare with: give 3 or more")
        real = [text.codec.decode(x) for x, _ in examples.examples(items, None)]
        others = [window for i, window in enumerate(real) if i % 3]  # twice as many as are sampled

        def divergence(texts: Sequence[str]) -> float:
            return gram_divergence(texts, others, orders=(3,)).values[0]

        return Scorer(
            name="3-gram divergence", floor=divergence(real[::3]), score=lambda samples: divergence(samples.values)
        )
    if not isinstance(text.task, Seq2Seq) or not isinstance(examples, PairExamples):
        raise ValueError(f"runs of data.task.kind {text.task.kind} are compared by `langevin evaluate`, one by one")
    targets = list(references(examples, together=m.val.form == "summary").values())

    def missed(samples: Samples) -> float:
        items = [i * len(targets) // len(samples) for i in range(len(samples))]
        return 1 - rouge(samples.values, [targets[i] for i in items]).rouge1

    return Scorer(name="1 - ROUGE-1", floor=0.0, score=missed)


def table(measured: MeasuredText) -> list[MetricRow]:
    """All metrics as rows of the report's table."""
    rows: list[MetricRow] = []
    for name, cost in measured.costs.items():
        group = f"{name} ({cost.estimator}, {cost.examples} examples)"
        for unit, value, error in (
            ("character", cost.bits_per_character, cost.error), ("byte", cost.bits_per_byte, cost.byte_error),
        ):  # fmt: skip
            if value is None:
                continue
            rows.append(
                MetricRow(
                    metric=f"bits per {unit}",
                    group=group, generated=mean_interval([value]), standard_error=error,
                    better="lower",
                    meaning="-log2 p of validation text: an upper bound for diffusion, exact from left to right",
                )
            )  # fmt: skip
    if measured.generated is not None and measured.real is not None:
        for name, meaning in VARIETY.items():
            value, floor = getattr(measured.generated, name), getattr(measured.real, name)
            if value is not None:
                rows.append(
                    MetricRow(
                        metric=name.replace("_", "-"), generated=mean_interval([float(value)]),
                        floor=None if floor is None else float(floor), better="near real", meaning=meaning,
                    )
                )  # fmt: skip
    for name, value in measured.task.items():
        group, _, metric = name.rpartition(": ")  # of a baseline: "edit distance: recall"
        rows.append(
            MetricRow(
                metric=metric,
                group=group,
                generated=mean_interval([value]),
                better=better(name),
                meaning="metric of the task",
            )
        )
    return rows


def better(name: str) -> Better:
    """Which values of a task metric are better, by the end of its name."""
    known: list[Better] = [way for end, way in TASK.items() if name.endswith(end)]
    return known[0] if known else "higher"


TASK: dict[str, Better] = {
    "length ratio": "near 1", "copied words": "", "copied word pairs": "", "standard error": "lower", "majority": "",
    "clean words changed": "lower", "clean words changed, clean text": "lower",
}  # fmt: skip
VARIETY = {
    "entropy": "of the characters within a text, nats: low if it repeats itself",
    "distinct_1": "fraction of words that are distinct, at equal counts",
    "distinct_2": "fraction of word pairs that are distinct",
    "novelty": "fraction of word 4-grams that are not in the training text",
    "longest": "words of the longest verbatim run from the training text",
    "divergence": "of letter 3-grams from validation text, nats",
    "judge": "bits per character under the autoregressive run; repetition lowers it, so read it with the rows above",
}
assert set(VARIETY) == set(Variety.__dataclass_fields__)


def sections(measured: MeasuredText, rows: list[MetricRow], source: Source) -> list[Section]:
    """Sections of the report."""
    result: list[Section] = [
        Quotes(heading="Written", quotes=measured.quotes, note="Not selected: the first of their seeds."),
        Metrics(heading="Measured", rows=rows, source=source),
    ]
    if measured.calibration is None:
        return result
    calibration = measured.calibration
    kept = [i for i, w in enumerate(calibration.weight) if w > 0]
    return [
        *result,
        Curves(
            heading="Accuracy by the fraction masked",
            lines=[Line(label="likeliest token", x=calibration.shares, y=calibration.accuracy)], x_label="fraction masked",
            y_label="accuracy", caption="Of the likeliest token at masked positions, validation text.",
        ),
        Curves(
            heading="Calibration",
            lines=[
                Line(label="run", x=[calibration.confidence[i] for i in kept], y=[calibration.right[i] for i in kept]),
                Line(label="calibrated", x=[0.0, 1.0], y=[0.0, 1.0]),
            ],
            x_label="confidence", y_label="accuracy", caption="All fractions masked together, in ten bins.",
        ),
    ]  # fmt: skip
