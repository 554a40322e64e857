"""Moment matching posterior sampling: the covariance of p(x | x_t) by Tweedie's formula ("Learning Diffusion Priors from
Observations by Expectation Maximization", 2024, arXiv:2405.13712), see `measured`.

R u = y - A D is solved by an iteration whose matrix products are R q = s^2 q + (sigma^2 / alpha) A J' A' q, one product
with the Jacobian each. The correction J' A' u is the sum of the products that the iteration made, with the coefficients of
u, so it costs no further one: k iterations cost one call of the network and k products. The solution for white data, which
costs none, is the preconditioner.
"""

from dataclasses import dataclass
from typing import Any, Literal, assert_never

import torch
from torch import Tensor

from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.float64 import to_float64
from langevin.diffusion.guidance.measured import Linearised, Measured, white_solution
from langevin.diffusion.guidance.method import Models, require_gaussian, require_usual
from langevin.diffusion.measurement import Measurement
from langevin.diffusion.measurement.operator import dot
from langevin.diffusion.posterior import Prediction
from langevin.diffusion.shape import append_dims


@dataclass(frozen=True, kw_only=True)
class MMPS:
    """Guidance by a linear measurement, see the module; exact for Gaussian data if the iteration has converged.

    Args:
        weight: w; 1 is Bayes' rule, 0 no guidance.
        interval: guide where low < sigma / alpha <= high; None is everywhere.
        iterations: products with the Jacobian per evaluation, at most.
        solver: "cg", preconditioned conjugate gradients, for the symmetric Jacobian of an exact denoiser; "gmres" for any.
        tolerance: |R u - (y - A D)| / |y - A D| at which a sample's iteration ends.
        several: more than one iteration where low < sigma / alpha <= high, in units of the data's standard deviation.
            Elsewhere hardly anything or nearly all is known of x, and its covariance is simple. Of `solver` cg.

    Raises:
        ValueError: a number out of range.
    """

    kind: Literal["mmps"] = "mmps"
    weight: float = 1.0
    interval: tuple[float, float] | None = None
    iterations: int = 2
    solver: Literal["cg", "gmres"] = "cg"
    tolerance: float = 0.1
    several: tuple[float, float] = (0.1, 20.0)

    def __post_init__(self) -> None:
        require_usual(self.weight, self.interval)
        if not 1 <= self.iterations <= 1000 or not 0 <= self.tolerance < 1:
            raise ValueError(
                f"mmps takes 1 to 1000 iterations and a tolerance in [0, 1), got {self.iterations} and {self.tolerance}"
            )

    @property
    def neutral(self) -> float:
        return 0.0

    def wrap(self, denoiser: Denoiser[Prediction], *, process: Any, models: Models) -> Measured:
        """See `Guidance.wrap`; needs a Gaussian process."""
        process = require_gaussian(process, self.kind)
        return Measured(denoiser=denoiser, process=process, kind=self.kind, correction=self.correction)

    def correction(self, at: Linearised, measurement: Measurement) -> Tensor:
        """D_y - D."""
        target = measurement.residual(at.mean)
        match self.solver:
            case "cg":
                return at.tweedie * self._cg(at, measurement, target)
            case "gmres":
                return at.tweedie * self._gmres(at, measurement, target)
            case _:
                assert_never(self.solver)

    @staticmethod
    def _product(at: Linearised, measurement: Measurement, q: Tensor) -> tuple[Tensor, Tensor]:
        """(J' A' q, R q)."""
        back = at.back(measurement.operator.adjoint(q))
        return back, measurement.variance(q) * q + measurement.operator.forward(at.tweedie * back)

    def _cg(self, at: Linearised, measurement: Measurement, target: Tensor) -> Tensor:
        """J' A' u by conjugate gradients, preconditioned by the inverse for white data, (r^2 A A' + s^2 I)^-1."""
        total, r = torch.zeros_like(at.mean), target
        p = z = white_solution(at, measurement, r)
        square, floor = dot(r, z), dot(r, r) * self.tolerance**2
        active = square > 0
        level = at.sigma / at.alpha.clamp_min(1e-30) / at.sigma_data
        several = ((level > self.several[0]) & (level <= self.several[1])).to(active.device)
        for k in range(self.iterations):
            active = active & (dot(r, r) > floor) & (several if k else True)
            if not bool(active.any()):
                break
            back, product = self._product(at, measurement, p)
            curvature = dot(p, product)
            active = active & (curvature > 0)  # the Jacobian of a network need not be positive: stop there
            step = torch.where(active, square / torch.where(active, curvature, 1.0), 0.0)
            total = total + append_dims(step, total) * back
            if k + 1 == self.iterations:
                break
            r = r - append_dims(step, r) * product
            z = white_solution(at, measurement, r)
            new = dot(r, z)
            p = z + append_dims(torch.where(active, new / torch.where(active, square, 1.0), 0.0), r) * p
            square = torch.where(active, new, square)
        return total

    def _gmres(self, at: Linearised, measurement: Measurement, target: Tensor) -> Tensor:
        """J' A' u by the generalised minimal residual: the u of the Krylov space with |target - R u| least."""
        size = dot(target, target).sqrt()
        basis = [target / append_dims(size.clamp_min(1e-30), target)]
        backs, columns = list[Tensor](), list[list[Tensor]]()
        for k in range(self.iterations):
            back, w = self._product(at, measurement, basis[k])
            backs.append(back)
            column = list[Tensor]()
            for q in basis:  # modified Gram-Schmidt
                column.append(dot(q, w))
                w = w - append_dims(column[-1], w) * q
            column.append(dot(w, w).sqrt())
            columns.append(column)
            small = column[-1] <= 1e-6 * sum(c.abs() for c in column)  # the space is invariant
            basis.append(torch.where(append_dims(small, w), 0.0, w / append_dims(column[-1].clamp_min(1e-30), w)))
        n = self.iterations
        h = target.new_zeros(len(target), n + 1, n)
        for k, column in enumerate(columns):
            h[:, : k + 2, k] = torch.stack(column, 1)
        e = target.new_zeros(len(target), n + 1)
        e[:, 0] = size
        inverse: Tensor = torch.linalg.pinv(to_float64(h), rtol=1e-10)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        y = (inverse @ to_float64(e)[..., None])[..., 0].to(target)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return torch.einsum("bk,kb...->b...", y, torch.stack(backs))
