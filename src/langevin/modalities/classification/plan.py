"""The plan of `langevin classify` for any run with classes."""

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.class_posterior import Evidence
from langevin.evaluation.statistics import share_interval
from langevin.modalities.classification.confidence import Confidence, margins
from langevin.modalities.classification.denoising import judged, require_posteriors
from langevin.modalities.classification.items import Items, classes_of, files_of, items_of
from langevin.modalities.classification.probe import MOST, Probe, features_of
from langevin.modalities.classification.request import ClassifyByDenoising
from langevin.modalities.classification.result import Classes, Classified
from langevin.modalities.modality import Plan, Request, RequestContext, Samples, spread


def classify_plan(options: ClassifyByDenoising, context: RequestContext) -> Plan:
    """The classes of files, or of the run's own data.

    Raises:
        ValueError: a run without classes, options that do not fit, or files that cannot be read."""
    options.require()
    classes_of(context.model.modality)
    if options.by == "denoising":
        require_posteriors(context.model)
    if options.files:
        asked = [(files_of(context, options.files), True)]
    else:
        train, val = context.data()
        asked = [(items_of(context.model, val), False)]
        if options.error is not None or options.label_next is not None:
            asked.insert(0, (items_of(context.model, train), True))
    return _classified(options, context, asked)


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """What is known of n examples: ln p(c | x) (n, classes), evaluations (n,) and disagreement (n,)."""

    log_posterior: Tensor
    evaluations: Tensor
    disagreement: Tensor

    @classmethod
    def of(cls, evidence: Evidence) -> "Found":
        return cls(
            log_posterior=evidence.log_posterior(),
            evaluations=evidence.evaluations,
            disagreement=evidence.disagreement(),
        )


Finding = Generator[Request, Any, Found]


@dataclass(frozen=True, kw_only=True, eq=False)
class Finder:
    """Finds the classes of examples, by denoising or, given one, by a probe."""

    options: ClassifyByDenoising
    context: RequestContext
    probe: Probe | None = None

    def of(self, items: Items, index: Tensor | None = None) -> Finding:
        """What is known of some items, all by default."""
        context, count = self.context, len(items) if index is None else len(index)
        if self.probe is None:
            evidence = yield from judged(
                context.model, items, noises=self.options.noises, seed=context.seed, progress=context.progress,
                index=index,
            )  # fmt: skip
            return Found.of(evidence)
        found = yield from features_of(context.model, items, seed=context.seed, progress=context.progress, index=index)
        chance = self.probe.network.log_posterior(found.network)
        return Found(
            log_posterior=chance,
            evaluations=torch.ones(count, dtype=torch.int64),
            disagreement=torch.zeros(count, dtype=torch.float64),
        )


def _classified(options: ClassifyByDenoising, context: RequestContext, asked: list[tuple[Items, bool]]) -> Plan:
    finder, confidence = Finder(options=options, context=context), None
    held_out = None if options.files and options.error is None and options.by == "denoising" else _held_out(context)
    if options.by == "probe":
        assert held_out is not None, "a probe is measured on it"
        finder = replace(finder, probe=(yield from _probe(context, held_out)))
    if options.error is not None:
        assert held_out is not None, "only then it is not needed"
        confidence = yield from _confidence(options.error, finder, held_out, context)
    rows, right, known = list[Classified](), 0, 0
    for items, new in asked:
        wanted = (items.labels < 0).nonzero()[:, 0] if options.label_next is not None else torch.arange(len(items))
        if not len(wanted) or (options.label_next is not None and not new):
            continue
        found = yield from finder.of(items, wanted)
        rows += _rows(items, wanted, found, confidence, new=new)
        if options.files or not new:  # what was trained on tells nothing
            labels = items.labels[wanted]
            right += int((found.log_posterior.argmax(1) == labels).sum())
            known += int((labels >= 0).sum())
    if options.label_next is not None:
        rows = sorted(rows, key=lambda row: -row.disagreement)[: options.label_next]
        if not rows:
            context.say("every example has a label, so there is nothing to label next")
    facts = _facts(finder, rows, right, known, context)
    return Samples(modality=Classes(facts=facts), values=rows, document=True)  # type: ignore[arg-type]


def _held_out(context: RequestContext) -> Items:
    """The run's held-out part."""
    return items_of(context.model, context.data()[1])


def _probe(context: RequestContext, held_out: Items) -> Generator[Request, Any, Probe]:
    """A probe fitted to the labelled training examples, which says how good it is."""
    train = items_of(context.model, context.data()[0])
    index = train.known[spread(len(train.known), MOST)]
    if not len(index):
        raise ValueError("a probe is fitted to labelled training examples, and this run has none")
    features = yield from features_of(
        context.model, train, seed=context.seed, progress=context.progress, index=index
    )  # fmt: skip
    probe = Probe.fit(features, train.labels[index], len(train.classes))
    known = held_out.known
    if not len(known):
        context.say("no held-out example is labelled, so the probe is not measured")
    else:
        seen = yield from features_of(
            context.model, held_out, seed=context.seed, progress=context.progress, index=known
        )  # fmt: skip
        for line in probe.lines(seen, held_out.labels[known], len(train.classes)):
            context.say(line)
    return probe


def _confidence(
    error: float, finder: Finder, held_out: Items, context: RequestContext
) -> Generator[Request, Any, Confidence]:
    """What is to be trusted, by the labelled held-out examples; for a probe also by those that it was fitted to, by probes
    that were fitted to others: activations are made without labels."""
    known, chances, labels = held_out.known, list[Tensor](), list[Tensor]()
    if len(known):
        chances.append((yield from finder.of(held_out, known)).log_posterior)
        labels.append(held_out.labels[known])
    if finder.probe is not None:
        chances.append(finder.probe.others)
        labels.append(finder.probe.labels)
    if not labels:
        raise ValueError(
            "--error is estimated on held-out examples that are labelled, and the run has none: label some of them, or "
            "leave --error out"
        )
    confidence = Confidence.fit(torch.cat(chances), torch.cat(labels), error)
    confidence.require(error)
    context.say(confidence.line(error))
    return confidence


def _rows(items: Items, index: Tensor, found: Found, confidence: Confidence | None, *, new: bool) -> list[Classified]:
    """The rows of some items.

    Args:
        new: whether they may be labelled by what is predicted. What a threshold was chosen by is not."""
    temperature = 1.0 if confidence is None else confidence.temperature
    chance, best = (found.log_posterior / temperature).softmax(1).max(1)
    margin = margins(found.log_posterior)
    keeps = torch.full_like(best, True, dtype=torch.bool) if confidence is None else margin >= confidence.threshold
    keeps &= new or confidence is None
    rows = list[Classified]()
    for i, item in enumerate(index.tolist()):
        given = items.classes[int(items.labels[item])] if items.labels[item] >= 0 else ""
        predicted = items.classes[int(best[i])]
        label = given or (predicted if bool(keeps[i]) else "")
        rows.append(
            Classified(
                file_name=items.names[item], label=label, predicted=predicted, probability=float(chance[i]), given=given,
                evaluations=int(found.evaluations[i]), disagreement=float(found.disagreement[i]),
            )
        )  # fmt: skip
    return rows


def _facts(finder: Finder, rows: list[Classified], right: int, known: int, context: RequestContext) -> dict[str, Any]:
    """Figures on all rows, which are said too."""
    facts: dict[str, Any] = {"by": finder.options.by, "count": len(rows)}
    if finder.options.by == "denoising" and rows:
        facts["evaluations"] = sum(row.evaluations for row in rows) / len(rows)
        context.say(f"{facts['evaluations']:.0f} predictions for each of {len(rows):,} examples")
    if known and finder.options.label_next is None:
        low, high = share_interval(right, known)
        facts |= {"accuracy": right / known, "accuracy_interval": [low, high], "labelled": known}
        context.say(f"accuracy {right / known:.3f} on {known:,} labelled examples (95 %: {low:.3f} to {high:.3f})")
    if finder.options.error is not None:
        added = sum(bool(row.label) and not row.given for row in rows)
        facts["added"] = added
        context.say(f"{added:,} of {sum(not row.given for row in rows):,} examples without a label got one")
    return facts
