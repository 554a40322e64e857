"""Evaluation of joint runs: whether the parts of a sample say the same, drawn together and each from another."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from langevin.evaluation.report import Curves, Line, MetricRow, Metrics, Picture, Pictures, Section, Source
from langevin.evaluation.statistics import mean_interval
from langevin.methods.models import LOG_SNR
from langevin.modalities.captions import split_words
from langevin.modalities.joint import plans
from langevin.modalities.joint.batches import CAPTION
from langevin.modalities.joint.data import Matched
from langevin.modalities.joint.options import Evaluate
from langevin.modalities.modality import Evaluation, Measuring, Progress, RequestContext, Samples, Scorer, spread

if TYPE_CHECKING:
    from langevin.modalities.joint.modality import Joint

SHOWN = 6  # samples in the report
LOSSES = 128  # examples of each part of the data whose denoising loss is measured
Says = Callable[[Sequence[Any]], list[str]]  # what the samples of one part say


def evaluate(joint: "Joint", options: Evaluate, m: Measuring) -> Evaluation:
    """How often the parts of a sample agree, each way; each part alone is measured by a run of its own modality.

    Raises:
        ValueError: too little data, or a part whose content is not read."""
    if len(m.train) < 8 or len(m.val) < 2:
        raise ValueError(
            f"evaluate needs 8 training and 2 validation examples, and there are {len(m.train)} and {len(m.val)}"
        )
    count = m.count or min(max(len(m.val), 16), 200)
    says = readers(joint, m)
    x = examples(joint, m.train if options.training else m.val, m, count)
    real = joint.decode({name: part.cpu() for name, part in x.items()})
    rows, words, first = list[MetricRow](), list[MetricRow](), list[Samples]()
    progress, total = m.progress("sampling"), len(ways(joint)) * m.seeds * count
    for i, given in enumerate(ways(joint)):
        known = {name: x[name] for name in given}
        drawn = list[Samples]()
        for seed in range(m.seeds):
            before = (i * m.seeds + seed) * count
            drawn.append(draw(joint, known, count, m, seed, lambda done, _, b=before: progress(b + done, total)))
        first.append(drawn[0])
        rows.append(agreement_row(given, drawn, real, says))
        if joint.caption and given and CAPTION not in given:
            words.append(caption_row(given, drawn, real, says))
    losses = {name: _losses(m, part).mean(1).tolist() for name, part in (("training", m.train), ("validation", m.val))}
    source = Source(samples={"samples of each way": count}, seeds=list(range(m.seeds)), command=m.command)
    sections: list[Section] = [
        *(
            Pictures(heading=f"Drawn {row.metric.partition('drawn ')[2]}", pictures=shown(samples.first(SHOWN)))
            for row, samples in zip(rows, first, strict=True)
        ),
        Metrics(heading="Measured", rows=[*rows, *words], source=source),
        Curves(
            heading="Loss by noise level, of all parts at one level",
            lines=[Line(label=name, x=LOG_SNR.tolist(), y=values) for name, values in losses.items()],
            x_label="log-SNR", y_label="sum over the parts", caption="Both parts of the data with the same noise.",
        ),
    ]  # fmt: skip
    return Evaluation(
        rows=[*rows, *words], samples=first[0], sections=sections, title=f"{count} samples x {m.seeds} seeds of each way",
        figures={
            "count": count, "seeds": m.seeds, "losses": losses,
            "agreement": {row.metric: {"generated": row.generated.estimate, "real": row.floor} for row in rows},
            "word_f1": {row.metric: {"generated": row.generated.estimate, "judge": row.copycat} for row in words},
        },
    )  # fmt: skip


def draw(
    joint: "Joint", known: dict[str, Tensor], count: int, m: Measuring, seed: int, progress: Progress | None = None
) -> Samples:
    """Samples given the known parts, (count, ...) each."""
    context = RequestContext(model=m.model, data=lambda: (m.train, m.val), count=count, seed=1_000_000 * (seed + 1))
    return m.model.run(plans.drawn(joint, known, count, context), batch=min(m.batch, 64), progress=progress)


def way(given: tuple[str, ...]) -> str:
    """A way to draw, in words."""
    return "from " + " and ".join(given) if given else "together"


def agreement_row(
    given: tuple[str, ...], drawn: Sequence[Samples], real: Sequence[Mapping[str, Any]], says: Mapping[str, Says]
) -> MetricRow:
    """How often the parts of samples agree, of each seed."""
    shares = [agreement(samples.values, says) for samples in drawn]
    return MetricRow(
        metric=f"agree, drawn {way(given)}", generated=mean_interval(shares), values=tuple(shares),
        floor=agreement(real, says), copycat=agreement(shuffled(real), says), better="higher",
        meaning="mean share of pairs of parts that say the same; copycat is real parts of different examples",
    )  # fmt: skip


def caption_row(
    given: tuple[str, ...], drawn: Sequence[Samples], real: Sequence[Mapping[str, Any]], says: Mapping[str, Says]
) -> MetricRow:
    """How well drawn captions match those of the parts that they are drawn from, of each seed."""
    captions = [value[CAPTION] for value in real]
    scores = [word_f1([value[CAPTION] for value in samples.values], captions) for samples in drawn]
    judged = word_f1(says[given[0]]([value[given[0]] for value in real]), captions)
    return MetricRow(
        metric=f"caption {way(given)}", generated=mean_interval(scores), values=tuple(scores), floor=1.0, copycat=judged,
        better="higher",
        meaning="F1 of the words of drawn captions and real ones; copycat is what the judge of the part says",
    )  # fmt: skip


def ways(joint: "Joint") -> list[tuple[str, ...]]:
    """Which parts are given: none, and each alone."""
    return [(), *((name,) for name in joint.names)]


def shown(samples: Samples) -> list[Picture]:
    """The samples, if their parts can be seen."""
    found = samples.preview()
    return [Picture(image=found.content, caption="; ".join(samples.names))] if found.suffix == ".webp" else []


def readers(joint: "Joint", m: Measuring) -> dict[str, Says]:
    """What each part of decoded samples says, by judges trained on the real data of that part.

    Raises:
        ValueError: a part that no judge reads."""
    found = dict[str, Says]()
    for name, modality in joint.parts.items():
        part: Any = modality
        if not hasattr(part, "reader"):
            raise ValueError(f"data.parts.{name}: no judge reads what {part.kind} says, so agreement is not measured")
        own = replace(m, train=m.train.parts[name], val=m.val.parts[name], folder=m.folder / name)
        own.folder.mkdir(parents=True, exist_ok=True)
        found[name] = part.reader(own, joint.match.get(name, "text"))
    if joint.caption:
        found[CAPTION] = list
    return found


def agreement(values: Sequence[Mapping[str, Any]], says: Mapping[str, Says]) -> float:
    """The mean share of pairs of parts of which the words of one are among those of the other, which may say more."""
    read = {name: [set(split_words(text)) for text in own([v[name] for v in values])] for name, own in says.items()}
    pairs = [(a, b) for a, b in permutations(read, 2) if a < b]
    shares = [
        sum(bool(p) and bool(q) and (p <= q or q <= p) for p, q in zip(read[a], read[b], strict=True)) / len(values)
        for a, b in pairs
    ]
    return sum(shares) / max(1, len(shares))


def word_f1(drawn: Sequence[str], real: Sequence[str]) -> float:
    """The mean F1 of the words of drawn captions and of real ones, as multisets."""
    scores = list[float]()
    for a, b in zip(drawn, real, strict=True):
        p, q = Counter(split_words(a)), Counter(split_words(b))
        both = (p & q).total()
        scores.append(2 * both / max(1, p.total() + q.total()))
    return sum(scores) / max(1, len(scores))


def shuffled(values: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every part from another example."""
    names, n = list(values[0]), len(values)
    return [
        {name: values[(i + k * max(1, n // len(names))) % n][name] for k, name in enumerate(names)} for i in range(n)
    ]


def examples(joint: "Joint", data: Matched, m: Measuring, count: int) -> dict[str, Tensor]:
    """So many examples of a part of the data, encoded, (count, ...) each."""
    items = torch.arange(count) * len(data) // count % len(data)
    x = m.model.batches(data)(items).x
    return {name: part.cpu() for name, part in x.items()}


def _losses(m: Measuring, part: Matched) -> Tensor:
    batches, items = m.model.batches(part), spread(len(part), LOSSES)
    return torch.cat([m.model.parts.losses(batches(i), i) for i in items.split(32)], 1).cpu()


def scorer(joint: "Joint", m: Measuring) -> Scorer:
    """One minus the agreement of the parts of samples, with that of real examples as its floor."""
    m.require_training("judges of the parts")
    says = readers(joint, m)
    real = joint.decode(examples(joint, m.val, m, min(m.count or 64, len(m.val))))
    return Scorer(
        name="1 - agreement",
        floor=1 - agreement(real, says),
        score=lambda samples: 1 - agreement(list(samples.values), says),
    )
