"""What drawn samples show of a concept: the class that a judge reads, or whether their nearest example has the words."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, assert_never

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch
from langevin.diffusion.concept import AnyConcept, ClassConcept, WordConcept
from langevin.diffusion.condition import Condition
from langevin.modalities.classification.denoising import judged
from langevin.modalities.classification.items import Items, classes_of
from langevin.modalities.modality import Measuring, Plan, Samples, spread
from langevin.run.generate import RunModel

NOISES = 16  # of a judgement by denoising, at most
REAL = 4000  # examples among which the nearest is searched
Reads = Callable[[Tensor, Condition], Tensor]  # encoded samples (n, ...) and their conditions -> what they show, (n,)


@dataclass(frozen=True, kw_only=True, eq=False)
class Judge:
    """A reader of encoded samples.

    Args:
        name: how it reads.
        reads: -> (n,) int64: the class, or 1 for the words and 0 without them.
        concept: what it reads of the concept.
    """

    name: str
    reads: Reads
    concept: int


def judge_of(measuring: Measuring, base: RunModel, concept: AnyConcept) -> Judge:
    """The judge of a concept: the classifier of the modality or else the base's denoising errors for a class, and the
    nearest real example for words.

    Raises:
        ValueError: the run has fewer than two classes, so nothing is told apart."""
    match concept:
        case ClassConcept():
            reads = read_by_modality(measuring) or _by_denoising(base)
            name = "the classifier" if reads.__name__ == "by_modality" else "denoising errors of the run before"
            return Judge(name=name, reads=reads, concept=concept.label)
        case WordConcept():
            return Judge(name="the nearest real example", reads=_by_nearest(measuring, concept), concept=1)
        case _:
            assert_never(concept)


def read_by_modality(measuring: Measuring) -> Reads | None:
    """Reads classes by the classifier of the modality; None if it has none."""
    modality: Any = measuring.model.modality
    if not hasattr(modality, "reader"):
        return None
    try:
        reader = modality.reader(measuring, "class")
    except ValueError:  # it reads no classes
        return None
    classes = list(classes_of(modality))

    def by_modality(x: Tensor, condition: Condition) -> Tensor:
        return torch.tensor([classes.index(name) for name in reader(list(modality.decode(x)))])

    return by_modality


def _by_denoising(base: RunModel) -> Reads:
    classes = classes_of(base.modality)

    def by_denoising(x: Tensor, condition: Condition) -> Tensor:
        def batches(items: Tensor) -> Batch:
            return Batch(x=x[items], condition=condition.to(x.device).select(items))

        items = Items(
            classes=classes, batches=batches, names=("",) * len(x), labels=torch.full((len(x),), -1)  # type: ignore[arg-type]
        )  # fmt: skip
        plan = judged(base, items, noises=NOISES, seed=0, progress=lambda done, total: None)
        found = list[Any]()
        base.run(_kept(plan, found, base))
        return found[0].differences()[0].argmin(1)

    return by_denoising


def _kept(plan: Any, found: list[Any], base: RunModel) -> Plan:
    """A plan whose result is kept, as that of one that draws nothing."""
    found.append((yield from plan))
    return Samples(modality=base.modality, values=[])


def _by_nearest(measuring: Measuring, concept: WordConcept) -> Reads:
    gallery, has = list[Tensor](), list[Tensor]()
    for part in (measuring.train, measuring.val):
        batches = measuring.model.batches(part)
        for items in spread(len(batches), REAL).split(256):
            batch = batches(items)
            assert batch.condition is not None, "the run has captions"
            gallery.append(batch.x.flatten(1).float().cpu())
            has.append(concept.holds(batch.condition).long().cpu())
    real, words = torch.cat(gallery), torch.cat(has)

    def by_nearest(x: Tensor, condition: Condition) -> Tensor:
        return words[torch.cdist(x.flatten(1).float().cpu(), real).argmin(1)]

    return by_nearest
