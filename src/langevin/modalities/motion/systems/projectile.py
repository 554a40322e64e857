"""Bodies that are thrown."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from langevin.diffusion.noise import SampleNoise
from langevin.modalities.motion.systems.system import require_positive, require_time, uniform


@dataclass(frozen=True, kw_only=True)
class Projectile:
    """x'' = 0, y'' = -gravity, thrown from (0, 0) sideways and up, at speeds uniform on (0, speed).

    Args:
        dt: seconds between frames.
        substeps: steps of the integrator between frames.
        gravity: metres per second squared.
        speed: metres per second, of either direction.
    """

    kind: Literal["projectile"] = "projectile"
    dt: float = 0.02
    substeps: int = 4
    gravity: float = 9.81
    speed: float = 8.0

    def __post_init__(self) -> None:
        require_time(self.dt, self.substeps)
        require_positive(gravity=self.gravity, speed=self.speed)

    @property
    def columns(self) -> tuple[str, ...]:
        return ("x", "y")

    @property
    def joined(self) -> bool:
        return False

    def acceleration(self, x: Tensor) -> Tensor:
        return torch.tensor([0.0, -self.gravity], dtype=x.dtype, device=x.device).expand_as(x)

    def energy(self, x: Tensor, v: Tensor) -> Tensor:
        """v^2 / 2 + gravity y."""
        return v.square().sum(-1) / 2 + self.gravity * x[..., 1]

    def start(self, noise: SampleNoise, count: int) -> tuple[Tensor, Tensor]:
        return torch.zeros(count, 2, dtype=torch.float64), uniform(noise.fork(1), count, 2, 0.0, self.speed)

    def allowed(self, x: Tensor) -> Tensor:
        return torch.ones(len(x), dtype=torch.bool, device=x.device)

    def points(self, x: Tensor) -> Tensor:
        return x[..., None, :]
