"""Batches of independent chains, and annealed importance sampling from a Gaussian.

Every chain is a function of its seed. `anneal` goes from N(0, start^2) to p along ln p_b = b ln p + (1 - b) ln N(0,
start^2), with a few MALA moves at each temperature b. Every chain ends as one draw with a weight w = prod_k (p /
N)^(b_{k+1} - b_k), whose mean is the normalising constant Z of p ("Annealed Importance Sampling", 2001,
arXiv:physics/9803008). Step sizes that adapt to the chain itself would bias this. So a first pass adapts them, and a
second pass with other noise keeps them fixed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.diffusion.chain.density import Density
from langevin.diffusion.chain.move import MALA, ChainState, Move
from langevin.diffusion.float64 import float64_device, to_float64
from langevin.diffusion.noise import SampleNoise, mix


@dataclass(frozen=True, kw_only=True)
class Chains:
    """The draws of a run.

    Args:
        draws: (chains, n, ...), the kept states.
        accepted: (chains,) mean acceptance rate after the warm-up.
        step: (chains,) final step sizes.
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
    """`warmup` moves that are discarded, then `moves`, of which every `keep_every`-th state is kept.

    Args:
        start: (chains, ...), where p is positive; overdispersed, so that the diagnostics can detect slow mixing.
        seeds: (chains,) int64.
        progress: called with (moves made, all moves) every 100 moves.

    Raises:
        ValueError: counts out of range, or what `Density`, `ChainState` and `move` raise."""
    if moves < 1 or warmup < 0 or not 1 <= keep_every <= moves:
        raise ValueError(
            f"chains need warmup >= 0, moves >= 1 and 1 <= keep_every <= moves, got {warmup}, {moves} and {keep_every}"
        )
    state = ChainState.at(density, start, move.size)
    kept: list[Tensor] = []
    accepted = torch.zeros_like(state.h)
    with torch.no_grad():
        for k in range(warmup + moves):
            noise = SampleNoise(seeds=seeds, steps=torch.full_like(seeds, k))
            state = move(density, state, noise, warm=2.0 / (k + 5) ** 0.6 if k < warmup else 0.0)
            if k >= warmup:
                accepted = accepted + state.taken / moves
                if (k - warmup + 1) % keep_every == 0:
                    kept.append(state.x)
            if progress is not None and (k + 1) % 100 == 0:
                progress(k + 1, warmup + moves)
    return Chains(draws=torch.stack(kept, 1), accepted=accepted, step=state.h)


@dataclass(frozen=True, kw_only=True)
class Annealing:
    """Draws (chains, ...) at the end of the path, and their log-weights (chains,)."""

    draws: Tensor
    log_weights: Tensor

    @property
    def log_constant(self) -> float:
        """ln Z, the logarithm of the integral of the given density."""
        return float(self.log_weights.logsumexp(0)) - math.log(len(self.log_weights))

    @property
    def effective_size(self) -> float:
        """The effective number of draws, (sum w)^2 / sum w^2."""
        w = self.log_weights.softmax(0)
        return float(1 / w.square().sum())


def anneal(
    density: Density,
    like: Tensor,
    *,
    start: float,
    seeds: Tensor,
    temperatures: int = 50,
    moves: int = 4,
    size: float = 0.1,
) -> Annealing:
    """One weighted draw per chain by annealed importance sampling; see the module.

    Args:
        like: (chains, ...), for shape, type and device.
        start: standard deviation of the initial Gaussian.
        seeds: (chains,) int64.
        temperatures, moves: number of temperatures, and of MALA moves at each.
        size: initial step size.

    Raises:
        ValueError: counts or a `start` out of range, or what `Density` raises."""
    if temperatures < 1 or moves < 1 or not 0 < start < math.inf:
        raise ValueError(
            f"annealing needs temperatures >= 1, moves >= 1 and start > 0, got {temperatures}, {moves} and {start}"
        )
    h = torch.full((len(like),), size, dtype=torch.float64, device=float64_device(like.device))
    with torch.no_grad():
        sizes = _path(density, like, [h] * temperatures, start=start, seeds=mix(seeds, 0xA), moves=moves, warm=0.3)[2]
        draws, weights, _ = _path(density, like, sizes, start=start, seeds=seeds, moves=moves, warm=0.0)
    return Annealing(draws=draws, log_weights=weights)


def _path(
    density: Density, like: Tensor, sizes: list[Tensor], *, start: float, seeds: Tensor, moves: int, warm: float
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """(draws, log-weights, the step sizes (chains,) after each temperature), adapted with gain `warm`, or `sizes` at 0."""
    shift = like[0].numel() * (math.log(start) + 0.5 * math.log(2 * math.pi))

    def normal(x: Tensor) -> Tensor:
        return -0.5 * (to_float64(x) / start).square().flatten(1).sum(1) - shift

    x = start * SampleNoise(seeds=seeds, steps=torch.full_like(seeds, -1)).normal(like)
    move, temperatures, final = MALA(), len(sizes), list[Tensor]()
    weights, h = torch.zeros(len(like), dtype=torch.float64, device=float64_device(like.device)), sizes[0]
    for i in range(temperatures):
        b = (i + 1) / temperatures
        weights = weights + (density.value(x) - normal(x)) / temperatures  # x: the end of the previous temperature

        def bridge(y: Tensor, b: float = b) -> Tensor:
            return b * density.value(y) + (1 - b) * normal(y)

        between, h = Density(log_p=bridge), h if warm else sizes[i]
        log_p, slope = between(x)
        state = ChainState(x=x, log_p=log_p, slope=slope, h=h, taken=torch.ones_like(h))
        for j in range(moves):
            state = move(
                between, state, SampleNoise(seeds=seeds, steps=torch.full_like(seeds, i * moves + j)), warm=warm
            )
        x, h = state.x, state.h
        final.append(h)
    return x, weights, final
