"""What a run's conditions and noise decide, and at which level of noise: interventions on one part of many requests.

Every sample is drawn as it was, and again with one thing changed. All else stays: the seed, the other conditions, the
other steps. So what differs is an effect of the change. There are three kinds of changes.

    condition   that of another sample, or none, at all steps or at some of them
    words       the caption without one word
    noise       the finished sample is corrupted to a level with fresh noise, and denoised again from there ("A phase
                transition in diffusion models reveals the hierarchical nature of data", 2024, arXiv 2402.16991)

The distance of two samples is their mean squared difference, or for tokens the share of positions that differ, divided by
its mean over pairs of unrelated samples. So 0 is the same sample, and 1 is as different as another one.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.concept import WordConcept
from langevin.diffusion.condition import PORTS, Condition
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.shape import Data, leaves, tree_map
from langevin.evaluation.statistics import Interval, mean_interval, share_interval
from langevin.methods.models import GaussianModel
from langevin.modalities.modality import Draw, Plan, Progress, Samples
from langevin.run.begin import grid_of
from langevin.run.generate import BATCH, RunModel, joined

UNRELATED = 4  # pairs of each sample with others
FRESH = 1 << 41  # between the seeds of samples and those of fresh noise
NAMES = {"global_": "class", "global_vector": "vector", "cross": "caption", "cross_vectors": "caption"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Intervention:
    """What is changed in every sample.

    Args:
        what: it is, in words.
        steps: (first, last) of the grid, at whose times from that of `first` to that of `last` it is changed.
        condition: that the b samples have there; None leaves it.
        noise: fresh noise at the time of the first step, in place of a condition.
        applies: (b,) bool, the samples that have what is changed; None: all.
    """

    what: str
    steps: tuple[int, int]
    condition: Condition | None = None
    noise: bool = False
    applies: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What an intervention changed.

    Args:
        what: it was.
        times: where, (highest, lowest).
        distance: 0 the same sample, 1 another one.
        other: share of samples in which another class is read, with its interval; None without a reader.
        rating: the rise of a rating; None without one.
        n: number of samples.
    """

    what: str
    times: tuple[float, float]
    distance: Interval
    other: tuple[float, float, float] | None
    rating: Interval | None
    n: int


@dataclass(frozen=True, kw_only=True)
class Switched:
    """A denoiser that has another condition at times in (low, high]."""

    denoiser: Denoiser[Any]
    condition: Callable[[Condition], Condition]
    low: float
    high: float

    def __call__(self, x_t: Any, t: Any, condition: Condition | None) -> Any:
        time = max(float(leaf.max()) for leaf in leaves(t))
        if condition is not None and self.low < time <= self.high:
            condition = self.condition(condition)
        return self.denoiser(x_t, t, condition)


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """Samples of a run, and how they are read.

    Args:
        request: by which they are drawn.
        reads: encoded samples -> the class in each, (b,) int64; None without a reader.
        rate: encoded samples -> a rating of each, (b,); None without.
    """

    model: RunModel
    request: Draw
    reads: Callable[[Tensor], Tensor] | None = None
    rate: Callable[[Tensor], Tensor] | None = None

    @property
    def times(self) -> list[float]:
        """The n + 1 times of the grid."""
        grid = grid_of(self.model.built, self.request, torch.zeros(1, dtype=torch.int64))
        return torch.stack([t[0].reshape(t.shape[1], -1).amax(1) for t in leaves(grid)]).amax(0).tolist()

    def level(self, time: float) -> float:
        """sigma / alpha of gaussian diffusion, the time itself of others."""
        parts = self.model.parts
        if not isinstance(parts, GaussianModel):
            return time
        return math.exp(-float(parts.process.schedule.log_snr(torch.tensor(time, dtype=torch.float64))) / 2)

    def draw(self, change: Intervention | None = None, base: Any = None) -> Any:
        """x (b, ...) of the samples, or a mapping by part, with a change; fresh noise is put on `base`."""
        parts = torch.arange(len(self.request.seeds)).split(BATCH)
        return joined([self._drawn(index, change, base) for index in parts])

    def _drawn(self, index: Tensor, change: Intervention | None, base: Any) -> Any:
        request, kept = self.request, list[Any]()
        condition = None if request.condition is None else request.condition.select(index)
        start = None if request.x is None else tree_map(lambda part: part[index], request.x)
        request = replace(request, seeds=request.seeds[index], condition=condition, x=start)
        if change is not None and change.noise:
            assert base is not None, "noise is put on samples"
            clean = tree_map(lambda part: part[index], base)
            request = replace(request, x=None, clean=clean, skip=change.steps[0], seeds=request.seeds + FRESH)
        elif change is not None:
            assert change.condition is not None, "a condition is changed"
            times, wanted, inner = self.times, change.condition.select(index).to(self.model.device), request.wrap

            def switched(denoiser: Denoiser[Any]) -> Denoiser[Any]:
                return Switched(
                    denoiser=denoiser if inner is None else inner(denoiser), condition=lambda own: _with(own, wanted),
                    low=times[change.steps[1]], high=times[change.steps[0]],
                )  # fmt: skip

            request = replace(request, wrap=switched)
        self.model.run(self._plan(request, kept), batch=len(index))
        return kept[0]

    def _plan(self, request: Draw, kept: list[Any]) -> Plan:
        kept.append((yield request))
        return Samples(modality=self.model.modality, values=[])

    def effects(self, changes: Sequence[Intervention], progress: Progress) -> tuple[Any, list[Effect], list[Any]]:
        """The samples as they were, the effect of each change, and the samples with it."""
        base, times, n = self.draw(), self.times, len(self.request.seeds)
        unrelated = unrelated_distances(base, n)
        before, found, changed = self._read(base), list[Effect](), list[Any]()
        for i, change in enumerate(changes):
            x = self.draw(change, base)
            at = torch.ones(n, dtype=torch.bool) if change.applies is None else change.applies
            far = distance(base, x, unrelated)[at]
            classes, ratings = self._read(x)
            other = None if before[0] is None or classes is None else (before[0] != classes)[at]
            rise = None if before[1] is None or ratings is None else (ratings - before[1])[at]
            found.append(
                Effect(
                    what=change.what, times=(times[change.steps[0]], times[change.steps[1]]),
                    distance=mean_interval(far.tolist()), n=len(far),
                    other=None if other is None else share(other),
                    rating=None if rise is None else mean_interval(rise.tolist()),
                )
            )  # fmt: skip
            changed.append(x)
            progress(i + 1, len(changes))
        return base, found, changed

    def _read(self, x: Any) -> tuple[Tensor | None, Tensor | None]:
        """The classes that are read in samples, and their ratings."""
        return (None if self.reads is None else self.reads(x), None if self.rate is None else self.rate(x))


@dataclass(frozen=True, kw_only=True, eq=False)
class Changes:
    """The interventions on the conditions and the noise of a request of b samples.

    Args:
        bands: number of parts of the grid in which a condition is changed, and of levels of fresh noise.
    """

    request: Draw
    bands: int

    def all(self, words: Sequence[tuple[int, str]]) -> list[Intervention]:
        """Of every kind; of these words (token, text) of captions."""
        return [*self.conditions(), *self.words(words), *self.noises()]

    def edges(self) -> list[int]:
        """Steps between the bands, the first 0, the last the number of steps."""
        steps, bands = self.request.sampling.steps, min(self.bands, self.request.sampling.steps)
        return [round(i * steps / bands) for i in range(bands + 1)]

    def conditions(self) -> list[Intervention]:
        """Each port of the condition that of another sample, and withheld: at all steps, and in each band."""
        condition, found = self.request.condition, list[Intervention]()
        for name in PORTS:
            port = None if condition is None else getattr(condition, name)
            if port is None or condition is None:
                continue
            said = NAMES.get(name, name)
            other = replace(condition, **{name: port.map(lambda part: part[shuffled(len(part), UNRELATED)])})
            without = replace(condition, **{name: port.only(torch.zeros(len(port.tensor), dtype=torch.bool))})
            changed = port.tensor != getattr(other, name).tensor
            differs = changed.reshape(len(changed), -1).any(1)
            found += self._in_bands(f"another {said}", other, differs)
            found += self._in_bands(f"no {said}", without, None)
        return found

    def _in_bands(self, what: str, condition: Condition, applies: Tensor | None) -> list[Intervention]:
        if applies is not None and not bool(applies.any()):
            return []
        edges = self.edges()
        bands = [(edges[0], edges[-1]), *pairwise(edges)]
        return [Intervention(what=what, steps=band, condition=condition, applies=applies) for band in bands]

    def words(self, words: Sequence[tuple[int, str]]) -> list[Intervention]:
        """The captions without each word, at all steps."""
        condition, found = self.request.condition, list[Intervention]()
        for token, text in words:
            assert condition is not None, "words are those of captions"
            concept = WordConcept(words=(token,))
            whole = (0, self.request.sampling.steps)
            found.append(
                Intervention(
                    what=f"without the word {text}", steps=whole, condition=concept.anchored(condition),
                    applies=concept.holds(condition),
                )
            )  # fmt: skip
        return found

    def noises(self) -> list[Intervention]:
        """Fresh noise from the beginning of each band on."""
        edges = self.edges()
        return [Intervention(what="fresh noise", steps=(at, edges[-1]), noise=True) for at in edges[:-1]]


def frequent(condition: Condition | None, count: int) -> list[int]:
    """The `count` tokens that most captions have, the most frequent first."""
    if condition is None or condition.cross is None:
        return []
    tokens = condition.cross.tensor
    found = {int(token): int((tokens == token).any(1).sum()) for token in tokens.unique() if token > 1}
    return sorted((token for token, n in found.items() if n > 1), key=lambda token: (-found[token], token))[:count]


def distance(one: Data, other: Data, unrelated: Sequence[float]) -> Tensor:
    """(b,) float64: the mean over parts of the distance of each sample, in those of unrelated ones."""
    parts = [
        _apart(*both) / max(scale, 1e-12) for *both, scale in zip(leaves(one), leaves(other), unrelated, strict=True)
    ]
    return torch.stack(parts).mean(0)


def unrelated_distances(x: Data, count: int) -> list[float]:
    """The mean distance of unrelated samples, for each part of the data."""
    pairs = [shuffled(count, seed) for seed in range(UNRELATED)]
    return [float(torch.cat([_apart(leaf, leaf[other]) for other in pairs]).mean()) for leaf in leaves(x)]


def _apart(one: Tensor, other: Tensor) -> Tensor:
    """(b,) float64: the mean squared difference of each sample, or the share of its tokens that differ."""
    if one.is_floating_point():
        return (one.double() - other.double()).reshape(len(one), -1).square().mean(1)
    return (one != other).reshape(len(one), -1).double().mean(1)


def share(flags: Tensor) -> tuple[float, float, float]:
    """The share of samples (b,) bool, with its 95 % interval."""
    return (float(flags.double().mean()), *share_interval(int(flags.sum()), len(flags)))


def shuffled(count: int, seed: int) -> Tensor:
    """Another sample for each of `count` >= 2 samples, (count,) int64: the next one in a random order."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return torch.empty_like(order).scatter_(0, order, order.roll(1))


def _with(own: Condition, wanted: Condition) -> Condition:
    """A condition with the ports of another one; guidance and facts stay."""
    return replace(own, **{name: getattr(wanted, name) for name in PORTS})
