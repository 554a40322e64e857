"""Measuring what a run shows of a concept, and of the rest: samples by seed, and losses of held-out examples."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.concept import AnyConcept, ClassConcept, WordConcept
from langevin.diffusion.condition import Condition, class_labels
from langevin.diffusion.noise import mix
from langevin.evaluation.frechet import Moments, frechet_distance
from langevin.modalities.modality import Draw, Plan, Samples
from langevin.run.forget import Divided, Measured, Shares, words_near
from langevin.run.generate import RunModel
from langevin.run.judge import Judge

HELD_OUT = 512  # examples whose loss is measured, at most
COMPONENTS = 32  # principal ones of the rest, in which the distance is measured
FITTED = 512  # examples that they are fitted to
REAL = 4000  # that samples are compared with
UNKNOWN = 1  # token of a word outside of the vocabulary


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """What is drawn and measured before and after.

    Args:
        count: samples of the concept and of each further request, per seed; twice as many of the rest.
        seeds: number of independent sets of samples.
    """

    train: Divided
    val: Divided
    concept: AnyConcept
    judge: Judge
    count: int
    seeds: int
    seed: int = 0
    progress: Callable[[int, int], None] = field(default=lambda done, total: None)

    def measured(self, model: RunModel) -> Measured:
        """Measure a model with its current weights."""
        wanted = self.requests(model)
        shown = {name: list[int]() for name in wanted}
        agreed, distances, space = list[int](), list[float](), self.space()
        for i in range(self.seeds):
            for j, (name, condition) in enumerate(wanted.items()):
                count = condition.count
                assert count, "requests have conditions"
                names = mix(torch.full((count,), self.seed), 1_000_000 * (i + 1) + 100_000 * j + torch.arange(count))
                x = drawn(model, condition, self.shape, names)
                read = self.judge.reads(x, condition)
                shown[name].append(int((read == self.judge.concept).sum()))
                if name == "the rest":
                    agreed.append(int((read == labels_of(condition)).sum()) if self.by_class else 0)
                    distances += [] if space is None else [space(x)]
                self.progress(i * len(wanted) + j + 1, self.seeds * len(wanted))
        shares = {name: Shares(counts=tuple(found), n=wanted[name].count or 1) for name, found in shown.items()}
        own = shares.pop("the concept")
        return Measured(
            shown=own, back=shares, distances=tuple(distances), concept_losses=losses(model, self.val, of_concept=True),
            agreement=Shares(counts=tuple(agreed), n=2 * self.count) if self.by_class else None,
            rest_losses=losses(model, self.val, of_concept=False),
        )  # fmt: skip

    @property
    def by_class(self) -> bool:
        return isinstance(self.concept, ClassConcept)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.train.batches.shape)

    def requests(self, model: RunModel) -> Mapping[str, Condition]:
        """What is asked for: the concept, the rest, nothing, and what may bring the concept back."""
        own = self.conditions(self.count, of_concept=True)
        wanted = {
            "the concept": own, "the rest": self.conditions(2 * self.count, of_concept=False),
            "without a condition": own.dropped(),
        }  # fmt: skip
        if isinstance(self.concept, WordConcept):
            misspelt = WordConcept(words=self.concept.words, instead=(UNKNOWN,) * len(self.concept.words))
            wanted["the word misspelt"] = misspelt.anchored(own)
            near = words_near(model.modality, self.concept)
            if near is not None:
                known: Any = model.modality.captions
                other = WordConcept(words=self.concept.words, instead=(known.words.index(near) + 2,))
                wanted[f"the word '{near}'"] = other.anchored(own)
        return wanted

    def conditions(self, count: int, *, of_concept: bool) -> Condition:
        """So many conditions of training examples, in turn."""
        items = self.train.items(of_concept=of_concept, most=count)
        return self.train.condition.select(items[torch.arange(count) % len(items)]).unguided()

    def space(self) -> Callable[[Tensor], float] | None:
        """The Fréchet distance of samples from the rest of the training examples, in principal components; None where
        examples differ in shape."""
        if self.train.condition.data_mask is not None:
            return None
        items = self.train.items(of_concept=False, most=REAL)
        real = torch.cat([self.train.batches(at).x.flatten(1).float().cpu() for at in items.split(256)])
        fitted = real[
            : len(real) // max(1, len(real) // FITTED) * max(1, len(real) // FITTED) : max(1, len(real) // FITTED)
        ]
        mean = fitted.mean(0)
        axes = torch.linalg.svd(fitted - mean, full_matrices=False).Vh[:COMPONENTS].T
        moments = Moments.of((real - mean) @ axes)
        return lambda x: frechet_distance(moments, Moments.of((x.flatten(1).float() - mean) @ axes))


def labels_of(condition: Condition) -> Tensor:
    """The classes that are asked for, (b,) int64; -1 where none is."""
    port = condition.global_
    assert port is not None, "the run is conditioned on classes"
    return class_labels(port)


def drawn(model: RunModel, condition: Condition, shape: tuple[int, ...], seeds: Tensor) -> Tensor:
    """Encoded samples (n, *shape) under conditions of n samples."""

    def plan() -> Plan:
        x = yield Draw(shape=shape, seeds=seeds, sampling=model.sampling, condition=condition)
        return Samples(modality=model.modality, values=x)

    x: Tensor = model.run(plan()).values
    return x


def losses(model: RunModel, part: Divided, *, of_concept: bool) -> Tensor:
    """The mean loss over noise levels of held-out examples under their own conditions, (n,) float64."""
    items = part.items(of_concept=of_concept, most=HELD_OUT)
    found = [model.parts.losses(part.batches(at), at).mean(0) for at in items.split(64)]
    return torch.cat(found).double().cpu()
