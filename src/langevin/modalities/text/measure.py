"""Evaluation of a text run: bits of validation text, calibration, variety of its samples, and the metrics of its task."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch
from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.process import Masked
from langevin.methods.models import TokenModel
from langevin.modalities.modality import Measuring, RequestContext, Samples, spread
from langevin.modalities.text.baselines.summary import lead
from langevin.modalities.text.batches import (
    AnyExamples,
    CorpusWindows,
    PairExamples,
    TextBatches,
    batch_of,
)
from langevin.modalities.text.data import Texts
from langevin.modalities.text.infill import Writer
from langevin.modalities.text.metrics.rouge import Rouge, copy_rate, rouge
from langevin.modalities.text.metrics.variety import distinct, gram_divergence, unigram_entropy
from langevin.modalities.text.metrics.verbatim import Verbatim
from langevin.modalities.text.nats import Calibration, Cost, calibration, cost
from langevin.modalities.text.open_text import free_texts
from langevin.modalities.text.ranking import SentenceRanker, pairs_of
from langevin.modalities.text.target import generate_targets, label_shares
from langevin.modalities.text.task import NUMBERS, LanguageModel, Seq2Seq
from langevin.modalities.text.writer import writer_of

if TYPE_CHECKING:
    from langevin.modalities.text.modality import Text

WRITING_SEED = 1_000_000  # of the first text that is written
GRAM = 4  # words of the n-grams whose novelty is measured
EXAMPLES, ORDERED_EXAMPLES, TEXTS, CALIBRATION_EXAMPLES, DRAWS, BATCH = 1000, 64, 64, 200, 4, 32


@dataclass(frozen=True, kw_only=True)
class Variety:
    """Variety of texts: entropy of the characters within a text (nats), distinct-1 and distinct-2, fraction of word 4-grams
    that are not in the training text, longest verbatim run of words, and divergence of letter 3-grams from validation
    text; `judge` is bits per character under an autoregressive run, None without one."""

    entropy: float
    distinct_1: float
    distinct_2: float | None
    novelty: float | None
    longest: int
    divergence: float
    judge: float | None = None


@dataclass(frozen=True, kw_only=True)
class MeasuredText:
    """All results of `evaluate` for a text run.

    Args:
        costs: by estimator: the run's own, left to right, the baseline's.
        task: metrics of the task by name, and those of a rule without a model.
        quotes: (input, output) pairs.
    """

    costs: dict[str, Cost]
    calibration: Calibration | None
    generated: Variety | None
    real: Variety | None
    task: dict[str, float]
    quotes: list[tuple[str, str]]
    nfe: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


Baseline = tuple["Text", TokenModel, TextBatches]


def measure_text(
    text: "Text", m: Measuring, baseline: Baseline | None, *, examples: int = EXAMPLES, ordered: int = ORDERED_EXAMPLES
) -> MeasuredText:
    """Measure on `examples` validation examples by the bound, and on `ordered` of them from left to right.

    Args:
        baseline: an autoregressive run, measured on the same examples.
    """
    model, read, part = text.tokens_of(m.model), m.model.batches(m.val), text.examples(m.val)
    batch, codec = min(m.batch, BATCH), text.codec
    items, fewer = spread(len(read), examples), spread(len(read), ordered)
    full = isinstance(model.process, Masked) and not model.autoregressive and model.attention != "block"
    costs = {"own": cost(model, codec, read, items, draws=DRAWS, batch=batch, progress=m.progress("bits"))}
    if full:
        costs["own, fewer examples"] = cost(model, codec, read, fewer, draws=DRAWS, batch=batch)
        costs["left to right"] = cost(
            model, codec, read, fewer, estimator="left to right", batch=batch, progress=m.progress("left to right")
        )
    if baseline is not None:
        other, causal, batches = baseline
        costs["autoregressive"] = cost(
            causal, other.codec, batches, items, batch=batch, progress=m.progress("baseline")
        )
    calibrated = calibration(model, read, spread(len(read), CALIBRATION_EXAMPLES), batch) if full else None
    if isinstance(text.task, LanguageModel):
        assert isinstance(part, CorpusWindows)
        count = m.count or TEXTS
        context = context_of(m, batch, "writing", seed=WRITING_SEED)
        drawn = m.model.run(free_texts(text, text.task, context, count))
        judge = None if baseline is None else lambda texts: bits_under(baseline, texts)
        real = [codec.decode(x) for x, _ in part.examples(spread(len(part), count), None)]
        train = " ".join(m.train.strings())
        train = train if codec.lossless else codec.decode(codec.encode(train))  # normalised as samples are
        memory = Verbatim.fit(train.split(), depth=64)
        generated, own = (variety(texts, real, memory, judge) for texts in (drawn.values, real))
        quotes = [("", sample) for sample in drawn.values[:8]]
        return MeasuredText(
            costs=costs, calibration=calibrated, generated=generated, real=own, task={}, quotes=quotes, nfe=drawn.nfe
        )
    result = task_of(text, m, part, batch)
    return MeasuredText(
        costs=costs,
        calibration=calibrated,
        generated=None,
        real=None,
        task=result.figures,
        quotes=result.quotes,
        nfe=result.nfe,
    )


def context_of(m: Measuring, batch: int, what: str, *, seed: int = 0) -> RequestContext:
    """The context of a request by the evaluation itself."""
    return RequestContext(
        model=m.model, data=lambda: (m.train, m.val), seed=seed, batch=batch, progress=m.progress(what)
    )


def bits_under(baseline: Baseline, texts: Sequence[str]) -> float:
    """Bits per character of texts under an autoregressive run."""
    text, model, read = baseline
    ids = [text.codec.encode(sample) for sample in texts if sample]
    return cost(model, text.codec, Given(ids=ids, like=read), torch.arange(len(ids))).bits_per_character or 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Given:
    """Texts as examples of which every token is predicted, batched like `like`."""

    ids: Sequence[Tensor]
    like: TextBatches
    remarks: tuple[str, ...] = ()

    @property
    def dataset(self) -> Texts:
        return self.like.dataset

    @property
    def shape(self) -> tuple[int, ...]:
        return self.like.shape

    def __len__(self) -> int:
        return len(self.ids)

    def __call__(self, items: Tensor, noise: SampleNoise | None = None) -> Batch:
        examples = [(self.ids[i].long(), torch.ones(len(self.ids[i]), dtype=torch.bool)) for i in items.tolist()]
        return batch_of(examples, padding=self.like.padding, device=self.like.device)


def variety(
    texts: Sequence[str], real: Sequence[str], memory: Verbatim, judge: Callable[[Sequence[str]], float] | None
) -> Variety:
    """The `Variety` of texts of equal length, with distinct-n over equal numbers of words."""
    split = [text.split() for text in texts if text.split()]
    count = min(sum(map(len, split)), sum(len(text.split()) for text in real))
    longest = max(map(len, split), default=0)
    return Variety(
        entropy=unigram_entropy([text for text in texts if text]),
        distinct_1=distinct(split, 1, tokens=count) if count else 0.0,
        distinct_2=distinct(split, 2, tokens=count) if longest > 1 else None,
        novelty=memory.novelty(split, GRAM) if longest >= GRAM else None,
        longest=max((memory.longest_run(words) for words in split), default=0),
        divergence=gram_divergence(texts, real, orders=(3,)).values[0],
        judge=None if judge is None else judge(texts),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TaskFigures:
    """Metrics of a task by name, (input, output) pairs, and NFE per sample."""

    figures: dict[str, float]
    quotes: list[tuple[str, str]]
    nfe: int


def task_of(text: "Text", m: Measuring, part: AnyExamples, batch: int) -> TaskFigures:
    """Accuracy of labels, or ROUGE of summaries and replies; each with a rule without a model."""
    assert isinstance(part, PairExamples)
    if not isinstance(text.task, Seq2Seq):
        return label_figures(text, m, part)
    targets = references(part, together=m.val.form == "summary")
    indices = list(targets)
    items = torch.tensor([indices[i] for i in spread(len(indices), m.count or TEXTS).tolist()])
    drawn = m.model.run(answered(text, part, items, context_of(m, batch, "writing")))
    written: list[str] = drawn.values
    given, expected = [part.texts[i][0] for i in items.tolist()], [targets[i] for i in items.tolist()]
    figures: dict[str, float] = {**_named("", rouge(written, expected))}
    figures["copied words"] = copy_rate(written, given)
    pairs = any(len(sample.split()) > 1 for sample in written)
    figures["copied word pairs"] = copy_rate(written, given, 2) if pairs else 0.0
    figures["distinct texts"] = len(set(written)) / len(written)
    if m.val.form == "summary":
        figures |= _named("first sentence: ", rouge([lead(source) for source in given], expected))
        ranker = SentenceRanker.fit(pairs_of(m.train))
        figures |= _named("chosen sentence: ", rouge([ranker.choose(source) for source in given], expected))
    quotes = [(source, f"{sample}   (target: {t[0]})") for source, sample, t in zip(given[:8], written[:8], expected)]
    return TaskFigures(figures=figures, quotes=quotes, nfe=drawn.nfe)


def answered(text: "Text", part: PairExamples, items: Tensor, context: RequestContext) -> Any:
    """Plan: targets generated for examples `items` (n,), which are their seeds too."""
    assert isinstance(text.task, Seq2Seq)
    writer = writer_of(text, context, None, None, None)
    sources = [part.sources[i] for i in items.tolist()]
    outputs = yield from generate_targets(
        writer, text.task, sources, seeds=items, batch=context.batch, progress=context.progress
    )
    return Samples(modality=text, values=outputs, names=tuple(_decoded(text, ids) for ids in sources))


def classified(text: "Text", part: PairExamples, items: Tensor, context: RequestContext) -> Any:
    """Plan: the label probabilities of examples `items` (n,)."""
    writer = Writer(codec=text.codec, model=text.tokens_of(context.model), sampling=context.model.sampling)
    sources = [part.sources[i] for i in items.tolist()]
    probabilities = yield from label_shares(writer, sources, len(text.classes), context.progress)
    lines = [", ".join(f"{c} {p:.2f}" for c, p in zip(text.classes, q.tolist(), strict=True)) for q in probabilities]
    names = tuple(_decoded(text, ids) for ids in sources)
    return Samples(modality=text, values=lines, names=names, arrays={"shares": probabilities})


def _decoded(text: "Text", ids: Tensor) -> str:
    return text.codec.decode(ids[ids < text.codec.vocab_size])


def label_figures(text: "Text", m: Measuring, part: PairExamples) -> TaskFigures:
    """Accuracy of the likeliest label, its standard error, and the frequency of the most common label."""
    first = text.codec.vocab_size + NUMBERS
    truth = torch.tensor([int(target) - first for target in part.targets])
    drawn = m.model.run(classified(text, part, torch.arange(len(part)), context_of(m, BATCH, "classifying")))
    best = drawn.arrays["shares"].argmax(-1)
    accuracy = float((best == truth).double().mean())
    quotes = [(name, text.classes[int(label)]) for name, label in zip(drawn.names[:8], best[:8], strict=True)]
    figures = {
        "accuracy": accuracy,
        "standard error": (accuracy * (1 - accuracy) / len(part)) ** 0.5,
        "majority": float(torch.bincount(truth).max()) / len(part),
    }
    return TaskFigures(figures=figures, quotes=quotes, nfe=drawn.nfe)


def references(part: PairExamples, *, together: bool) -> dict[int, list[str]]:
    """Uncut targets by example index; with `together` all targets of a source are under its first example."""
    targets: dict[int, list[str]] = {}
    first: dict[str, int] = {}
    for i, (source, target) in enumerate(part.texts):
        targets.setdefault(first.setdefault(source, i) if together else i, []).append(target)
    return targets


def _named(before: str, score: Rouge) -> dict[str, float]:
    return {
        f"{before}ROUGE-1": score.rouge1, f"{before}ROUGE-2": score.rouge2, f"{before}ROUGE-L": score.rougeL,
        f"{before}length ratio": score.length_ratio,
    }  # fmt: skip
