"""What the equation ends in: the prior that sampling starts from.

    Normal       N(0, std^2): an equation that ends as an Ornstein-Uhlenbeck process, by nature or by `blend`
    Stationary   e^-energy: the law that a gradient drift f = -g^2 grad(energy) / 2 leaves unchanged
    Reservoir    simulated end points, each drawn with a little Gaussian noise (a kernel density estimate)

None is more than a claim; `Gap` says how far the simulation's end is from it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from langevin.diffusion.chain.density import Density
from langevin.diffusion.chain.move import Adjusted, Place
from langevin.diffusion.noise import Noise
from langevin.diffusion.process.drift.equation import Field, call
from langevin.diffusion.shape import right_pad


@dataclass(frozen=True, kw_only=True)
class Normal:
    """N(0, std^2 I)."""

    kind: Literal["normal"] = "normal"
    std: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.std < math.inf:
            raise ValueError(f"the width of the end law must be positive and finite, got {self.std}")

    @property
    def name(self) -> str:
        return f"N(0, {self.std:.3g}^2)"

    def draw(self, like: Tensor, noise: Noise) -> Tensor:
        return self.std * noise.normal(like)

    def log_density(self, x: Tensor) -> Tensor:
        """(b,) float64, normalised."""
        z = (x.double() / self.std).flatten(1)
        return -0.5 * z.square().sum(1) - z.shape[1] * (math.log(self.std) + 0.5 * math.log(2 * math.pi))


@dataclass(frozen=True, kw_only=True)
class Stationary:
    """p proportional to e^-energy, a chain of adjusted Langevin moves for each row, from N(0, start^2).

    Args:
        energy: x (b, ...) -> (b,).
        moves: of each chain, of which the first half adapts its step.
    """

    energy: Callable[[Tensor], Tensor]
    start: float = 1.0
    moves: int = 120
    size: float = 0.3

    @property
    def name(self) -> str:
        return "its stationary law"

    def draw(self, like: Tensor, noise: Noise) -> Tensor:
        density, move = Density.of_energy(self.energy), Adjusted(size=self.size)
        with torch.no_grad():
            place = Place.at(density, self.start * noise.fork(-1).normal(like), self.size)
            for k in range(self.moves):
                place = move(density, place, noise.fork(k), warm=0.1 if 2 * k < self.moves else 0.0)
        return place.x

    def log_density(self, x: Tensor) -> Tensor:
        """(b,) float64, normalised on the line alone.

        Raises:
            ValueError: of more than one number a row its constant is not known."""
        if x[0].numel() != 1:
            raise ValueError(
                "a stationary law of several numbers is known up to its constant only; end in a Normal for ln p"
            )
        reach = torch.linspace(-1, 1, 20001, dtype=torch.float64) * max(20 * self.start, 2 * float(x.abs().max()))
        weights = (-self.energy(reach.reshape(-1, *x.shape[1:]))).double()
        constant = weights.logsumexp(0) + math.log(float(reach[1] - reach[0]))
        return -self.energy(x.double()).double() - constant


@dataclass(frozen=True, kw_only=True, eq=False)
class Reservoir:
    """Simulated end points (n, ...); a draw is one of them and Gaussian noise of width `jitter`."""

    points: Tensor
    jitter: float

    @classmethod
    def of(cls, points: Tensor) -> "Reservoir":
        """With Silverman's width, (4 / (d + 2) / n)^(1 / (d + 4)) times the spread."""
        d, n = points[0].numel(), len(points)
        return cls(
            points=points, jitter=float(points.double().flatten(1).std(0).mean()) * (4 / (d + 2) / n) ** (1 / (d + 4))
        )

    @property
    def name(self) -> str:
        return f"{len(self.points)} simulated end points"

    def draw(self, like: Tensor, noise: Noise) -> Tensor:
        u = noise.fork(1).uniform(like.flatten(1)[:, :1])[:, 0]
        chosen = self.points.to(like.device)[(u * len(self.points)).long()]
        return chosen.to(like.dtype) + self.jitter * noise.fork(2).normal(like)

    def log_density(self, x: Tensor) -> Tensor:
        """(b,) float64: the kernel density estimate."""
        d = x[0].numel()
        far = torch.cdist(x.double().flatten(1), self.points.double().flatten(1)) / self.jitter
        each = -0.5 * far.square() - d * (math.log(self.jitter) + 0.5 * math.log(2 * math.pi))
        return each.logsumexp(1) - math.log(len(self.points))


AnyEnd = Normal | Stationary | Reservoir


def blend(f: Field, *, g: float, horizon: float, start: float = 0.7, decay: float = 5.0) -> tuple[Field, Normal]:
    """The drift turned into -k x over the last part of the time, and the Gaussian that it then ends in.

    From `start` (a share of the horizon) the weight of -k x rises smoothly to 1 half-way to the end; from there on the
    process is Ornstein-Uhlenbeck for `decay` of its relaxation times, and forgets where it was up to e^-decay.

    Raises:
        ValueError: a start outside (0, 1)."""
    if not 0 < start < 1 or not decay > 0:
        raise ValueError(
            f"blending starts at a share of the time between 0 and 1, got {start}, and decays, got {decay}"
        )
    half = 0.5 * (1 - start) * horizon
    k = decay / half

    def blended(x: Tensor, time: Tensor) -> Tensor:
        u = right_pad(((time - start * horizon) / half).clamp(0, 1), x)
        w = u * u * (3 - 2 * u)
        return (1 - w) * call(f, x, time) - w * k * x

    return blended, Normal(std=g / math.sqrt(2 * k))
