"""A game against a run: an adversary searches requests within bounds for those whose samples are rated worst.

A request is a condition of the data, changed in some words, a weight of guidance, a scale of the starting noise and a
seed. The adversary keeps the worst tenth of what it has tried, and changes parts of these at random; its first round is
random. The value of the game is the mean rating of the worst requests that a budget finds. Random requests of the same
budget are beside it, as the worst of many is low without any search.

What helps has two parts. Limits at inference: the weights of guidance, and the scales of noise, whose random requests are
rated no worse than those at the run's own, beyond the noise. And training, see `run.hardening`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition, Port
from langevin.diffusion.guidance import weight_of, with_weight
from langevin.methods.models import GaussianModel
from langevin.modalities.modality import Draw, Samples
from langevin.run.begin import begin
from langevin.run.generate import RunModel
from langevin.run.template import template_of

ELITE = 0.1  # share of the requests tried so far that the adversary changes
WORST = 0.05  # share of a budget whose mean rating is the value
CHANGED = 0.3  # probability that a part of a request is drawn anew
KEEP, UNKNOWN, LEFT_OUT, REPLACED = range(4)  # what is done to a word of a caption
EDITS = ("as it is", "a misspelt word", "a word left out", "a word of another caption")


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What the adversary may choose.

    Args:
        guidance: weights, the run's own among them; empty for a run without guidance by a condition.
        scales: of the starting noise, the first one 1.
        edits: words of a caption that may be changed.

    Raises:
        ValueError: numbers out of range.
    """

    guidance: tuple[float, ...] = ()
    scales: tuple[float, ...] = (1.0,)
    edits: int = 0

    def __post_init__(self) -> None:
        if not all(math.isfinite(w) for w in self.guidance) or not all(0 < s < 10 for s in self.scales):
            raise ValueError(f"weights of guidance are finite, and scales of noise above 0 and below 10, got {self}")
        if not 0 <= self.edits <= 16:
            raise ValueError(f"0 to 16 words of a caption are changed, got {self.edits}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Moves:
    """b requests.

    Args:
        condition: (b,) int64, which of the data's conditions.
        guidance, scale: (b,) int64, which of the weights and of the scales.
        edits: (b, edits, 3) int64: what is done, to the word at which fraction of the caption (of 1,000), and the condition
            that a word comes from.
        seeds: (b,) int64.
    """

    condition: Tensor
    guidance: Tensor
    scale: Tensor
    edits: Tensor
    seeds: Tensor

    def __len__(self) -> int:
        return len(self.seeds)

    def select(self, index: Tensor) -> Self:
        return replace(self, **{part.name: getattr(self, part.name)[index] for part in fields(self)})

    @classmethod
    def join(cls, parts: Sequence["Moves"]) -> "Moves":
        return cls(**{part.name: torch.cat([getattr(one, part.name) for one in parts]) for part in fields(cls)})

    @classmethod
    def random(cls, count: int, bounds: Bounds, conditions: int, generator: torch.Generator) -> "Moves":
        """Uniform within the bounds."""

        def one_of(n: int, *shape: int) -> Tensor:
            return torch.randint(max(1, n), (count, *shape), generator=generator)

        edits = torch.stack([one_of(4, bounds.edits), one_of(1000, bounds.edits), one_of(conditions, bounds.edits)], 2)
        return cls(
            condition=one_of(conditions), guidance=one_of(len(bounds.guidance)), scale=one_of(len(bounds.scales)),
            edits=edits, seeds=one_of(2**40),
        )  # fmt: skip

    def mutated(self, other: "Moves", generator: torch.Generator) -> "Moves":
        """Each part of each request, with probability `CHANGED`, that of another one; at least one part."""
        names = [part.name for part in fields(self)]
        change = torch.rand(len(self), len(names), generator=generator) < CHANGED
        change[torch.arange(len(self)), torch.randint(len(names), (len(self),), generator=generator)] = True
        parts = {name: (getattr(self, name), getattr(other, name)) for name in names}
        return Moves(
            **{
                name: torch.where(change[:, i].view(-1, *[1] * (mine.ndim - 1)), new, mine)
                for i, (name, (mine, new)) in enumerate(parts.items())
            }
        )


def edited(tokens: Tensor, edits: Tensor, pool: Tensor) -> Tensor:
    """Captions (b, n), 0 for padding and 1 for an unknown word, with the edits (b, k, 3) of `Moves`; `pool` (c, n)."""
    out = tokens.clone()
    for row, changes in zip(out, edits.tolist(), strict=True):
        for what, place, other in changes:
            length = int((row > 0).sum())
            if what == KEEP or not length:
                continue
            at = place * length // 1000
            if what == UNKNOWN:
                row[at] = 1
            elif what == REPLACED:
                words = pool[other][pool[other] > 0]
                row[at] = words[place * len(words) // 1000] if len(words) else row[at]
            elif length > 1:
                row[at:] = torch.cat([row[at + 1 :], row.new_zeros(1)])
    return out


Rate = Callable[
    [Any, Tensor | None], Tensor
]  # (decoded samples, their classes or None) -> ratings (b,), more is better


@dataclass(frozen=True, kw_only=True, eq=False)
class Game:
    """Rates the samples of requests to a run.

    Args:
        template: a request with all conditions that may be asked for.
        rate: of decoded samples; less is worse.
        bounds: of the requests.
    """

    model: RunModel
    template: Draw
    rate: Rate
    bounds: Bounds
    batch: int = 64

    @classmethod
    def of(cls, model: RunModel, data: Any, rate: Rate, bounds: Bounds, *, conditions: int, seed: int) -> "Game":
        """With so many conditions of the data, in its proportions.

        Raises:
            ValueError: samples that are not drawn at once, or bounds that do not fit the run."""
        template = template_of(model, data, conditions, seed, what="this game")
        if bounds.scales != (1.0,) and not isinstance(model.parts, GaussianModel):
            raise ValueError("only gaussian noise has a scale: leave --scales out")
        if bounds.edits and (template.condition is None or template.condition.cross is None):
            raise ValueError("only captions have words to change: leave --edits out")
        return cls(model=model, template=template, rate=rate, bounds=bounds)

    @property
    def conditions(self) -> int:
        return len(self.template.seeds)

    def condition_of(self, moves: Moves) -> Condition | None:
        """What the requests are conditioned on."""
        condition = self.template.condition
        if condition is None:
            return None
        chosen = condition.select(moves.condition)
        if not self.bounds.edits or chosen.cross is None or condition.cross is None:
            return chosen
        tokens = edited(chosen.cross.tensor, moves.edits, condition.cross.tensor)
        return replace(chosen, cross=Port(tensor=tokens, keep=chosen.cross.keep))

    def draw(self, moves: Moves) -> Any:
        """The decoded samples of the requests, in their order."""
        values: list[Any] = [None] * len(moves)
        for guidance in moves.guidance.unique().tolist():
            for scale in moves.scale.unique().tolist():
                at = ((moves.guidance == guidance) & (moves.scale == scale)).nonzero()[:, 0]
                if len(at):
                    made = self.model.run(self._plan(moves.select(at), guidance, scale), batch=self.batch).values
                    for i, value in zip(at.tolist(), made, strict=True):
                        values[i] = value
        return torch.stack(values) if isinstance(values[0], Tensor) else values

    def _plan(self, moves: Moves, guidance: int, scale: int) -> Any:
        sampling = self.model.sampling
        if self.bounds.guidance:
            sampling = replace(sampling, guidance=with_weight(sampling.guidance, self.bounds.guidance[guidance]))
        request = replace(
            self.template, seeds=moves.seeds, sampling=sampling, condition=self.condition_of(moves), x=None
        )
        if self.bounds.scales[scale] != 1:
            start = begin(self.model.built, request, torch.arange(len(moves))).state.x
            request = replace(request, x=self.bounds.scales[scale] * start)
        x = yield request
        return Samples(modality=self.model.modality, values=self.model.modality.decode(x))

    def ratings(self, moves: Moves) -> Tensor:
        """(b,) float64."""
        condition = self.template.condition
        port = None if condition is None else condition.global_
        classes = None if port is None else port.tensor[moves.condition]
        return self.rate(self.draw(moves), classes).double()


@dataclass(frozen=True, kw_only=True, eq=False)
class Tried:
    """Requests with their ratings, in the order in which they were tried.

    Args:
        rounds: (b,) int64, the adversary's.
    """

    moves: Moves
    ratings: Tensor
    rounds: Tensor

    def worst(self, count: int) -> Tensor:
        """The indices of the worst ones, the worst first."""
        return self.ratings.argsort(stable=True)[:count]

    @property
    def value(self) -> float:
        """The mean rating of the worst `WORST` of the budget."""
        return float(self.ratings[self.worst(max(1, round(WORST * len(self.ratings))))].mean())


def search(
    game: Game, *, rounds: int, population: int, seed: int, progress: Callable[[int, int], None] = lambda done, of: None
) -> Tried:
    """The adversary's play: `rounds` times `population` requests. One round is random requests."""
    generator = torch.Generator().manual_seed(seed)

    def fresh() -> Moves:
        return Moves.random(population, game.bounds, game.conditions, generator)

    moves, ratings = [fresh()], list[Tensor]()
    for turn in range(rounds):
        if turn:
            so_far, rated = Moves.join(moves), torch.cat(ratings)
            elite = rated.argsort(stable=True)[: max(1, round(ELITE * len(rated)))]
            parents = elite[torch.randint(len(elite), (population,), generator=generator)]
            moves.append(so_far.select(parents).mutated(fresh(), generator))
        ratings.append(game.ratings(moves[-1]))
        progress((turn + 1) * population, rounds * population)
    return Tried(
        moves=Moves.join(moves), ratings=torch.cat(ratings), rounds=torch.arange(rounds).repeat_interleave(population)
    )


@dataclass(frozen=True, kw_only=True)
class Share:
    """The rating of the random requests with one choice."""

    name: str
    mean: float
    error: float
    count: int


def shares(of: Tensor, names: Sequence[str], ratings: Tensor) -> list[Share]:
    """The mean rating for each choice (b,), with its standard error."""
    found = list[Share]()
    for i, name in enumerate(names):
        own = ratings[of == i]
        if len(own):
            error = float(own.std() / math.sqrt(len(own))) if len(own) > 1 else math.inf
            found.append(Share(name=name, mean=float(own.mean()), error=error, count=len(own)))
    return found


def allowed(of: Tensor, values: Sequence[float], own: float, ratings: Tensor) -> tuple[float, float]:
    """The widest interval of values around the own one in which none is rated worse than the own one, beyond twice the
    standard error of the difference."""
    found = {float(s.name): s for s in shares(of, [str(v) for v in values], ratings)}
    reference = found.get(own)

    def good(value: float) -> bool:
        share = found.get(value)
        if share is None or reference is None:
            return False
        noise = 2 * math.hypot(share.error, reference.error)
        return share.mean >= reference.mean - noise

    order = sorted(values)
    low = high = order.index(own)
    while low > 0 and good(order[low - 1]):
        low -= 1
    while high + 1 < len(order) and good(order[high + 1]):
        high += 1
    return order[low], order[high]


def limited(bounds: Bounds, random: Tried, own: float) -> Bounds:
    """The bounds within which the run holds up, by what random requests were rated."""
    guidance, scales = bounds.guidance, bounds.scales
    if guidance:
        low, high = allowed(random.moves.guidance, guidance, own, random.ratings)
        guidance = tuple(w for w in guidance if low <= w <= high)
    if len(scales) > 1:
        low, high = allowed(random.moves.scale, scales, 1.0, random.ratings)
        scales = tuple(s for s in scales if low <= s <= high)
    return replace(bounds, guidance=guidance, scales=scales)


def own_weight(model: RunModel) -> float:
    """The weight of guidance that the run is sampled with."""
    return weight_of(model.sampling.guidance)
