"""The protocol of a system, its simulation, and its equation of motion between frames.

Trajectories are simulated by the leapfrog method, which is symplectic: the energy it conserves differs from the true one by
O(h^2), for ever. Between frames, dt apart, a trajectory of x'' = a(x) obeys Numerov's equation up to O(dt^6),

    r_i = x_{i+1} - 2 x_i + x_{i-1} - dt^2 / 12 (a_{i+1} + 10 a_i + a_{i-1}) = 0,

in positions alone; velocities follow from positions, v_i = (x_{i+1} - x_{i-1}) / 2 dt - dt / 12 (a_{i+1} - a_{i-1}).
"""

from typing import Protocol

import torch
from torch import Tensor

from langevin.diffusion.noise import SampleNoise, mix

HEADROOM = 4  # trajectories that are begun at most, for each that is wanted


class System(Protocol):
    """A mechanical system x'' = a(x), x of d positions."""

    @property
    def kind(self) -> str:
        """Its name."""
        ...

    @property
    def dt(self) -> float:
        """Seconds between frames."""
        ...

    @property
    def substeps(self) -> int:
        """Steps of the integrator between frames."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the d positions."""
        ...

    def acceleration(self, x: Tensor) -> Tensor:
        """a(x), (..., d)."""
        ...

    def energy(self, x: Tensor, v: Tensor) -> Tensor:
        """The energy (...) at positions and velocities (..., d), above its least value."""
        ...

    def start(self, noise: SampleNoise, count: int) -> tuple[Tensor, Tensor]:
        """Positions and velocities (count, d) float64 in the beginning, one of each stream."""
        ...

    def allowed(self, x: Tensor) -> Tensor:
        """Which trajectories (n, frames, d) belong to the data, (n,) bool."""
        ...

    def points(self, x: Tensor) -> Tensor:
        """Where to draw the system: (..., k, 2) points of positions (..., d), joined to a line if `joined`."""
        ...

    @property
    def joined(self) -> bool:
        """Whether the points of a drawing are joined."""
        ...


def integrate(system: System, x: Tensor, v: Tensor, frames: int) -> Tensor:
    """Trajectories (n, frames, d) from positions and velocities (n, d), by leapfrog:

    v += h/2 a(x);  x += h v;  v += h/2 a(x),   h = dt / substeps."""
    h, found = system.dt / system.substeps, [x]
    a = system.acceleration(x)
    for _ in range(frames - 1):
        for _ in range(system.substeps):
            v = v + h / 2 * a
            x = x + h * v
            a = system.acceleration(x)
            v = v + h / 2 * a
        found.append(x)
    return torch.stack(found, 1)


def trajectories(system: System, count: int, frames: int, *, seed: int) -> Tensor:
    """The first `count` allowed trajectories (count, frames, d) float32; the i-th that is begun depends on (seed, i) alone.

    Raises:
        ValueError: too few of those that are begun are allowed."""
    kept, begun = list[Tensor](), 0
    while sum(map(len, kept)) < count and begun < HEADROOM * count + 64:
        rows = torch.arange(begun, begun + max(64, count - sum(map(len, kept))))
        noise = SampleNoise(seeds=mix(torch.full_like(rows, seed), rows), steps=torch.zeros_like(rows))
        x, v = system.start(noise, len(rows))
        made = integrate(system, x, v, frames)
        kept.append(made[system.allowed(made)].float())
        begun += len(rows)
    found = torch.cat(kept)[:count]
    if len(found) < count:
        raise ValueError(
            f"only {len(found):,} of {begun:,} trajectories of {system.kind} are as data.source allows: make starts milder"
        )
    return found


def residual(system: System, x: Tensor) -> Tensor:
    """r_i of the inner frames of trajectories (..., frames, d), (..., frames - 2, d): 0 on a trajectory."""
    a = system.acceleration(x)
    inner = x[..., 2:, :] - 2 * x[..., 1:-1, :] + x[..., :-2, :]
    return inner - system.dt**2 / 12 * (a[..., 2:, :] + 10 * a[..., 1:-1, :] + a[..., :-2, :])


def velocities(system: System, x: Tensor) -> Tensor:
    """Velocities (..., frames - 2, d) at the inner frames of trajectories (..., frames, d)."""
    a = system.acceleration(x)
    return (x[..., 2:, :] - x[..., :-2, :]) / (2 * system.dt) - system.dt / 12 * (a[..., 2:, :] - a[..., :-2, :])


def energies(system: System, x: Tensor) -> Tensor:
    """The energy (..., frames - 2) at the inner frames of trajectories (..., frames, d)."""
    return system.energy(x[..., 1:-1, :], velocities(system, x))


def uniform(noise: SampleNoise, count: int, width: int, low: float, high: float) -> Tensor:
    """(count, width) float64, uniform on (low, high)."""
    return low + (high - low) * noise.uniform(torch.empty(count, width, dtype=torch.float64)).cpu()


def require_time(dt: float, substeps: int) -> None:
    """Check a system's time steps. Raises `ValueError`."""
    if not 1e-4 <= dt <= 10 or not 1 <= substeps <= 1000:
        raise ValueError(f"data.source.dt is 0.0001 to 10 seconds and substeps 1 to 1000, got {dt:g} and {substeps}")


def require_positive(**values: float) -> None:
    """Check that parameters of a source are positive and finite. Raises `ValueError` with the first that is not."""
    for name, value in values.items():
        if not 0 < value < 1e9:
            raise ValueError(f"data.source.{name} must be positive and finite, got {value}")
