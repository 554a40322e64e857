"""A denoiser's prediction q(x | x_t), a distribution over clean data.

`Point` is its mean, for continuous data: the squared error and every sampler need no more. `Categorical` is a distribution
over tokens per position, `MaskedCategorical` the same with logits at masked positions only, `Joint` a posterior for
each named part. A `Score`, the gradient of ln p_t, is a prediction that is no posterior: no clean data can be drawn
from it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from langevin.diffusion.float64 import to_float64
from langevin.diffusion.noise import Noise
from langevin.diffusion.shape import append_dims

Index = Tensor | slice


class Prediction(Protocol):
    """A denoiser's output, batch-first, with the operations that guidance needs."""

    def extrapolate_from(self, reference: Self, weight: Tensor) -> Self:
        """reference + weight (self - reference), `weight` (b,) or (b, positions): self at 1, the reference at 0.

        The extrapolation is linear in means, scores or log-probabilities; both predictions have the same shape."""
        ...

    def select(self, index: Index) -> Self:
        """The predictions of some samples, by a slice, (n,) int64 or (b,) bool."""
        ...


class Posterior(Prediction, Protocol):
    """q(x | x_t), a distribution over clean data."""

    def error(self, x: Any) -> Any:
        """The error of q for clean x, shaped like x: squared error, or cross-entropy in nats.

        It is inf for a token of probability 0."""
        ...

    def draw(self, noise: Noise) -> Any:
        """Clean data, shaped like x: sampled tokens, or the mean of continuous data."""
        ...


@dataclass(frozen=True)
class Point:
    """The posterior mean E[x | x_t], (b, ...)."""

    mean: Tensor

    def error(self, x: Tensor) -> Tensor:
        """Squared error, shaped like x."""
        return (self.mean - x).square()

    def draw(self, noise: Noise) -> Tensor:
        """The mean itself."""
        return self.mean

    def extrapolate_from(self, reference: "Point", weight: Tensor) -> "Point":
        """reference + weight (self - reference), `weight` (b,): exactly self at 1 and exactly reference at 0."""
        return Point(torch.lerp(reference.mean, self.mean, append_dims(weight, self.mean).to(self.mean)))

    def select(self, index: Index) -> "Point":
        return Point(self.mean[index])


@dataclass(frozen=True)
class Score:
    """grad ln p_t(x_t), (b, ...): the prediction for an SDE, where q(x_t | x) has no closed form and E[x | x_t] does not
    determine the reverse step. For a Gaussian process it is equivalent to a `Point`."""

    score: Tensor

    def extrapolate_from(self, reference: "Score", weight: Tensor) -> "Score":
        """reference + weight (self - reference), as for `Point`: the line between log-densities."""
        return Score(torch.lerp(reference.score, self.score, append_dims(weight, self.score).to(self.score)))

    def select(self, index: Index) -> "Score":
        return Score(self.score[index])


@dataclass(frozen=True)
class Categorical:
    """A distribution over tokens per position: unnormalised `logits` (b, positions, vocabulary)."""

    logits: Tensor

    def error(self, x: Tensor) -> Tensor:
        """Cross-entropy -ln q(x) in nats, (b, positions)."""
        return -self.logits.log_softmax(-1).gather(-1, x[..., None])[..., 0]

    def draw(self, noise: Noise, at: Tensor | None = None) -> Tensor:
        """One token per position, by inverting the distribution function in float64 (float32 cuts off rare tokens).

        With `at` (b, positions) bool only where it holds; the other entries are 0."""
        first = self.logits[..., 0]
        u = noise.uniform(first)
        chosen = torch.ones_like(first, dtype=torch.bool) if at is None else at
        tokens = torch.zeros_like(first, dtype=torch.int64)
        tokens[chosen] = draw_tokens(self.logits[chosen], u[chosen.to(u.device)])
        return tokens

    def logits_at(self, positions: Tensor) -> Tensor:
        """(m, vocabulary) logits of the m positions where `positions` (b, n) bool holds."""
        return self.logits[positions]

    def map_logits(self, function: Callable[..., Tensor], *aligned: Tensor) -> "Categorical":
        """The distribution with logits `function(logits (..., V), *aligned (...))`; each of `aligned` is (b, positions)."""
        return Categorical(function(self.logits, *aligned))

    def extrapolate_from(self, reference: "Categorical", weight: Tensor) -> "Categorical":
        """Linear in log-probabilities: q proportional to reference^(1 - weight) self^weight.

        It is exactly self at 1 and the reference at 0. A token of probability 0 under self keeps probability 0. One of
        probability 0 under the reference alone has probability 0 for weight < 1, and keeps self's log-probability beyond,
        where the line is infinite. If no token is left, the result is self."""
        own, other = self.logits.log_softmax(-1), reference.logits.log_softmax(-1)
        w = append_dims(weight, own).to(own)
        line = torch.where(other > -torch.inf, torch.lerp(other, own, w), torch.where(w < 1, -torch.inf, own))
        line = torch.where(own > -torch.inf, line, -torch.inf)
        line = torch.where((w == 1) | ~(line > -torch.inf).any(-1, keepdim=True), self.logits, line)
        return Categorical(torch.where(w == 0, reference.logits, line))

    def select(self, index: Index) -> "Categorical":
        return Categorical(self.logits[index])


def draw_tokens(logits: Tensor, u: Tensor) -> Tensor:
    """One token for each of (m, vocabulary) logits and (m,) uniforms, in float64."""
    mass = to_float64(logits).softmax(-1).cumsum(-1)
    index = torch.searchsorted(mass, u[:, None] * mass[:, -1:], right=True)[:, 0]
    return index.clamp_max(mass.shape[-1] - 1).to(logits.device)


@dataclass(frozen=True)
class MaskedCategorical:
    """A `Categorical` with logits at masked positions only; the other positions are certain.

    Args:
        logits: (m, vocabulary), at the positions where `open` holds, in order.
        open: (b, positions) bool, the positions that are not certain.
        seen: (b, positions) int64, the tokens at certain positions; ids beyond the vocabulary (padding) count as token 0.
        quality: (b, positions), the log-odds that what is seen at certain positions is right, for samplers that mask
            it again; None without. Guidance does not change it.
    """

    logits: Tensor
    open: Tensor
    seen: Tensor
    quality: Tensor | None = None

    @property
    def _fill_values(self) -> Tensor:
        return torch.where(self.seen < self.logits.shape[-1], self.seen, 0)

    @property
    def _row_index(self) -> Tensor:
        """(b, positions): the row of `logits` of each open position."""
        return (self.open.flatten().cumsum(0) - 1).view_as(self.open)

    def dense(self) -> Categorical:
        """The same with logits at every position."""
        certain = self.logits.new_full((*self.open.shape, self.logits.shape[-1]), -torch.inf)
        certain = certain.scatter(-1, self._fill_values[..., None], 0.0)
        return Categorical(certain.masked_scatter(self.open[..., None], self.logits))

    def error(self, x: Tensor) -> Tensor:
        """Cross-entropy -ln q(x) in nats, (b, positions)."""
        nats = F.cross_entropy(self.logits, x[self.open], reduction="none")
        sure = torch.where(x == self.seen, 0.0, torch.inf).to(nats)
        return sure.masked_scatter(self.open, nats)

    def draw(self, noise: Noise, at: Tensor | None = None) -> Tensor:
        """See `Categorical.draw`."""
        u, sure = noise.uniform(self.seen), self._fill_values
        tokens = sure if at is None else torch.where(at, sure, 0)
        chosen = self.open if at is None else self.open & at
        tokens[chosen] = draw_tokens(self.logits_at(chosen), u[chosen.to(u.device)])
        return tokens

    def logits_at(self, positions: Tensor) -> Tensor:
        """See `Categorical.logits_at`."""
        if torch.equal(positions, self.open):
            return self.logits
        if bool((positions & ~self.open).any()):
            return self.dense().logits_at(positions)
        return self.logits[self._row_index[positions]]

    def map_logits(self, function: Callable[..., Tensor], *aligned: Tensor) -> "MaskedCategorical":
        """See `Categorical.map_logits`; certain positions stay."""
        return replace(self, logits=function(self.logits, *(part[self.open] for part in aligned)))

    def extrapolate_from(self, reference: "MaskedCategorical", weight: Tensor) -> "MaskedCategorical":
        """See `Categorical.extrapolate_from`; open where either is, and certain tokens must agree."""
        open_ = self.open | reference.open
        weights = append_dims(weight.to(self.logits), open_).expand_as(open_)[open_]
        line = Categorical(self.logits_at(open_)).extrapolate_from(Categorical(reference.logits_at(open_)), weights)
        return MaskedCategorical(line.logits, open_, self.seen, self.quality)

    def select(self, index: Index) -> "MaskedCategorical":
        open_ = self.open[index]
        quality = None if self.quality is None else self.quality[index]
        return MaskedCategorical(self.logits[self._row_index[index][open_]], open_, self.seen[index], quality)


TokenPosterior = Categorical | MaskedCategorical  # a distribution over tokens per position


@dataclass(frozen=True)
class Joint:
    """A posterior for each named part of x, a mapping with the same names."""

    parts: Mapping[str, Posterior]

    def error(self, x: Mapping[str, Any]) -> dict[str, Any]:
        return {name: part.error(x[name]) for name, part in self.parts.items()}

    def draw(self, noise: Noise) -> dict[str, Any]:
        return {name: part.draw(noise.fork(i)) for i, (name, part) in enumerate(self.parts.items())}

    def extrapolate_from(self, reference: "Joint", weight: Tensor) -> "Joint":
        return Joint({name: part.extrapolate_from(reference.parts[name], weight) for name, part in self.parts.items()})

    def select(self, index: Index) -> "Joint":
        return Joint({name: part.select(index) for name, part in self.parts.items()})


AnyPrediction = Point | Score | Categorical | MaskedCategorical | Joint


def concatenate(predictions: Sequence[Any]) -> Any:
    """The predictions of the samples of all `predictions`, in order; they are of one class."""
    first = predictions[0]
    if len(predictions) == 1:
        return first
    if isinstance(first, Joint):
        return Joint({name: concatenate([q.parts[name] for q in predictions]) for name in first.parts})
    parts = {part.name: [getattr(q, part.name) for q in predictions] for part in fields(first)}
    return type(first)(**{name: torch.cat(each) for name, each in parts.items() if each[0] is not None})
