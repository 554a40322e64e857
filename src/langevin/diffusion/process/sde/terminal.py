"""Terminal distributions of an SDE: the prior that sampling starts from.

They are assumptions; `PriorMismatch` measures how far the simulation ends from them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from langevin.diffusion.chain.density import Density
from langevin.diffusion.chain.move import MALA, ChainState
from langevin.diffusion.float64 import to_float64
from langevin.diffusion.noise import Noise
from langevin.diffusion.process.sde.equation import Field, drift_at
from langevin.diffusion.shape import append_dims


@dataclass(frozen=True, kw_only=True)
class GaussianTerminal:
    """N(0, std^2 I), for an SDE that ends as an Ornstein-Uhlenbeck process, by itself or by `blend`."""

    kind: Literal["normal"] = "normal"
    std: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.std < math.inf:
            raise ValueError(f"the standard deviation of the terminal must be positive and finite, got {self.std}")

    @property
    def name(self) -> str:
        return f"N(0, {self.std:.3g}^2)"

    def draw(self, like: Tensor, noise: Noise) -> Tensor:
        return self.std * noise.normal(like)

    def log_density(self, x: Tensor) -> Tensor:
        """(b,) float64, normalised."""
        z = (to_float64(x) / self.std).flatten(1)
        return -0.5 * z.square().sum(1) - z.shape[1] * (math.log(self.std) + 0.5 * math.log(2 * math.pi))


@dataclass(frozen=True, kw_only=True)
class StationaryTerminal:
    """p proportional to e^-energy, stationary under f = -g^2 grad(energy) / 2; drawn by a `MALA` chain per sample.

    Args:
        energy: x (b, ...) -> (b,).
        start: chains begin at N(0, start^2).
        moves: number of moves of each chain; the first half adapts the step size.
        size: initial step size.
    """

    energy: Callable[[Tensor], Tensor]
    start: float = 1.0
    moves: int = 120
    size: float = 0.3

    @property
    def name(self) -> str:
        return "its stationary distribution"

    def draw(self, like: Tensor, noise: Noise) -> Tensor:
        density, move = Density.of_energy(self.energy), MALA(size=self.size)
        with torch.no_grad():
            state = ChainState.at(density, self.start * noise.fork(-1).normal(like), self.size)
            for k in range(self.moves):
                state = move(density, state, noise.fork(k), warm=0.1 if 2 * k < self.moves else 0.0)
        return state.x

    def log_density(self, x: Tensor) -> Tensor:
        """(b,) float64, normalised by quadrature, in one dimension only.

        Raises:
            ValueError: more than one dimension."""
        if x[0].numel() != 1:
            raise ValueError(
                "a stationary distribution in several dimensions is known up to its constant only: use terminal normal "
                "or empirical for ln p"
            )
        reach = torch.linspace(-1, 1, 20001, dtype=torch.float64) * max(20 * self.start, 2 * float(x.abs().max()))
        weights = (-self.energy(reach.reshape(-1, *x.shape[1:]))).double()
        constant = weights.logsumexp(0) + math.log(float(reach[1] - reach[0]))
        return -to_float64(self.energy(to_float64(x))) - constant


@dataclass(frozen=True, kw_only=True, eq=False)
class EmpiricalTerminal:
    """A kernel density estimate from simulated end points (n, ...): a draw is one of them plus N(0, jitter^2)."""

    points: Tensor
    jitter: float

    @classmethod
    def of(cls, points: Tensor) -> "EmpiricalTerminal":
        """With Silverman's bandwidth, (4 / (d + 2) / n)^(1 / (d + 4)) times the standard deviation."""
        d, n = points[0].numel(), len(points)
        return cls(
            points=points,
            jitter=float(to_float64(points).flatten(1).std(0).mean()) * (4 / (d + 2) / n) ** (1 / (d + 4)),
        )

    @property
    def name(self) -> str:
        return f"{len(self.points)} simulated end points"

    def draw(self, like: Tensor, noise: Noise) -> Tensor:
        u = noise.fork(1).uniform(like.flatten(1)[:, :1])[:, 0]
        points = self.points.to(u.device)
        return points[(u * len(points)).long()].to(like) + self.jitter * noise.fork(2).normal(like)

    def log_density(self, x: Tensor) -> Tensor:
        """(b,) float64: the kernel density estimate."""
        d = x[0].numel()
        distance = torch.cdist(to_float64(x).flatten(1), to_float64(self.points).flatten(1)) / self.jitter
        log_kernel = -0.5 * distance.square() - d * (math.log(self.jitter) + 0.5 * math.log(2 * math.pi))
        return log_kernel.logsumexp(1) - math.log(len(self.points))


AnyTerminal = GaussianTerminal | StationaryTerminal | EmpiricalTerminal


def blend(
    drift: Field, *, diffusion: float, duration: float, start: float = 0.7, decay: float = 5.0
) -> tuple[Field, GaussianTerminal]:
    """The drift blended into -k x over the last part of the time, and the Gaussian in which it then ends.

    From `start` (a fraction of the duration) the weight of -k x rises smoothly and reaches 1 half-way to the end. From
    there on the process is Ornstein-Uhlenbeck for `decay` relaxation times, which leaves e^-decay of the initial state.

    Raises:
        ValueError: start outside (0, 1), or decay not positive."""
    if not 0 < start < 1 or not decay > 0:
        raise ValueError(
            f"blend needs start, a fraction of the duration, in (0, 1) and decay > 0, got {start} and {decay}"
        )
    half = 0.5 * (1 - start) * duration
    k = decay / half

    def blended(x: Tensor, time: Tensor) -> Tensor:
        u = append_dims(((time - start * duration) / half).clamp(0, 1), x)
        w = u * u * (3 - 2 * u)
        return (1 - w) * drift_at(drift, x, time) - w * k * x

    return blended, GaussianTerminal(std=diffusion / math.sqrt(2 * k))
