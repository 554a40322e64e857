"""What a denoiser answers: q(x | x_t), a distribution over clean data.

`Point` is its mean (continuous data: all that the squared error and every sampler need), `Categorical` a distribution a
place (tokens), `Partly` the same where most places are certain, `Joint` one of either for each named part, `Score` the
slope of ln p_t where no clean data can be named. Guidance, samplers, previews and evaluation speak only this.
"""

from collections.abc import Mapping
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
        mass = self.logits[chosen].double().softmax(-1).cumsum(-1)  # (chosen, symbols)
        index = torch.searchsorted(mass, u[chosen][:, None] * mass[:, -1:], right=True)[:, 0]
        found = torch.zeros_like(u, dtype=torch.int64)
        found[chosen] = index.clamp_max(mass.shape[-1] - 1)
        return found

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


@dataclass(frozen=True)
class Partly:
    """Certain but at some places: what a network answers that is asked at masked places only.

    Args:
        logits_at: (m, symbols), of the places where `at` holds, in order.
        at: (b, places) bool.
        seen: (b, places) int64, the symbols of the others.
    """

    logits_at: Tensor
    at: Tensor
    seen: Tensor

    @property
    def whole(self) -> Categorical:
        """The same at every place. Symbols beyond those of the answers, as padding is, are read as the first."""
        symbol = torch.where(self.seen < self.logits_at.shape[-1], self.seen, 0)
        certain = self.logits_at.new_full((*self.at.shape, self.logits_at.shape[-1]), -torch.inf)
        certain = certain.scatter(-1, symbol[..., None], 0.0)
        return Categorical(certain.masked_scatter(self.at[..., None], self.logits_at))

    def error(self, x: Tensor) -> Tensor:
        """Cross-entropy -ln q(x) in nats, (b, places)."""
        nats = F.cross_entropy(self.logits_at, x[self.at], reduction="none")
        sure = torch.where(x == self.seen, 0.0, torch.inf).to(nats.dtype)
        return sure.masked_scatter(self.at, nats)

    def draw(self, noise: Noise, at: Tensor | None = None) -> Tensor:
        """As of a `Categorical`."""
        return self.whole.draw(noise, at)

    def toward(self, reference: Categorical, weight: Tensor) -> Categorical:
        return self.whole.toward(reference, weight)

    def rows(self, index: Index) -> Categorical:
        return self.whole.rows(index)


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
