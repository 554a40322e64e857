"""Affine drifts f = A(t) x + b(t): a test for them, and the Gaussian transition kernel in closed form.

x_t given x is Gaussian, N(Phi x + m, Sigma), with

    Phi' = A Phi,   m' = A m + b,   Sigma' = A Sigma + Sigma A^T + g^2 I,   from I, 0, 0,

integrated in float64 by the classical Runge-Kutta method, with cubic Hermite interpolation between its knots.
Ornstein-Uhlenbeck, variance-preserving, variance-exploding, anisotropic and critically damped SDEs are affine.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch does not say the types of norms, splits, triangular solves and Fourier transforms)

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from langevin.diffusion.float64 import to_float64
from langevin.diffusion.process.sde.equation import DiffusionCoefficient, Field, diffusion_at, drift_at

KNOTS = 512
LARGEST = 256  # dimensions up to which d x d matrices are stored


def is_affine(f: Field, *, duration: float, like: Tensor, seed: int = 0) -> bool:
    """Whether f(x + y) + f(0) = f(x) + f(y) to rounding, at random times and random states of scales 0.1 to 10."""
    generator = torch.Generator().manual_seed(seed)
    count = 24
    size = torch.logspace(-1, 1, count, dtype=torch.float64)[torch.randperm(count, generator=generator)]
    size = size.reshape(-1, *(1,) * (like.ndim - 1))
    shape = (count, *like.shape[1:])
    x, y = (torch.randn(shape, dtype=torch.float64, generator=generator) * size for _ in range(2))
    time = torch.rand(count, dtype=torch.float64, generator=generator) * duration
    try:
        parts = [drift_at(f, state, time) for state in (x + y, torch.zeros_like(x), x, y)]
    except ValueError:
        drift_at(f, 0 * x, time)  # raises for a wrong shape; a drift that explodes only far out is not affine
        return False
    gap = (parts[0] + parts[1] - parts[2] - parts[3]).abs()
    scale = sum(part.abs() for part in parts)
    return bool((gap <= 1e-6 * (scale + 1e-12)).all())


@dataclass(frozen=True, kw_only=True, eq=False)
class Kernel:
    """The Gaussian transition kernel of x_t given x, for samples flattened to d dimensions, as tables over t in [0, 1].

    Args:
        values: [Phi (d, d), m (d, 1), Sigma (d, d)] concatenated, (n + 1, d, 2d + 1).
        slopes: their derivatives by t, (n + 1, d, 2d + 1).
    """

    values: Tensor
    slopes: Tensor

    @classmethod
    def solve(cls, f: Field, g: DiffusionCoefficient, *, duration: float, like: Tensor, knots: int = KNOTS) -> "Kernel":
        """Integrate the three equations for samples shaped like those of `like` (1, ...).

        Raises:
            ValueError: more than `LARGEST` dimensions."""
        d = like[0].numel()
        if d > LARGEST:
            raise ValueError(f"the closed form stores d x d matrices, for at most {LARGEST} dimensions; got {d}")
        eye = torch.eye(d, dtype=torch.float64)
        basis = torch.cat([torch.zeros(1, d, dtype=torch.float64), eye]).reshape(d + 1, *like.shape[1:])

        def slope(t: float, y: Tensor) -> Tensor:
            time = torch.full((d + 1,), t * duration, dtype=torch.float64)
            value = drift_at(f, basis, time).reshape(d + 1, d)
            b, a = value[0], (value[1:] - value[0]).T
            phi, m, cov = y.split([d, 1, d], 1)
            noise = diffusion_at(g, time[:1]).square() * eye
            return duration * torch.cat([a @ phi, a @ m + b[:, None], a @ cov + cov @ a.T + noise], 1)

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
        """n, the number of intervals."""
        return len(self.values) - 1

    def at(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Phi (b, d, d), m (b, d) and Sigma (b, d, d) at t (b,), float64."""
        i = (to_float64(t) * self.knots).floor().clamp(0, self.knots - 1).long()
        u = (to_float64(t) * self.knots - i)[:, None, None]
        values, slopes = self.values.to(i.device), self.slopes.to(i.device)
        v, w, a, b = values[i], values[i + 1], slopes[i] / self.knots, slopes[i + 1] / self.knots
        y = v + u * (a + u * (3 * (w - v) - 2 * a - b + u * (2 * (v - w) + a + b)))  # cubic Hermite
        d = y.shape[1]
        phi, m, cov = y.split([d, 1, d], 2)
        return phi, m[..., 0], 0.5 * (cov + cov.mT)

    def draw(self, x: Tensor, t: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """x_t = Phi x + m + L z with Sigma = L L^T, and grad ln p(x_t | x) = -L^-T z, both of the shape of x."""
        phi, m, cov = self.at(t)
        tiny = 1e-300 + 1e-14 * cov.diagonal(dim1=1, dim2=2).amax(1)
        eye = torch.eye(cov.shape[1], dtype=cov.dtype, device=cov.device)
        lower = torch.linalg.cholesky(cov + tiny[:, None, None] * eye)
        flat, z = to_float64(x).flatten(1)[..., None], to_float64(z).flatten(1)[..., None]
        moved = (phi @ flat + lower @ z)[..., 0] + m
        score = -torch.linalg.solve_triangular(lower.mT, z, upper=True)[..., 0]
        return moved.reshape(x.shape).to(x), score.reshape(x.shape).to(x)

    def rms_at(self, t: Tensor, sigma_data: float) -> Tensor:
        """Root mean square of x_t, (b,), for data of mean 0 and variance sigma_data^2 I."""
        phi, m, cov = self.at(t)
        total = sigma_data**2 * phi.square().sum((1, 2)) + m.square().sum(1) + cov.diagonal(dim1=1, dim2=2).sum(1)
        return (total / m.shape[1]).sqrt()
