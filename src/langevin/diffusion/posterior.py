"""What a denoiser answers: q(x | x_t), a distribution over clean data.

`Point` is its mean (continuous data: all that the squared error and every sampler need), `Categorical` a distribution a
place (tokens), `Partly` the same where most places are certain, `Joint` one of either for each named part, `Score` the
slope of ln p_t where no clean data can be named. Guidance, samplers, previews and evaluation speak only this.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from langevin.diffusion.noise import Noise
from langevin.diffusion.shape import right_pad

Index = Tensor | slice


class Posterior(Protocol):
    """q(x | x_t); batch-first."""

    def error(self, x: Any) -> Any: ...
    def draw(self, noise: Noise) -> Any: ...
    def toward(self, reference: Self, weight: Tensor) -> Self: ...
    def rows(self, index: Index) -> Self: ...


@dataclass(frozen=True)
class Point:
    """The posterior mean E[x | x_t], (b, ...)."""

    mean: Tensor

    def error(self, x: Tensor) -> Tensor:
        """Squared error, a value a place."""
        return (self.mean - x).square()

    def draw(self, noise: Noise) -> Tensor:
        """The mean itself."""
        return self.mean

    def toward(self, reference: "Point", weight: Tensor) -> "Point":
        """reference + weight (self - reference), `weight` (b,): exactly self at 1 and exactly reference at 0."""
        return Point(torch.lerp(reference.mean, self.mean, right_pad(weight, self.mean).to(self.mean.dtype)))

    def rows(self, index: Index) -> "Point":
        return Point(self.mean[index])


@dataclass(frozen=True)
class Score:
    """grad ln p_t(x_t), (b, ...): the answer where the law of x_t given x has no closed form, so that E[x | x_t] says
    nothing about the step to be made. A `Point` under a Gaussian process is the same knowledge in other units."""

    score: Tensor

    def error(self, x: Tensor) -> Tensor:
        """Squared difference from another score, a value a place."""
        return (self.score - x).square()

    def draw(self, noise: Noise) -> Tensor:
        raise ValueError("a score says where data is denser, and not what the clean data was: there is nothing to draw")

    def toward(self, reference: "Score", weight: Tensor) -> "Score":
        """reference + weight (self - reference), as for `Point`: the line between log-densities."""
        return Score(torch.lerp(reference.score, self.score, right_pad(weight, self.score).to(self.score.dtype)))

    def rows(self, index: Index) -> "Score":
        return Score(self.score[index])


@dataclass(frozen=True)
class Categorical:
    """A distribution over symbols a place: unnormalised `logits` (b, places, symbols)."""

    logits: Tensor

    def error(self, x: Tensor) -> Tensor:
        """Cross-entropy -ln q(x) in nats, (b, places)."""
        return -self.logits.log_softmax(-1).gather(-1, x[..., None])[..., 0]

    def draw(self, noise: Noise, at: Tensor | None = None) -> Tensor:
        """One symbol a place, by the inverse of the distribution function in float64: float32 cuts the rare symbols off.

        `at` (b, places) bool asks for some places only; the others are 0."""
        u = noise.uniform(self.logits[..., 0])
        chosen = torch.ones_like(u, dtype=torch.bool) if at is None else at
        found = torch.zeros_like(u, dtype=torch.int64)
        found[chosen] = _drawn(self.logits[chosen], u[chosen])
        return found

    def at(self, places: Tensor) -> Tensor:
        """(m, symbols) logits of the m places where `places` (b, places) holds."""
        return self.logits[places]

    def bent(self, bend: Callable[..., Tensor], *beside: Tensor) -> "Categorical":
        """With logits `bend(logits (..., symbols), *beside (...))`; what is beside is (b, places)."""
        return Categorical(bend(self.logits, *beside))

    def toward(self, reference: "Categorical", weight: Tensor) -> "Categorical":
        """The line between log-probabilities: q proportional to reference^(1 - weight) self^weight.

        Exactly self at 1 and reference at 0. A symbol that this posterior forbids stays forbidden; one that only the
        reference forbids is forbidden between the two and keeps its own log-probability beyond self, where the line
        would rise to infinity. If that leaves no symbol, self stands."""
        own, other = self.logits.log_softmax(-1), reference.logits.log_softmax(-1)
        w = right_pad(weight, own).to(own.dtype)
        line = torch.where(other > -torch.inf, torch.lerp(other, own, w), torch.where(w < 1, -torch.inf, own))
        line = torch.where(own > -torch.inf, line, -torch.inf)
        line = torch.where((w == 1) | ~(line > -torch.inf).any(-1, keepdim=True), self.logits, line)
        return Categorical(torch.where(w == 0, reference.logits, line))

    def rows(self, index: Index) -> "Categorical":
        return Categorical(self.logits[index])


def _drawn(logits: Tensor, u: Tensor) -> Tensor:
    """One symbol for each of (m, symbols) logits and (m,) numbers, in float64."""
    mass = logits.double().softmax(-1).cumsum(-1)
    index = torch.searchsorted(mass, u[:, None] * mass[:, -1:], right=True)[:, 0]
    return index.clamp_max(mass.shape[-1] - 1)


@dataclass(frozen=True)
class Partly:
    """A `Categorical` that is certain but at some places: what a network answers that is asked at masked places only.

    Args:
        logits: (m, symbols), of the places where `open` holds, in order.
        open: (b, places) bool.
        seen: (b, places) int64, the symbols of the others; beyond those of the answers, as padding is, read as the first.
    """

    logits: Tensor
    open: Tensor
    seen: Tensor

    @property
    def _sure(self) -> Tensor:
        return torch.where(self.seen < self.logits.shape[-1], self.seen, 0)

    @property
    def _number(self) -> Tensor:
        """(b, places): which row of the logits is an open place's."""
        return (self.open.flatten().cumsum(0) - 1).view_as(self.open)

    @property
    def whole(self) -> Categorical:
        """The same, spelled out at every place."""
        certain = self.logits.new_full((*self.open.shape, self.logits.shape[-1]), -torch.inf)
        certain = certain.scatter(-1, self._sure[..., None], 0.0)
        return Categorical(certain.masked_scatter(self.open[..., None], self.logits))

    def error(self, x: Tensor) -> Tensor:
        """Cross-entropy -ln q(x) in nats, (b, places)."""
        nats = F.cross_entropy(self.logits, x[self.open], reduction="none")
        sure = torch.where(x == self.seen, 0.0, torch.inf).to(nats.dtype)
        return sure.masked_scatter(self.open, nats)

    def draw(self, noise: Noise, at: Tensor | None = None) -> Tensor:
        """As of a `Categorical`."""
        u, sure = noise.uniform(self.seen), self._sure
        found = sure if at is None else torch.where(at, sure, 0)
        chosen = self.open if at is None else self.open & at
        found[chosen] = _drawn(self.at(chosen), u[chosen])
        return found

    def at(self, places: Tensor) -> Tensor:
        """As of a `Categorical`."""
        if torch.equal(places, self.open):
            return self.logits
        if bool((places & ~self.open).any()):
            return self.whole.at(places)
        return self.logits[self._number[places]]

    def bent(self, bend: Callable[..., Tensor], *beside: Tensor) -> "Partly":
        """As of a `Categorical`; what is certain stays."""
        return Partly(bend(self.logits, *(part[self.open] for part in beside)), self.open, self.seen)

    def toward(self, reference: "Partly", weight: Tensor) -> "Partly":
        """As of a `Categorical`, open where either is; what both are certain of is the same."""
        open_ = self.open | reference.open
        each = right_pad(weight, open_).expand_as(open_)[open_]
        line = Categorical(self.at(open_)).toward(Categorical(reference.at(open_)), each)
        return Partly(line.logits, open_, self.seen)

    def rows(self, index: Index) -> "Partly":
        open_ = self.open[index]
        return Partly(self.logits[self._number[index][open_]], open_, self.seen[index])


Symbolic = Categorical | Partly  # one face: a distribution over symbols a place


@dataclass(frozen=True)
class Joint:
    """A posterior for each named part of x (x itself a mapping of the same names)."""

    parts: Mapping[str, Posterior]

    def error(self, x: Mapping[str, Any]) -> dict[str, Any]:
        return {name: part.error(x[name]) for name, part in self.parts.items()}

    def draw(self, noise: Noise) -> dict[str, Any]:
        return {name: part.draw(noise.fork(i)) for i, (name, part) in enumerate(self.parts.items())}

    def toward(self, reference: "Joint", weight: Tensor) -> "Joint":
        return Joint({name: part.toward(reference.parts[name], weight) for name, part in self.parts.items()})

    def rows(self, index: Index) -> "Joint":
        return Joint({name: part.rows(index) for name, part in self.parts.items()})
