"""Affine drifts f = A(t) x + b(t): recognised, and solved once.

x_t given x is Gaussian, N(Phi x + m, Sigma), with

    Phi' = A Phi,   m' = A m + b,   Sigma' = A Sigma + Sigma A^T + g^2 I,   from I, 0, 0,

integrated in float64 by the classical Runge-Kutta method; between its knots the cubic that has their values and slopes.
Ornstein-Uhlenbeck, variance-preserving, variance-exploding, anisotropic and critically damped equations all are.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch does not say the types of norms, splits, triangular solves and Fourier transforms)

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from langevin.diffusion.process.drift.equation import Field, Level, call, level

KNOTS = 512
LARGEST = 256  # numbers a row up to which matrices are kept


def is_affine(f: Field, *, horizon: float, like: Tensor, seed: int = 0) -> bool:
    """Whether f(x + y) + f(0) = f(x) + f(y) at random states of sizes 0.1 to 10, and random times, to rounding."""
    generator = torch.Generator().manual_seed(seed)
    rows = 24
    size = torch.logspace(-1, 1, rows, dtype=torch.float64)[torch.randperm(rows, generator=generator)]
    size = size.reshape(-1, *(1,) * (like.ndim - 1))
    shape = (rows, *like.shape[1:])
    x, y = (torch.randn(shape, dtype=torch.float64, generator=generator) * size for _ in range(2))
    time = torch.rand(rows, dtype=torch.float64, generator=generator) * horizon
    try:
        parts = [call(f, state, time) for state in (x + y, torch.zeros_like(x), x, y)]
    except ValueError:
        call(f, 0 * x, time)  # a shape that is wrong is wrong here too, and said; an explosion far out is not affine
        return False
    gap = (parts[0] + parts[1] - parts[2] - parts[3]).abs()
    scale = sum(part.abs() for part in parts)
    return bool((gap <= 1e-6 * (scale + 1e-12)).all())


@dataclass(frozen=True, kw_only=True, eq=False)
class Kernel:
    """The Gaussian law of x_t given x, of rows flattened to d numbers; tables (n + 1, ...) over t in [0, 1].

    Args:
        values: Phi (d, d), m (d, 1) and Sigma (d, d) side by side, (n + 1, d, 2d + 1).
        slopes: their derivatives by t.
    """

    values: Tensor
    slopes: Tensor

    @classmethod
    def solve(cls, f: Field, g: Level, *, horizon: float, like: Tensor, knots: int = KNOTS) -> "Kernel":
        """Integrate the three equations for rows of the shape of `like` (1, ...).

        Raises:
            ValueError: rows of more than `LARGEST` numbers."""
        d = like[0].numel()
        if d > LARGEST:
            raise ValueError(f"a closed form keeps {d} x {d} matrices; it is made for rows of up to {LARGEST} numbers")
        eye = torch.eye(d, dtype=torch.float64)
        ask = torch.cat([torch.zeros(1, d, dtype=torch.float64), eye]).reshape(d + 1, *like.shape[1:])

        def slope(t: float, y: Tensor) -> Tensor:
            time = torch.full((d + 1,), t * horizon, dtype=torch.float64)
            answer = call(f, ask, time).reshape(d + 1, d)
            b, a = answer[0], (answer[1:] - answer[0]).T
            phi, m, cov = y.split([d, 1, d], 1)
            noise = level(g, time[:1]).square() * eye
            return horizon * torch.cat([a @ phi, a @ m + b[:, None], a @ cov + cov @ a.T + noise], 1)

        y, h = torch.cat([eye, torch.zeros(d, d + 1, dtype=torch.float64)], 1), 1 / knots
        values, slopes = [y], [slope(0.0, y)]
        for i in range(knots):
            k1 = slopes[-1]
            k2 = slope((i + 0.5) * h, y + 0.5 * h * k1)
            k3 = slope((i + 0.5) * h, y + 0.5 * h * k2)
            k4 = slope((i + 1.0) * h, y + h * k3)
            y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
            values.append(y)
            slopes.append(slope((i + 1) * h, y))
        return cls(values=torch.stack(values), slopes=torch.stack(slopes))

    @cached_property
    def knots(self) -> int:
        return len(self.values) - 1

    def at(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Phi (b, d, d), m (b, d) and Sigma (b, d, d) at t (b,), float64."""
        i = (t.double() * self.knots).floor().clamp(0, self.knots - 1).long()
        u = (t.double() * self.knots - i)[:, None, None]
        v, w, a, b = self.values[i], self.values[i + 1], self.slopes[i] / self.knots, self.slopes[i + 1] / self.knots
        y = v + u * (a + u * (3 * (w - v) - 2 * a - b + u * (2 * (v - w) + a + b)))  # Hermite's cubic
        d = y.shape[1]
        phi, m, cov = y.split([d, 1, d], 2)
        return phi, m[..., 0], 0.5 * (cov + cov.mT)

    def draw(self, x: Tensor, t: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """x_t = Phi x + m + L z with Sigma = L L^T, and grad ln p(x_t | x) = -L^-T z, both of the shape of x."""
        phi, m, cov = self.at(t)
        tiny = 1e-300 + 1e-14 * cov.diagonal(dim1=1, dim2=2).amax(1)
        lower = torch.linalg.cholesky(cov + tiny[:, None, None] * torch.eye(cov.shape[1], dtype=cov.dtype))
        flat, z = x.double().flatten(1)[..., None], z.double().flatten(1)[..., None]
        moved = (phi @ flat + lower @ z)[..., 0] + m
        score = -torch.linalg.solve_triangular(lower.mT, z, upper=True)[..., 0]
        return moved.reshape(x.shape).to(x.dtype), score.reshape(x.shape).to(x.dtype)

    def spread(self, t: Tensor, sigma_data: float) -> Tensor:
        """Root mean square of x_t, (b,), for data of mean 0 and variance sigma_data^2 I."""
        phi, m, cov = self.at(t)
        total = sigma_data**2 * phi.square().sum((1, 2)) + m.square().sum(1) + cov.diagonal(dim1=1, dim2=2).sum(1)
        return (total / m.shape[1]).sqrt()
