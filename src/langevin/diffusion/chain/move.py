"""Langevin moves of a Markov chain: x' = x + h grad ln p(x) + sqrt(2 h) z, with or without Metropolis' correction.

Every chain has its own step size h. During warm-up MALA adapts it towards the acceptance rate that mixes fastest, 0.574
("Optimal Scaling of Discrete Approximations to Langevin Diffusions", 1998).
"""

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from langevin.diffusion.chain.density import Density
from langevin.diffusion.float64 import to_float64
from langevin.diffusion.noise import Noise
from langevin.diffusion.shape import append_dims, format_values

IDEAL = 0.574  # acceptance rate


@dataclass(frozen=True, kw_only=True)
class ChainState:
    """The state of b chains: x (b, ...), ln p (b,), its gradient (b, ...), the step size h (b,), and the probability
    `taken` (b,) with which the last move was accepted."""

    x: Tensor
    log_p: Tensor
    slope: Tensor
    h: Tensor
    taken: Tensor

    @classmethod
    def at(cls, density: Density, x: Tensor, h: float) -> "ChainState":
        """Chains that start at x with step size h.

        Raises:
            ValueError: p is 0 at a start."""
        log_p, slope = density(x)
        if bool((log_p == -math.inf).any()):
            i = int((log_p == -math.inf).nonzero()[0])
            raise ValueError(
                f"the density is 0 where a chain starts, at {format_values(x[i])}: start elsewhere, or widen the box"
            )
        sizes = torch.full_like(log_p, h)
        return cls(x=x, log_p=log_p, slope=slope, h=sizes, taken=torch.ones_like(sizes))


class Move(Protocol):
    """A step of every chain."""

    @property
    def size(self) -> float:
        """The initial step size h."""
        ...

    def __call__(self, density: Density, state: ChainState, noise: Noise, warm: float = 0.0) -> ChainState:
        """The state after one move of each chain.

        Args:
            warm: gain of the adaptation of h, for moves that adapt it; 0 keeps h.

        Raises:
            ValueError: what `Density` raises, or a chain diverges."""
        ...


def _require_size(size: float) -> None:
    if not 0 < size < math.inf:
        raise ValueError(f"the step size of a chain must be positive and finite, got {size}")


def _propose(state: ChainState, noise: Noise) -> tuple[Tensor, Tensor]:
    z = noise.fork(1).normal(state.x)
    h = append_dims(state.h, state.x).to(state.x)
    return state.x + h * state.slope + (2 * h).sqrt() * z, z


@dataclass(frozen=True, kw_only=True)
class ULA:
    """Unadjusted Langevin algorithm: x' = x + h grad ln p(x) + sqrt(2 h) z, with a bias of O(h). It rejects p(x') = 0."""

    kind: Literal["unadjusted"] = "unadjusted"
    size: float = 0.01

    def __post_init__(self) -> None:
        _require_size(self.size)

    def __call__(self, density: Density, state: ChainState, noise: Noise, warm: float = 0.0) -> ChainState:
        y, _ = _propose(state, noise)
        if not bool(y.isfinite().all()):
            i = int((~y.isfinite().flatten(1).all(1)).nonzero()[0])
            raise ValueError(
                f"a chain diverged from {format_values(state.x[i])}: take a step size smaller than {self.size:g}"
            )
        log_p, slope = density(y)
        inside = log_p > -math.inf
        wide = append_dims(inside, y).to(y.device)
        return ChainState(
            x=torch.where(wide, y, state.x),
            log_p=torch.where(inside, log_p, state.log_p),
            slope=torch.where(wide, slope, state.slope),
            h=state.h,
            taken=to_float64(inside),
        )


@dataclass(frozen=True, kw_only=True)
class MALA:
    """Metropolis-adjusted Langevin algorithm: x' is accepted with probability min(1, p(x') q(x | x') / (p(x) q(x' | x))),
    q(y | x) = N(y; x + h grad ln p(x), 2 h), which leaves p invariant.

    "Exponential Convergence of Langevin Distributions and Their Discrete Approximations" (1996)."""

    kind: Literal["adjusted"] = "adjusted"
    size: float = 0.1

    def __post_init__(self) -> None:
        _require_size(self.size)

    def __call__(self, density: Density, state: ChainState, noise: Noise, warm: float = 0.0) -> ChainState:
        y, z = _propose(state, noise)
        log_p, slope = density(y)
        h = append_dims(state.h, y).to(y)
        back = (state.x - y - h * slope) / (2 * h).sqrt()  # the z that would lead from y to x
        ratio = log_p - state.log_p + 0.5 * (to_float64(z).square() - to_float64(back).square()).flatten(1).sum(1)
        ratio = torch.where(
            state.log_p > -math.inf, ratio, 0.0
        )  # a state where p is 0, where annealing may start, is left
        probability = ratio.clamp_max(0).exp()
        accepted = noise.fork(2).uniform(probability[:, None])[:, 0] < probability
        wide = append_dims(accepted, y).to(y.device)
        return ChainState(
            x=torch.where(wide, y, state.x),
            log_p=torch.where(accepted, log_p, state.log_p),
            slope=torch.where(wide, slope, state.slope),
            h=state.h * torch.exp(warm * (probability - IDEAL)),
            taken=probability,
        )
