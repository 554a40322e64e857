"""Guidance by a measurement y = A x + noise: Bayes' rule for a denoiser.

    ln p(x_t | y) = ln p(x_t) + ln p(y | x_t),   so   D_y = D + (sigma^2 / alpha) grad ln p(y | x_t).

With p(x | x_t) taken to be Gaussian of mean D and covariance C, y given x_t is Gaussian of covariance R = A C A' + s^2 I,
and

    D_y = D + w G A' R^-1 (y - A D),   G = (sigma^2 / alpha) J',   J = dD / dx_t.

By Tweedie's formula the covariance of p(x | x_t) is (sigma^2 / alpha) J, exactly. The methods differ in what they take for
C, and for G:

    mmps     C = (sigma^2 / alpha) J, in products with J only         exact for Gaussian data
    pigdm    C = r^2 I                                                one product with J
    dps      C = 0, with a step that is normalised by the residual    one product with J
    ddnm     C = G = r^2 I                                            no product with J

r^2 = sigma^2 s_d^2 / (alpha^2 s_d^2 + sigma^2) is the variance of x given x_t for white Gaussian data of variance s_d^2.
Where nothing was measured of a sample, D_y is D.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.float64 import to_float64
from langevin.diffusion.guidance.method import weight_at
from langevin.diffusion.measurement import Measurement
from langevin.diffusion.measurement.operator import solve_white
from langevin.diffusion.posterior import Point, Prediction
from langevin.diffusion.process.gaussian import Gaussian
from langevin.diffusion.shape import append_dims

NO_SIGNAL = 1e-5  # alpha / sigma below which x_t says nothing of x


@dataclass(frozen=True, kw_only=True)
class Linearised:
    """The mean D of b samples at x_t, and products with the transpose of its Jacobian.

    Args:
        mean: D (b, ...), without a gradient.
        alpha, sigma: of the process at t, (b,) float64.
        sigma_data: s_d, the standard deviation of data.
        back: v -> J' v, (b, ...) both.
    """

    mean: Tensor
    alpha: Tensor
    sigma: Tensor
    sigma_data: float
    back: Callable[[Tensor], Tensor]

    @property
    def tweedie(self) -> Tensor:
        """sigma^2 / alpha, to be broadcast over D; 0 where x_t says nothing of x."""
        ratio = self.sigma * self.sigma / self.alpha.clamp_min(1e-30)
        return self.over(torch.where(self.alpha < NO_SIGNAL * self.sigma, 0.0, ratio))

    @property
    def r2(self) -> Tensor:
        """r^2, see the module, to be broadcast over D."""
        signal, noise = (self.alpha * self.sigma_data) ** 2, self.sigma * self.sigma
        return self.over(noise * self.sigma_data**2 / (signal + noise))

    def over(self, values: Tensor) -> Tensor:
        """(b,) float64 values to be broadcast over D, of its type."""
        return append_dims(values, self.mean).to(self.mean)


Correction = Callable[[Linearised, Measurement], Tensor]  # D_y - D, (b, ...)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """`denoiser` made to agree with `condition.measurement`, by `condition.guidance[kind]`.

    Args:
        correction: D_y - D.
        gradients: whether it needs products with the Jacobian.
        linear: whether it needs a measurement that is linear.

    Raises:
        ValueError: (when called) a measurement that is not linear where the method needs one, times per position, or a
            prediction that is not a mean.
    """

    denoiser: Denoiser[Prediction]
    process: Gaussian
    kind: str
    correction: Correction
    gradients: bool = True
    linear: bool = True

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Prediction:
        guidance = None if condition is None else condition.guidance.get(self.kind)
        measurement = None if condition is None else condition.measurement
        if condition is None or guidance is None or measurement is None:
            return self.denoiser(x_t, t, condition)
        condition = replace(condition, measurement=None)
        weight = weight_at(guidance, t, self.process.schedule, neutral=0.0)
        if weight is None:
            return self.denoiser(x_t, t, condition)
        if self.linear and measurement.nonlinearity is not None:
            raise ValueError(f"{self.kind} is for measurements that are linear in x: choose dps, daps or particles")
        if t.ndim > 1:
            raise ValueError(f"{self.kind} takes one time per sample, got times per position")
        at = self.linearised(x_t, t, condition)
        change = self.correction(at, measurement)
        return Point(at.mean + append_dims(weight, change).to(change) * change)

    def linearised(self, x_t: Tensor, t: Tensor, condition: Condition | None) -> Linearised:
        """The mean at x_t, with products with the Jacobian if the method needs them."""
        with torch.set_grad_enabled(self.gradients):
            x = x_t.detach().requires_grad_(self.gradients)
            q = self.denoiser(x, t, condition)
        if not isinstance(q, Point):
            raise ValueError(
                f"{self.kind} guides the mean of continuous data, not {type(q).__name__.lower()} predictions"
            )

        def back(v: Tensor) -> Tensor:
            return torch.autograd.grad(q.mean, x, v, retain_graph=True)[0]

        alpha, sigma = self.process.schedule.alpha(to_float64(t)), self.process.schedule.sigma(to_float64(t))
        mean, sigma_data = q.mean.detach(), self.process.sigma_data
        return Linearised(mean=mean, alpha=alpha, sigma=sigma, sigma_data=sigma_data, back=back)


def white_solution(at: Linearised, measurement: Measurement, target: Tensor) -> Tensor:
    """u of (r^2 A A' + s^2 I) u = target, without calls of the network."""
    r2, s2 = (value.reshape(len(target)).to(target) for value in (at.r2, measurement.variance(target)))
    return solve_white(measurement.operator, target, r2, s2)
