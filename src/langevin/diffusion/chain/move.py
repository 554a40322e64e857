"""One step of a chain that leaves p (nearly) unchanged: x' = x + h grad ln p(x) + sqrt(2 h) z.

    Unadjusted   takes x' as it is: a law that is off by O(h)
    Adjusted     takes x' with probability min(1, p(x') q(x | x') / (p(x) q(x' | x))), q(y | x) = N(y; x + h grad, 2 h):
                 exactly p ("Exponential Convergence of Langevin Distributions and Their Discrete Approximations", 1996)

Every chain has its own h (b,). While warming up an adjusted chain moves it towards the share of accepted moves that mixes
fastest, 0.574 ("Optimal Scaling of Discrete Approximations to Langevin Diffusions", 1998).
"""

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from langevin.diffusion.chain.density import Density
from langevin.diffusion.noise import Noise
from langevin.diffusion.shape import right_pad, state_of

IDEAL = 0.574


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where chains are: x (b, ...), ln p there (b,), its slope, the step h (b,), and the share of a move that was taken."""

    x: Tensor
    log_p: Tensor
    slope: Tensor
    h: Tensor
    taken: Tensor

    @classmethod
    def at(cls, density: Density, x: Tensor, h: float) -> "Place":
        """At the start.

        Raises:
            ValueError: p is 0 there."""
        log_p, slope = density(x)
        if bool((log_p == -math.inf).any()):
            row = int((log_p == -math.inf).nonzero()[0])
            raise ValueError(
                f"the density is 0 where a chain starts, at {state_of(x[row])}: start elsewhere, or widen the box"
            )
        rows = torch.full_like(log_p, h)
        return cls(x=x, log_p=log_p, slope=slope, h=rows, taken=torch.ones_like(rows))


class Move(Protocol):
    """A step of every chain; `warm` > 0 is the gain by which a chain that can adapts its step."""

    @property
    def size(self) -> float: ...
    def __call__(self, density: Density, place: Place, noise: Noise, warm: float = 0.0) -> Place: ...


def _require_size(size: float) -> None:
    if not 0 < size < math.inf:
        raise ValueError(f"the step of a chain must be positive and finite, got {size}")


def _propose(place: Place, noise: Noise) -> tuple[Tensor, Tensor]:
    z = noise.fork(1).normal(place.x)
    h = right_pad(place.h, place.x).to(place.x.dtype)
    return place.x + h * place.slope + (2 * h).sqrt() * z, z


@dataclass(frozen=True, kw_only=True)
class Unadjusted:
    """Langevin's step taken as it is; biased by O(size). Where p is 0 behind a wall, the chain stays."""

    kind: Literal["unadjusted"] = "unadjusted"
    size: float = 0.01

    def __post_init__(self) -> None:
        _require_size(self.size)

    def __call__(self, density: Density, place: Place, noise: Noise, warm: float = 0.0) -> Place:
        y, _ = _propose(place, noise)
        if not bool(y.isfinite().all()):
            row = int((~y.isfinite().flatten(1).all(1)).nonzero()[0])
            raise ValueError(
                f"a chain left {state_of(place.x[row])} for infinity: take a smaller step than {self.size:g}"
            )
        log_p, slope = density(y)
        inside = log_p > -math.inf
        wide = right_pad(inside, y)
        return Place(
            x=torch.where(wide, y, place.x),
            log_p=torch.where(inside, log_p, place.log_p),
            slope=torch.where(wide, slope, place.slope),
            h=place.h,
            taken=inside.double(),
        )


@dataclass(frozen=True, kw_only=True)
class Adjusted:
    """Langevin's step with Metropolis' test."""

    kind: Literal["adjusted"] = "adjusted"
    size: float = 0.1

    def __post_init__(self) -> None:
        _require_size(self.size)

    def __call__(self, density: Density, place: Place, noise: Noise, warm: float = 0.0) -> Place:
        y, z = _propose(place, noise)
        log_p, slope = density(y)
        h = right_pad(place.h, y).to(y.dtype)
        back = (place.x - y - h * slope) / (2 * h).sqrt()  # the z that would lead from y to x
        ratio = log_p - place.log_p + 0.5 * (z.double().square() - back.double().square()).flatten(1).sum(1)
        chance = ratio.clamp_max(0).exp()
        u = noise.fork(2).uniform(chance[:, None])[:, 0]
        take = u < chance
        wide = right_pad(take, y)
        return Place(
            x=torch.where(wide, y, place.x),
            log_p=torch.where(take, log_p, place.log_p),
            slope=torch.where(wide, slope, place.slope),
            h=place.h * torch.exp(warm * (chance - IDEAL)),
            taken=chance,
        )
