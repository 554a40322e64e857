"""Masses on a line, joined by springs to each other and to walls at either end."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from langevin.diffusion.noise import SampleNoise
from langevin.modalities.motion.systems.system import require_positive, require_time, uniform


@dataclass(frozen=True, kw_only=True)
class Springs:
    """x_k'' = frequency^2 (x_{k-1} - 2 x_k + x_{k+1}), x_0 = x_{n+1} = 0: displacements of n masses from rest.

    Args:
        dt: seconds between frames.
        substeps: steps of the integrator between frames.
        masses: n.
        frequency: of one spring, in radians per second.
        amplitude: displacements in the beginning are uniform on (-amplitude, amplitude), at rest.
    """

    kind: Literal["springs"] = "springs"
    dt: float = 0.2
    substeps: int = 20
    masses: int = 3
    frequency: float = 1.0
    amplitude: float = 1.0

    def __post_init__(self) -> None:
        require_time(self.dt, self.substeps)
        require_positive(frequency=self.frequency, amplitude=self.amplitude)
        if not 1 <= self.masses <= 64:
            raise ValueError(f"data.source.masses is 1 to 64, got {self.masses}")

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(f"mass {i + 1}" for i in range(self.masses))

    @property
    def joined(self) -> bool:
        return True

    def acceleration(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (1, 1))
        return self.frequency**2 * (padded[..., :-2] - 2 * x + padded[..., 2:])

    def energy(self, x: Tensor, v: Tensor) -> Tensor:
        """v^2 / 2 + frequency^2 (differences of neighbours)^2 / 2."""
        padded = F.pad(x, (1, 1))
        return v.square().sum(-1) / 2 + self.frequency**2 * (padded[..., 1:] - padded[..., :-1]).square().sum(-1) / 2

    def start(self, noise: SampleNoise, count: int) -> tuple[Tensor, Tensor]:
        x = uniform(noise.fork(1), count, self.masses, -self.amplitude, self.amplitude)
        return x, torch.zeros_like(x)

    def allowed(self, x: Tensor) -> Tensor:
        return torch.ones(len(x), dtype=torch.bool, device=x.device)

    def points(self, x: Tensor) -> Tensor:
        """The walls and the masses, three stretches apart, on a line."""
        rest = torch.arange(self.masses + 2, dtype=x.dtype, device=x.device) * 3 * self.amplitude
        along = rest + F.pad(x, (1, 1))
        return torch.stack([along, torch.zeros_like(along)], -1)
