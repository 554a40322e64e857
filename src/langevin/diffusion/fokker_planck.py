"""The Fokker-Planck equation dp/dt = -div(f p) + g^2 / 2 lap p on a grid, in one or two dimensions: a reference for `SDE`.

Finite volumes with no flux through the boundary conserve mass. Between two cells, with D = g^2 / 2 and w = f dx / D,

    flux = D / dx (B(-w) p_i - B(w) p_{i+1}),   B(w) = w / (e^w - 1).

This is second order in dx, keeps p positive, and leaves e^{-2U/g^2} of a gradient drift f = -U' stationary ("A Practical
Difference Scheme for Fokker-Planck Equations", 1970). Heun's method steps in time, with at most 0.9 of the longest step for
which an explicit step keeps p positive.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from langevin.diffusion.process.sde.equation import DiffusionCoefficient, Field, diffusion_at, drift_at


@dataclass(frozen=True, kw_only=True)
class GridBox:
    """Cells of equal width between `low` and `high` in each of one or two dimensions."""

    low: float
    high: float
    cells: int
    dimensions: int = 1

    def __post_init__(self) -> None:
        if self.dimensions not in (1, 2) or self.cells < 3 or not self.low < self.high:
            raise ValueError(f"the grid has 1 or 2 dimensions of 3 or more cells from low to high, got {self}")

    @property
    def width(self) -> float:
        """Of one cell."""
        return (self.high - self.low) / self.cells

    @cached_property
    def centres(self) -> Tensor:
        """Cell centres along one dimension, (cells,) float64."""
        return self.low + self.width * (torch.arange(self.cells, dtype=torch.float64) + 0.5)

    @cached_property
    def points(self) -> Tensor:
        """Cell centres, (cells ** dimensions, dimensions)."""
        return torch.cartesian_prod(*[self.centres] * self.dimensions).reshape(-1, self.dimensions)

    def shaped(self, values: Tensor) -> Tensor:
        """Values at `points`, shaped (cells, ...)."""
        return values.reshape([self.cells] * self.dimensions)

    def density(self, log_p: Tensor) -> Tensor:
        """A normalised density (cells, ...) from ln p at `points`, up to a constant."""
        p = self.shaped((log_p.double() - log_p.double().max()).exp())
        return p / (p.sum() * self.width**self.dimensions)

    def histogram(self, x: Tensor) -> Tensor:
        """The density (cells, ...) of points (n, dimensions); those outside count to the nearest cell."""
        i = ((x.double().reshape(-1, self.dimensions) - self.low) / self.width).floor().clamp(0, self.cells - 1).long()
        cell = i[:, 0] if self.dimensions == 1 else i[:, 0] * self.cells + i[:, 1]
        counts = torch.bincount(cell, minlength=self.cells**self.dimensions).double()
        return self.shaped(counts / (len(x) * self.width**self.dimensions))


def _bernoulli(w: Tensor) -> Tensor:
    """B(w) = w / (e^w - 1)."""
    small = w.abs() < 1e-4
    safe = torch.where(small, 1.0, w)
    return torch.where(small, 1 - w / 2 + w * w / 12, safe / torch.expm1(safe))


def _faces(f: Field, box: GridBox, time: float) -> list[Tensor]:
    """The component of f normal to the inner faces, one tensor per dimension."""
    faces: list[Tensor] = []
    inner = box.low + box.width * torch.arange(1, box.cells, dtype=torch.float64)
    for axis in range(box.dimensions):
        sides = [inner if i == axis else box.centres for i in range(box.dimensions)]
        x = torch.cartesian_prod(*sides).reshape(-1, box.dimensions)
        value = drift_at(f, x, torch.full((len(x),), time, dtype=torch.float64))[:, axis]
        faces.append(value.reshape([len(side) for side in sides]))
    return faces


def _weights(faces: list[Tensor], diffusion: float, width: float) -> list[tuple[Tensor, Tensor]]:
    """Rates of mass transfer through each face, forward and backward, per unit of mass."""
    rate = diffusion / width**2
    return [(rate * _bernoulli(-v * width / diffusion), rate * _bernoulli(v * width / diffusion)) for v in faces]


def _change(p: Tensor, weights: list[tuple[Tensor, Tensor]]) -> Tensor:
    """dp/dt."""
    change = torch.zeros_like(p)
    for axis, (forward, backward) in enumerate(weights):
        n = p.shape[axis] - 1
        moved = forward * p.narrow(axis, 0, n) - backward * p.narrow(axis, 1, n)
        change.narrow(axis, 0, n).sub_(moved)
        change.narrow(axis, 1, n).add_(moved)
    return change


def _outflow(weights: list[tuple[Tensor, Tensor]], p: Tensor) -> float:
    """The largest rate at which a cell loses its mass."""
    total = torch.zeros_like(p)
    for axis, (forward, backward) in enumerate(weights):
        n = p.shape[axis] - 1
        total.narrow(axis, 0, n).add_(forward)
        total.narrow(axis, 1, n).add_(backward)
    return float(total.max())


def fokker_planck(
    f: Field, g: DiffusionCoefficient, p: Tensor, times: Sequence[float], *, box: GridBox, moving: bool = False
) -> list[Tensor]:
    """The densities (cells, ...) at rising `times`, starting from the density p at the first of them.

    Args:
        f: x (n, dimensions), t (n,) -> (n, dimensions).
        g: a number, or t (n,) -> (n,).
        moving: whether f depends on time; it is then evaluated at every step.

    Raises:
        ValueError: the times do not rise, p has another shape than the grid, or g is 0."""
    if tuple(p.shape) != tuple([box.cells] * box.dimensions) or any(b < a for a, b in pairwise(times)):
        raise ValueError(
            f"times must rise and the density must have the shape of the grid, got {times} and shape {tuple(p.shape)}"
        )
    densities, now, p = [p], times[0], p.double()
    faces = _faces(f, box, now)
    for until in times[1:]:
        while now < until - 1e-12:
            noise = float(diffusion_at(g, torch.tensor([now], dtype=torch.float64))[0])
            if noise <= 0:
                raise ValueError(f"the grid solver needs noise, g > 0, and g is {noise:.4g} at time {now:.4g}")
            faces = _faces(f, box, now) if moving else faces
            weights = _weights(faces, 0.5 * noise**2, box.width)
            longest = 0.9 / _outflow(weights, p)
            count = 1 if moving or callable(g) else math.ceil((until - now) / longest)
            h = min(longest, (until - now) / count)
            for _ in range(count):
                first = _change(p, weights)
                p = p + h / 2 * (first + _change(p + h * first, weights))
            now += h * count
        densities.append(p)
    return densities


def score_on_grid(p: Tensor, box: GridBox) -> Tensor:
    """The score grad ln p at cell centres, (cells, ..., dimensions), by central differences; one-sided at the edges."""
    slopes = torch.gradient(p.clamp_min(1e-300).log(), spacing=box.width)  # pyright: ignore[reportUnknownMemberType]
    return torch.stack(list(slopes), -1)
