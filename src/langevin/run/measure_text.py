"""A run of text measured: what held-out text costs it, how sure it is and how rightly, what it writes, its task's score."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.process import Masked
from langevin.modalities.text.baselines.summary import lead
from langevin.modalities.text.data import Texts
from langevin.modalities.text.layout import Corpus, Mend
from langevin.modalities.text.metrics.rouge import Rouge, copy_rate, rouge
from langevin.modalities.text.metrics.spelling import SpellingScore, spelling_score
from langevin.modalities.text.metrics.variety import distinct, gram_divergence, unigram_entropy
from langevin.modalities.text.metrics.verbatim import Verbatim
from langevin.modalities.text.rows import Examples, Mends, Row, RowReader, Stretches
from langevin.modalities.text.speller import Speller
from langevin.recipe.build import Built
from langevin.recipe.tree import Sampling
from langevin.run.answer import answer, ask_number
from langevin.run.mend import mend
from langevin.run.nats import Cost, Sureness, cost, spread, sureness
from langevin.run.write import codec_of, fill, token_network, vocabulary

Progress = Callable[[int, int], None]
GRAM = 4  # words of a run that is looked for in the training text


@dataclass(frozen=True, kw_only=True)
class Variety:
    """How varied some texts are: entropy of the symbols of one (nats), distinct words and word pairs, share of word
    4-grams that are not in the training text, longest run of words that is, and divergence of letter 3-grams from
    held-out text; `judge` is bits a character under an autoregressive run, None without one."""

    entropy: float
    distinct_1: float
    distinct_2: float | None
    novelty: float | None
    longest: int
    divergence: float
    judge: float | None = None


@dataclass(frozen=True, kw_only=True)
class MeasuredText:
    """Everything `evaluate` found of a run of text.

    Args:
        costs: by what was asked: the run's own, left to right, the baseline's.
        task: figures of the task by name, and those of doing without a model.
        quotes: (what was given, what was written).
    """

    costs: dict[str, Cost]
    sureness: Sureness | None
    generated: Variety | None
    real: Variety | None
    task: dict[str, float]
    quotes: list[tuple[str, str]]
    calls: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How much is measured: rows for the bound and for the chain rule, texts written, stratified draws a row."""

    rows: int = 1000
    ordered_rows: int = 64
    texts: int = 64
    draws: int = 4
    batch: int = 32


def measure_text(
    built: Built, read: RowReader, sampling: Sampling, train: Texts, held_out: Texts, *, asked: Asked,
    baseline: tuple[Built, RowReader] | None = None, progress: Callable[[str], Progress],
) -> MeasuredText:  # fmt: skip
    """Measure on the held-out rows that `read` gives."""
    items, few = spread(len(read.part), asked.rows), spread(len(read.part), asked.ordered_rows)
    masked, causal = isinstance(built.process, Masked), built.recipe.process.kind == "causal"
    costs = {"own": cost(built, read, items, draws=asked.draws, batch=asked.batch, progress=progress("bits"))}
    blocks = token_network(built).config.attention == "block"
    if masked and not causal and not blocks and not isinstance(read.part, Mends):
        costs["own, fewer rows"] = cost(built, read, few, draws=asked.draws, batch=asked.batch)
        costs["left to right"] = cost(
            built, read, few, estimator="left to right", batch=asked.batch, progress=progress("left to right")
        )
    if baseline is not None:
        costs["autoregressive"] = cost(*baseline, items, batch=asked.batch, progress=progress("baseline"))
    sure = (
        sureness(built, read, spread(len(read.part), 200), asked.batch)
        if masked and not causal and not blocks
        else None
    )
    if isinstance(built.recipe.layout, Corpus):
        written, calls = write_rows(built, sampling, read.part, asked.texts, asked.batch, progress("writing"))
        judge = None if baseline is None else lambda texts: judged(*baseline, texts)
        part = read.part
        assert isinstance(part, Stretches)
        real = [codec_of(built).decode(x) for x, _ in part.rows(spread(len(part), asked.texts), None)]
        codec = codec_of(built)
        known = " ".join(train.strings())
        known = known if codec.lossless else codec.decode(codec.encode(known))  # as what is written is read
        memory = Verbatim.fit(known.split(), depth=64)
        varied = [variety(texts, real, memory, judge) for texts in (written, real)]
        quotes = [("", text) for text in written[:8]]
        return MeasuredText(
            costs=costs, sureness=sure, generated=varied[0], real=varied[1], task={}, quotes=quotes, calls=calls
        )
    task, quotes, calls = task_of(built, read, sampling, train, held_out, asked, progress)
    return MeasuredText(costs=costs, sureness=sure, generated=None, real=None, task=task, quotes=quotes, calls=calls)


def write_rows(
    built: Built, sampling: Sampling, part: Any, count: int, batch: int, progress: Progress | None = None
) -> tuple[list[str], int]:
    """`count` free texts of a row's length, named 1,000,000 and on, and the calls of one."""
    words, texts, calls = vocabulary(built), list[str](), 0
    for rows in torch.arange(count).split(batch):
        x, made = fill(built, sampling, torch.full((len(rows), part.length), words.mask), seeds=1_000_000 + rows)
        texts += [codec_of(built).decode(row[row < words.codec].cpu()) for row in x]
        calls = max(calls, made)
        if progress:
            progress(len(texts), count)
    return texts, calls


def judged(built: Built, read: RowReader, texts: Sequence[str]) -> float:
    """Bits a character of texts under an autoregressive run."""
    rows = [codec_of(built).encode(text) for text in texts if text]
    part = Written(texts=rows, length=read.part.length)
    return cost(built, replace(read, part=part), torch.arange(len(rows))).bits_per_character or 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Written:
    """Texts as rows, all of each asked for."""

    texts: Sequence[Tensor]
    length: int

    def __len__(self) -> int:
        return len(self.texts)

    def rows(self, items: Tensor, noise: Any = None) -> list[Row]:
        return [(self.texts[i].long(), torch.ones(len(self.texts[i]), dtype=torch.bool)) for i in items.tolist()]


def variety(
    texts: Sequence[str], real: Sequence[str], memory: Verbatim, judge: Callable[[Sequence[str]], float] | None
) -> Variety:
    """Of texts of one length; distinct-n of equal numbers of words."""
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


def task_of(
    built: Built,
    read: RowReader,
    sampling: Sampling,
    train: Texts,
    held_out: Texts,
    asked: Asked,
    progress: Callable[[str], Progress],
) -> tuple[dict[str, float], list[tuple[str, str]], int]:
    """Accuracy of labels, ROUGE of summaries and replies; beside the majority, and the text's first sentence."""
    part = read.part
    if isinstance(part, Mends):
        return repairs(built, sampling, part, train, asked, progress("repairing"))
    assert isinstance(part, Examples)
    classes = built.recipe.classes
    if classes:
        return labels(built, part)
    wanted_of = references(part, together=held_out.form == "summary")
    firsts = list(wanted_of)
    items = torch.tensor([firsts[i] for i in spread(len(firsts), asked.texts).tolist()])
    sources = [part.sources[i] for i in items.tolist()]
    written, calls = answer(built, sampling, sources, seeds=items, batch=asked.batch, progress=progress("writing"))
    given, wanted = [part.texts[i][0] for i in items.tolist()], [wanted_of[i] for i in items.tolist()]
    found: dict[str, float] = {**_named("", rouge(written, wanted))}
    found["copied words"] = copy_rate(written, given)
    found["copied word pairs"] = copy_rate(written, given, 2) if any(len(text.split()) > 1 for text in written) else 0.0
    found["distinct texts"] = len(set(written)) / len(written)
    if held_out.form == "summary":
        found |= _named("first sentence: ", rouge([lead(text) for text in given], wanted))
    quotes = [
        (source, f"{text}   (wanted: {w[0]})") for source, text, w in zip(given[:8], written[:8], wanted, strict=False)
    ]
    return found, quotes, calls


def repairs(
    built: Built, sampling: Sampling, part: Mends, train: Texts, asked: Asked, progress: Progress
) -> tuple[dict[str, float], list[tuple[str, str]], int]:
    """Words of faulty held-out text found and restored, and clean ones changed; beside a corrector by edit distance."""
    layout = built.recipe.layout
    assert isinstance(layout, Mend)
    pairs = [part.pair(i, i) for i in spread(len(part), 4 * asked.texts).tolist()]
    faulty, right = [one for one, _ in pairs], [one for _, one in pairs]
    how = {"reluctance": layout.reluctance, "batch": asked.batch}
    mended = mend(built, sampling, faulty, progress=progress, **how)
    untouched = mend(built, sampling, right, **how)
    speller = Speller.from_text(" ".join(train.strings()), least=2)
    nearest = [[speller.correct(text) for text in texts] for texts in (faulty, right)]
    found: dict[str, float] = {}
    for name, made, same in (("", mended, untouched), ("edit distance: ", *nearest)):
        score = _spelling(faulty, made, right)
        found |= {f"{name}precision": score.precision, f"{name}recall": score.recall, f"{name}F1": score.f1}
        found[f"{name}restored"] = score.accuracy or 0.0
        found[f"{name}clean words changed"] = score.alarm_rate or 0.0
        found[f"{name}clean words changed, clean text"] = _spelling(right, same, right).alarm_rate or 0.0
    quotes = [(one, two) for one, two, three in zip(faulty, mended, right, strict=True) if one != three][:8]
    return found, quotes, sampling.steps


def _spelling(source: Sequence[str], made: Sequence[str], wanted: Sequence[str]) -> SpellingScore:
    return spelling_score(*([text.split() for text in texts] for texts in (source, made, wanted)))


def labels(built: Built, part: Examples) -> tuple[dict[str, float], list[tuple[str, str]], int]:
    """Accuracy of the likeliest label, its standard error, and the share of the commonest one."""
    words, classes = vocabulary(built), built.recipe.classes
    right, quotes = 0, list[tuple[str, str]]()
    truth = torch.tensor([int(target) - words.number(0) for target in part.targets])
    for rows in torch.arange(len(part)).split(64):
        heads = [torch.cat([part.sources[i].long(), torch.tensor([words.separator])]) for i in rows.tolist()]
        best = ask_number(built, heads, len(classes)).argmax(-1).cpu()
        right += int((best == truth[rows]).sum())
        if len(quotes) < 8:
            texts = [codec_of(built).decode(head[head < words.codec]) for head in heads[:8]]
            quotes += [(text, classes[int(b)]) for text, b in zip(texts, best[:8], strict=False)]  # type: ignore[misc]
    share = right / len(part)
    return {
        "accuracy": share,
        "standard error": (share * (1 - share) / len(part)) ** 0.5,
        "majority": float(torch.bincount(truth).max()) / len(part),
    }, quotes, 1  # fmt: skip


def references(part: Examples, *, together: bool) -> dict[int, list[str]]:
    """Whole targets by example; with `together` the first example of a source has those of all its examples."""
    found: dict[int, list[str]] = {}
    first: dict[str, int] = {}
    for i, (source, target) in enumerate(part.texts):
        found.setdefault(first.setdefault(source, i) if together else i, []).append(target)
    return found


def _named(before: str, found: Rouge) -> dict[str, float]:
    return {
        f"{before}ROUGE-1": found.rouge1, f"{before}ROUGE-2": found.rouge2, f"{before}ROUGE-L": found.rougeL,
        f"{before}length ratio": found.length_ratio,
    }  # fmt: skip
