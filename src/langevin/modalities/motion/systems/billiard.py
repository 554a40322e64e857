"""Elastic balls in a box."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from langevin.diffusion.noise import SampleNoise
from langevin.modalities.motion.systems.system import require_positive, require_time, uniform

EXPONENT = 2.5  # of Hertz's contact: the energy of a dent of depth s is proportional to s^(5/2)


@dataclass(frozen=True, kw_only=True)
class Billiard:
    """n equal balls in a square box, which repel each other and the walls by Hertz's contact of elastic spheres: the force
    is stiffness s^(3/2) for a dent of depth s. A contact takes some frames, so energy and momentum pass between them.

    Args:
        dt: seconds between frames.
        substeps: steps of the integrator between frames.
        balls: n.
        radius: of a ball; the box reaches from 0 to 1 in either direction.
        stiffness: of a contact, for balls of mass 1.
        speed: of a ball in the beginning, at most, along either direction.
    """

    kind: Literal["billiard"] = "billiard"
    dt: float = 0.05
    substeps: int = 10
    balls: int = 2
    radius: float = 0.15
    stiffness: float = 300.0
    speed: float = 0.6

    def __post_init__(self) -> None:
        require_time(self.dt, self.substeps)
        require_positive(radius=self.radius, stiffness=self.stiffness, speed=self.speed)
        if not 1 <= self.balls <= 16 or self.radius > 0.4 or self.balls * (2 * self.radius) ** 2 > 0.5:
            raise ValueError(
                f"data.source has 1 to 16 balls that fill up to half of the box, got {self.balls} of radius {self.radius:g}"
            )

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(f"{axis}{i + 1}" for i in range(self.balls) for axis in "xy")

    @property
    def joined(self) -> bool:
        return False

    def _apart(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors (..., pairs, 2) from the second to the first ball of each pair, and their lengths."""
        first, second = torch.triu_indices(self.balls, self.balls, 1, device=x.device)
        balls = x.unflatten(-1, (self.balls, 2))
        apart = balls[..., first, :] - balls[..., second, :]
        return apart, (apart.square().sum(-1) + 1e-20).sqrt()

    def acceleration(self, x: Tensor) -> Tensor:
        walls = _hertz((self.radius - x).clamp_min(0)) - _hertz((x - (1 - self.radius)).clamp_min(0))
        if self.balls == 1:
            return self.stiffness * walls
        apart, distance = self._apart(x)
        push = (_hertz((2 * self.radius - distance).clamp_min(0)) / distance)[..., None] * apart
        first, second = torch.triu_indices(self.balls, self.balls, 1, device=x.device)
        signs = torch.eye(self.balls, dtype=x.dtype, device=x.device)[:, first]
        signs = signs - torch.eye(self.balls, dtype=x.dtype, device=x.device)[:, second]  # (n, pairs)
        return self.stiffness * (walls + (signs @ push).flatten(-2))

    def energy(self, x: Tensor, v: Tensor) -> Tensor:
        """v^2 / 2 + stiffness s^(5/2) / (5/2), over all contacts."""
        low, high = (self.radius - x).clamp_min(0), (x - (1 - self.radius)).clamp_min(0)
        dents = (2 * self.radius - self._apart(x)[1]).clamp_min(0)
        stored = low.pow(EXPONENT).sum(-1) + high.pow(EXPONENT).sum(-1) + dents.pow(EXPONENT).sum(-1)
        return v.square().sum(-1) / 2 + self.stiffness / EXPONENT * stored

    def _touch(self, x: Tensor) -> Tensor:
        """Whether any two balls touch, (...,) bool."""
        return (self._apart(x)[1] < 2 * self.radius).any(-1)

    def start(self, noise: SampleNoise, count: int) -> tuple[Tensor, Tensor]:
        """Balls are put anew where two touch, up to 40 times; what still touches is not allowed."""
        edge = self.radius
        x = uniform(noise.fork(1), count, 2 * self.balls, edge, 1 - edge)
        for attempt in range(40):
            touching = self._touch(x)
            if not bool(touching.any()):
                break
            again = uniform(noise.fork(10 + attempt), count, 2 * self.balls, edge, 1 - edge)
            x = torch.where(touching[:, None], again, x)
        return x, uniform(noise.fork(2), count, 2 * self.balls, -self.speed, self.speed)

    def allowed(self, x: Tensor) -> Tensor:
        return ~self._touch(x[:, 0])

    def points(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.balls, 2))


def _hertz(dent: Tensor) -> Tensor:
    """s^(3/2), with a derivative that is finite at 0."""
    return dent * (dent + 1e-20).sqrt()
