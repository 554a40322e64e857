"""Forgetting a concept of a trained run: what it is, how it is trained away, and what proves that it is gone and no more.

The network is trained to predict under the concept what it predicted under an anchor (`methods.forgetting`). The result
is taken if samples that are asked for the concept show it less often, its held-out examples are denoised worse under it,
and the rest stayed: the Fréchet distance of samples of the rest, the class that they show, and the loss of their held-out
examples, each within the noise of the measurement. Of the loss, which is measured on equal noise and so very exactly, a
small share may be lost.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch, StepRandomness
from langevin.diffusion.concept import AnyConcept, ClassConcept, WordConcept
from langevin.diffusion.condition import Condition, join
from langevin.evaluation.statistics import Interval, mean_interval
from langevin.methods import Diffusion
from langevin.methods.forgetting import Forgetting, balanced
from langevin.methods.models import GaussianModel
from langevin.modalities.captions import CaptionVocabulary, split_words
from langevin.modalities.modality import Batches, spread
from langevin.modalities.paths import some
from langevin.recipe.build import non_hidden
from langevin.run.directory import Run
from langevin.run.generate import RunModel
from langevin.training.loop import BatchFn, TrainingConfig
from langevin.training.order import DataOrder

READ = 256  # examples that are read together


def concept_of(modality: Any, text: str, instead: str | None) -> AnyConcept:
    """The class, or the words of captions, that a text names.

    Raises:
        ValueError: the run has learned no such class or word, with the nearest that it has; or it has learned none."""
    classes: tuple[str, ...] = getattr(modality, "class_names", ())
    vocabulary = getattr(modality, "captions", None)
    words = vocabulary.words if isinstance(vocabulary, CaptionVocabulary) else ()
    if not classes and not words:
        raise ValueError(f"this run was trained without classes or captions, so there is no '{text}' in it to forget")
    if text in classes:
        if instead is not None and (instead not in classes or instead == text):
            raise ValueError(_unknown(instead, tuple(name for name in classes if name != text), "--instead"))
        return ClassConcept(label=classes.index(text), instead=None if instead is None else classes.index(instead))
    return WordConcept(words=_ids(text, words, classes), instead=_ids(instead, words, ()) if instead else ())


def _ids(text: str, words: tuple[str, ...], classes: tuple[str, ...]) -> tuple[int, ...]:
    """Token ids of the words of a text. Raises `ValueError` for one that the run has not learned."""
    named = split_words(text)
    unknown = next((word for word in named if word not in words), None if named else text)
    if unknown is not None:
        raise ValueError(_unknown(text if classes and not words else unknown, (*classes, *words), "the concept"))
    return tuple(words.index(word) + 2 for word in dict.fromkeys(named))


def _unknown(text: str, known: tuple[str, ...], what: str) -> str:
    near = get_close_matches(text, known, n=3)
    return f"{what} '{text}' was never learned; " + (
        f"nearest: {', '.join(near)}" if near else f"what was: {some(known, limit=12)}"
    )


def require_forgetful(run: Run) -> None:
    """Check that a run can be trained to forget. Raises `ValueError`."""
    method, process = run.recipe.method, run.recipe.process
    if run.recipe.adapter is not None:
        raise ValueError(f"{run.path} is an adapted run: `langevin merge {run.path}`, and use what that writes")
    if process.kind != "gaussian" or not isinstance(method, Diffusion.Config) or method.coupling is not None:
        coupled = " with method.coupling" if getattr(method, "coupling", None) is not None else ""
        raise ValueError(
            f"{run.path} was trained with process.kind {process.kind} and method.kind {method.kind}{coupled}: forget is "
            "for gaussian diffusion with independent noise"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Divided:
    """The examples of a part of the data.

    Args:
        holds: (n,) bool, which are of the concept.
        condition: of all n, on the CPU.
    """

    batches: Batches
    holds: Tensor
    condition: Condition

    @classmethod
    def of(cls, batches: Batches, concept: AnyConcept) -> "Divided":
        """Raises `ValueError` if none, or all, of the examples are of the concept."""
        found = [batches(items).condition for items in torch.arange(len(batches)).split(READ)]
        conditions = [one.to(torch.device("cpu")) for one in found if one is not None]
        condition = join(*conditions)
        holds = concept.holds(condition)
        if not 0 < int(holds.sum()) < len(holds):
            raise ValueError(
                f"{int(holds.sum())} of {len(holds)} examples are of the concept: forgetting needs some that are and some "
                "that are not, in the training and in the held-out part"
            )
        return cls(batches=batches, holds=holds, condition=condition)

    def items(self, *, of_concept: bool, most: int) -> Tensor:
        """At most so many items (n,) int64 of the concept or of the rest, evenly spaced."""
        own = (self.holds == of_concept).nonzero()[:, 0]
        return own[spread(len(own), most)]


def forgetting_of(
    model: RunModel, data: Divided, concept: AnyConcept, *, weight: float, keep: float, everywhere: bool
) -> Forgetting:
    """The training by which a model of gaussian diffusion forgets a concept."""
    parts, config = model.parts, model.built.recipe.method
    assert isinstance(parts, GaussianModel), "it is a model of gaussian diffusion"
    assert isinstance(parts.method, Diffusion), "it is a model of gaussian diffusion"
    assert isinstance(config, Diffusion.Config), "it is a model of gaussian diffusion"
    reference = copy.deepcopy(parts.network).eval().requires_grad_(False)
    return Forgetting(
        denoiser=parts.denoiser, network=parts.network, reference=replace(parts.denoiser, network=reference),
        objective=parts.method.objective, training_input=parts.method.training_input, concept=concept,
        asked=data.condition.select(data.holds), weight=weight, keep=keep, everywhere=everywhere,
        condition_dropout=config.condition_dropout, non_hidden=non_hidden(parts.network),
    )  # fmt: skip


def batches_of(data: Divided, config: TrainingConfig) -> BatchFn:
    """Training batches of which about half is of the concept."""
    chosen = balanced(data.holds)
    order = DataOrder(count=len(chosen), batch=config.batch, seed=config.seed)

    def batch(step: int, samples: Tensor, draw: StepRandomness) -> Batch:
        return data.batches(chosen[order.items(step, samples)], draw.noise)

    return batch


# ------------------------------------------------------------------------------------------------------------- the gate


@dataclass(frozen=True, kw_only=True)
class Shares:
    """How many of `n` samples show something, one count per seed."""

    counts: tuple[int, ...]
    n: int

    @property
    def each(self) -> tuple[float, ...]:
        return tuple(count / self.n for count in self.counts)

    @property
    def all(self) -> tuple[int, int]:
        """The count and the number over all seeds."""
        return sum(self.counts), self.n * len(self.counts)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured of a run.

    Args:
        shown: samples that were asked for the concept, and show it.
        back: samples of other requests that show it, by what was asked for.
        agreement: samples of the rest that show what they were asked for; None for words.
        distances: Fréchet distances of samples of the rest from its training examples, one per seed; empty where examples
            differ in shape.
        concept_losses, rest_losses: (n,) of held-out examples under their own conditions, on fixed noise.
    """

    shown: Shares
    back: Mapping[str, Shares]
    agreement: Shares | None
    distances: tuple[float, ...]
    concept_losses: Tensor
    rest_losses: Tensor

    def as_dict(self) -> dict[str, Any]:
        """Figures of JSON types."""
        return {
            "shown": list(self.shown.each), "back": {name: list(one.each) for name, one in self.back.items()},
            "agreement": None if self.agreement is None else list(self.agreement.each), "distance": list(self.distances),
            "concept loss": float(self.concept_losses.mean()), "rest loss": float(self.rest_losses.mean()),
            "samples": self.shown.n,
        }  # fmt: skip


def change(before: tuple[float, ...], after: tuple[float, ...]) -> Interval:
    """after - before, seed by seed."""
    return mean_interval([b - a for a, b in zip(before, after, strict=True)])


def paired(before: Tensor, after: Tensor) -> tuple[float, float]:
    """The mean of after - before over examples, and two standard errors of it."""
    apart = after - before
    return float(apart.mean()), 2 * float(apart.std()) / math.sqrt(len(apart)) if len(apart) > 1 else math.inf


def objections(before: Measured, after: Measured, *, tolerance: float) -> list[str]:
    """What speaks against taking the new weights, each with its figures; empty if nothing does.

    Args:
        tolerance: the largest share by which the held-out loss of the rest may rise."""
    lines = list[str]()
    fall = change(before.shown.each, after.shown.each)
    if fall.high is None or fall.high >= 0:
        lines.append(
            f"samples asked for the concept show it in {_share(after.shown)} of cases, and showed it in "
            f"{_share(before.shown)}, which is no fall beyond the noise"
        )
    rise, error = paired(before.concept_losses, after.concept_losses)
    if not rise > error:
        lines.append(f"the concept's held-out loss changes by {rise:.4g}, which is no rise beyond {error:.2g}")
    if after.agreement is not None and before.agreement is not None:
        lost = change(before.agreement.each, after.agreement.each)
        if lost.high is not None and lost.high < 0:
            lines.append(
                f"of the rest {_share(after.agreement)} show what was asked for, and {_share(before.agreement)} did"
            )
    if after.distances:
        farther = change(before.distances, after.distances)
        if farther.low is not None and farther.low > 0:
            lines.append(
                f"the distance of the rest's samples rises by {farther.estimate:.3g}, beyond {farther.half_width:.2g}"
            )
    worse, error = paired(before.rest_losses, after.rest_losses)
    allowed = tolerance * float(before.rest_losses.mean())
    if worse - error > allowed:
        lines.append(
            f"the held-out loss of the rest rises by {worse:.4g}, beyond {allowed:.2g} and the noise, {error:.2g}"
        )
    return lines


def _share(shares: Shares) -> str:
    return f"{shares.all[0] / shares.all[1]:.3f}"


def words_near(modality: Any, concept: WordConcept) -> str | None:
    """The word of the vocabulary that is spelt most like the first one of a concept; None if none is."""
    known: CaptionVocabulary = modality.captions
    word = known.words[concept.words[0] - 2]
    return next(iter(get_close_matches(word, [other for other in known.words if other != word], n=1)), None)
