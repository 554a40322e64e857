"""A pendulum that swings and does not turn over."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from langevin.diffusion.noise import SampleNoise
from langevin.modalities.motion.systems.system import require_positive, require_time, uniform


@dataclass(frozen=True, kw_only=True)
class Pendulum:
    """theta'' = -frequency^2 sin theta, begun at angles and speeds uniform on (-angle, angle) and (-speed, speed).

    Args:
        dt: seconds between frames.
        substeps: steps of the integrator between frames.
        frequency: of small swings, in radians per second.
        angle: radians, below pi.
        speed: radians per second. Pendulums that turn over are left out.
    """

    kind: Literal["pendulum"] = "pendulum"
    dt: float = 0.1
    substeps: int = 10
    frequency: float = 1.0
    angle: float = 2.2
    speed: float = 1.2

    def __post_init__(self) -> None:
        require_time(self.dt, self.substeps)
        require_positive(frequency=self.frequency, angle=self.angle, speed=self.speed)
        if self.angle >= math.pi:
            raise ValueError(f"data.source.angle is below pi, got {self.angle}: a pendulum hangs at 0")

    @property
    def columns(self) -> tuple[str, ...]:
        return ("angle",)

    @property
    def joined(self) -> bool:
        return True

    def acceleration(self, x: Tensor) -> Tensor:
        return -(self.frequency**2) * x.sin()

    def energy(self, x: Tensor, v: Tensor) -> Tensor:
        """v^2 / 2 + frequency^2 (1 - cos theta)."""
        return (v.square() / 2 + self.frequency**2 * (1 - x.cos()))[..., 0]

    def start(self, noise: SampleNoise, count: int) -> tuple[Tensor, Tensor]:
        x = uniform(noise.fork(1), count, 1, -self.angle, self.angle)
        return x, uniform(noise.fork(2), count, 1, -self.speed, self.speed)

    def allowed(self, x: Tensor) -> Tensor:
        return x.abs().flatten(1).amax(1) < math.pi

    def points(self, x: Tensor) -> Tensor:
        """The pivot and the bob."""
        bob = torch.stack([x[..., 0].sin(), -x[..., 0].cos()], -1)
        return torch.stack([torch.zeros_like(bob), bob], -2)
