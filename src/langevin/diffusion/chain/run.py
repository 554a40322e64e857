"""Many chains at once, and the path from a Gaussian.

Chains are rows and never mix: each is a function of its seed. `anneal` goes from N(0, start^2) to p along
ln p_b = b ln p + (1 - b) ln N(0, start^2), a few adjusted moves at each b. Every chain ends as one draw with a weight
w = prod_k (p / N)^(b_{k+1} - b_k) ("Annealed Importance Sampling", 2001), whose mean is the constant Z of p. A step that
adapts to its own past would bend that; so the path is gone twice, and the second time with the steps found by the first.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.diffusion.chain.density import Density
from langevin.diffusion.chain.move import Adjusted, Move, Place
from langevin.diffusion.noise import RowNoise, mix


@dataclass(frozen=True, kw_only=True)
class Chains:
    """What chains visited.

    Args:
        draws: (chains, kept, ...).
        accepted: (chains,) mean share of moves taken after the warm-up.
        step: (chains,) their step sizes.
    """

    draws: Tensor
    accepted: Tensor
    step: Tensor


def run_chains(
    density: Density,
    start: Tensor,
    *,
    move: Move,
    seeds: Tensor,
    warmup: int,
    moves: int,
    keep_every: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Chains:
    """`warmup` moves that are forgotten, then `moves` of which every `keep_every`-th place is kept.

    Args:
        start: (chains, ...) places where p is positive; far apart, so that what has not settled is seen.
        seeds: (chains,) int64.

    Raises:
        ValueError: counts that make no sense, or what `Density` and `Place` raise."""
    if moves < 1 or warmup < 0 or not 1 <= keep_every <= moves:
        raise ValueError(f"a chain makes moves and keeps some: got warmup {warmup}, moves {moves}, every {keep_every}")
    place = Place.at(density, start, move.size)
    kept: list[Tensor] = []
    taken = torch.zeros_like(place.h)
    with torch.no_grad():
        for k in range(warmup + moves):
            noise = RowNoise(seeds=seeds, steps=torch.full_like(seeds, k))
            place = move(density, place, noise, warm=2.0 / (k + 5) ** 0.6 if k < warmup else 0.0)
            if k >= warmup:
                taken = taken + place.taken / moves
                if (k - warmup + 1) % keep_every == 0:
                    kept.append(place.x)
            if progress is not None and (k + 1) % 100 == 0:
                progress(k + 1, warmup + moves)
    return Chains(draws=torch.stack(kept, 1), accepted=taken, step=place.h)


@dataclass(frozen=True, kw_only=True)
class Annealing:
    """Draws (chains, ...) at the end of the path, and their log-weights (chains,)."""

    draws: Tensor
    log_weights: Tensor

    @property
    def log_constant(self) -> float:
        """ln Z, the logarithm of the integral of the density as it was given."""
        return float(self.log_weights.logsumexp(0)) - math.log(len(self.log_weights))

    @property
    def effective_size(self) -> float:
        """(sum w)^2 / sum w^2: of how many equally weighted draws the weighted ones are worth."""
        w = self.log_weights.softmax(0)
        return float(1 / w.square().sum())


def anneal(
    density: Density, like: Tensor, *, start: float, seeds: Tensor, rungs: int = 50, moves: int = 4, size: float = 0.1
) -> Annealing:
    """One draw a row along the path; `like` (chains, ...) gives shape and type, `start` the width of the Gaussian."""
    if rungs < 1 or moves < 1 or not 0 < start < math.inf:
        raise ValueError(f"annealing needs rungs, moves and a width of its start, got {rungs}, {moves}, {start}")
    h = torch.full((len(like),), size, dtype=torch.float64)
    with torch.no_grad():
        found = _path(density, like, [h] * rungs, start=start, seeds=mix(seeds, 0xA), moves=moves, warm=0.3)[2]
        draws, weights, _ = _path(density, like, found, start=start, seeds=seeds, moves=moves, warm=0.0)
    return Annealing(draws=draws, log_weights=weights)


def _path(
    density: Density, like: Tensor, sizes: list[Tensor], *, start: float, seeds: Tensor, moves: int, warm: float
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """(draws, log-weights, the step of each rung); while `warm` the steps are found as it goes."""
    shift = like[0].numel() * (math.log(start) + 0.5 * math.log(2 * math.pi))

    def normal(x: Tensor) -> Tensor:
        return -0.5 * (x.double() / start).square().flatten(1).sum(1) - shift

    x = start * RowNoise(seeds=seeds, steps=torch.full_like(seeds, -1)).normal(like)
    move, rungs, found = Adjusted(), len(sizes), list[Tensor]()
    weights, h = torch.zeros(len(like), dtype=torch.float64), sizes[0]
    for i in range(rungs):
        b = (i + 1) / rungs
        weights = weights + (density.value(x) - normal(x)) / rungs  # at the end of the rung before

        def bridge(y: Tensor, b: float = b) -> Tensor:
            return b * density.value(y) + (1 - b) * normal(y)

        between, h = Density(log_p=bridge), h if warm else sizes[i]
        log_p, slope = between(x)
        place = Place(x=x, log_p=log_p, slope=slope, h=h, taken=torch.ones_like(h))
        for j in range(moves):
            place = move(between, place, RowNoise(seeds=seeds, steps=torch.full_like(seeds, i * moves + j)), warm=warm)
        x, h = place.x, place.h
        found.append(h)
    return x, weights, found
