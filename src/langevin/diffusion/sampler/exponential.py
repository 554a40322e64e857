"""Multistep exponential integrators: the exact flow in lambda = ln(alpha / sigma) of a polynomial through past outputs.

With u = lambda - lambda_t along a step of length h, noise level eta and kappa = 1 + eta,

    x_s = (sigma_s / sigma_t) e^{-eta h} x_t + alpha_s int_0^h kappa e^{-kappa (h - u)} D(u) du
          + sigma_s sqrt(1 - e^{-2 eta h}) n,

exact for the polynomial D(u) of degree k - 1 through the last k outputs, at u_j: its weights c_j solve sum_j c_j u_j^n
= I_n, the moments of the kernel. eta = 0 is the probability flow, eta = 1 the standard reverse SDE ("SEEDS: Exponential
SDE Solvers for Fast High-Quality Sampling from Diffusion Models", 2023, arXiv:2305.14267; "SA-Solver: Stochastic Adams
Solver for Fast Sampling of Diffusion Models", 2023, arXiv:2309.05019).

"DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models" (2022, arXiv:2211.01095) writes the
integral with divided differences D_1, D_2 of the outputs,

    2M   alpha_s (E D + E / 2 D_1)              E = 1 - e^{-kappa h}: the midpoint form, second order like the exact one
    3M   alpha_s (E D + psi_1 D_1 + psi_2 D_2)  psi_1 = 1 - E / h, psi_2 = 1 / 2 - (h - E) / h^2

The published 3M lacks a factor of 2: h^2 D'' is twice the second divided difference D_2. So it is second order, with a
small error constant that is often better in few steps. `Exponential(max_order=3)` is the exact third-order integrator.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from langevin.diffusion.posterior import Point
from langevin.diffusion.process.gaussian import Gaussian
from langevin.diffusion.sampler.linear import (
    CallTable,
    StepGeometry,
    init_linear,
    interpolation,
    linear_update,
    warmup_knots,
)
from langevin.diffusion.sampler.state import Processes, State


def kernel_moments(z: Tensor, count: int) -> list[Tensor]:
    """J_n = z int_0^1 e^{-z (1 - v)} v^n dv for n < count: I_n = h^n J_n at z = kappa h, for z >= 0 or small.

    By the series sum_m (-1)^m z^(m+1) n! / (n + m + 1)! below 1, where J_n = 1 - n J_{n-1} / z cancels."""
    moments: list[Tensor] = []
    small = z.abs() < 1
    near, far = torch.where(small, z, 0.0), torch.where(small, 1.0, z)
    for n in range(count):
        term, series = near / (n + 1), torch.zeros_like(z)
        for m in range(1, 20):
            series = series + term
            term = -term * near / (n + m + 1)
        recursion = -torch.expm1(-far) if n == 0 else 1 - n * moments[-1] / far
        moments.append(torch.where(small, series, recursion))
    return moments


def output_weights(
    steps: StepGeometry, order: Tensor, max_order: int, *, eta: float = 0.0, corrector: bool = False
) -> list[Tensor]:
    """Weights of the output at t and of earlier ones, in units of alpha_s, float64.

    With `corrector` the output at s is one more node; its weight comes first."""
    h = torch.where(steps.regular, steps.h, 1.0)
    nodes = [torch.ones_like(h)] if corrector else []
    nodes += [
        (steps.shift(steps.lambda_t, j) - steps.lambda_t) / h if j else torch.zeros_like(h) for j in range(max_order)
    ]
    nodes = [torch.where(node.isfinite(), node, 0.0) for node in nodes]
    weights = interpolation(nodes, kernel_moments((1 + eta) * h, len(nodes)), order + corrector)
    alone = [torch.ones_like(h) if j == 0 else torch.zeros_like(h) for j in range(len(nodes))]
    return [torch.where(steps.regular, w, one) for w, one in zip(weights, alone, strict=True)]


def linear_terms(steps: StepGeometry, eta: float) -> tuple[Tensor, Tensor, Tensor]:
    """(weight of x, E = 1 - e^{-kappa h}, weight of noise); a step of length 0 keeps x."""
    h = steps.h
    a, _ = steps.ddim_weights()
    still = h == 0
    lost = torch.where(still, 0.0, -torch.expm1(-(1 + eta) * h))
    if eta == 0:
        return a, lost, torch.zeros_like(h)
    a = torch.where(still, 1.0, a * torch.exp(-eta * h))
    return a, lost, torch.where(still, 0.0, steps.sigma_s * (-torch.expm1(-2 * eta * h)).clamp_min(0).sqrt())


def _require(eta: float, order: int) -> None:
    if not (0 <= eta < math.inf):
        raise ValueError(f"eta, the noise level, must be at least 0 and finite, got {eta}")
    if not 1 <= order <= 6:
        raise ValueError(f"max_order must be from 1 to 6, got {order}")


@dataclass(frozen=True, kw_only=True)
class Exponential:
    """The exact exponential multistep integrator, one function evaluation per step; see the module:

        x_s = (sigma_s / sigma_t) e^{-eta h} x_t + alpha_s sum_j c_j D_j + sigma_s sqrt(1 - e^{-2 eta h}) n

    with sum_j c_j D_j = int_0^h kappa e^{-kappa (h - u)} P(u) du, P the polynomial through the last `max_order` outputs.

    Args:
        max_order: number of outputs that are interpolated, 1 to 6.
        eta: noise level, 0 or more; 0 is the probability flow. With noise the weak order is at most 2.
        full_start: start at full order, for max_order - 2 more function evaluations. If False the order rises from 1 over
            the first steps, and the method is second order overall.
        lower_order_final: lower the order to 1 over the last steps: more stable, order 2 overall.

    Raises:
        ValueError: a number out of range.
    """

    kind: Literal["exponential"] = "exponential"
    max_order: int = 3
    eta: float = 0.0
    full_start: bool = True
    lower_order_final: bool = False
    processes: ClassVar[Processes] = (Gaussian,)

    def __post_init__(self) -> None:
        _require(self.eta, self.max_order)

    @property
    def convergence_order(self) -> int | None:
        if self.eta > 0:
            return None
        full = self.full_start and not self.lower_order_final
        return self.max_order if full else min(2, self.max_order)

    def begin(self, state: State, process: Gaussian) -> State:
        times = state.times
        if self.full_start and self.eta == 0:
            times = warmup_knots(process.schedule, times, self.max_order)
        steps = StepGeometry.of(process.schedule, times)
        order = steps.order(self.max_order, lower_final=self.lower_order_final)
        a, lost, noise = linear_terms(steps, self.eta)
        weights = output_weights(steps, order, self.max_order, eta=self.eta)
        first = torch.where(steps.regular, weights[0], lost)  # in a step of infinite length e^{-kappa h} = 0
        weights = [steps.alpha_s * w for w in (torch.where(steps.h == 0, 0.0, first), *weights[1:])]
        table = CallTable(times=steps.t, weights=(a, *weights), noise=noise if self.eta > 0 else None)
        return init_linear(state, table)

    def update(self, state: State, q: Point, process: Gaussian) -> State:
        return linear_update(state, q)


@dataclass(frozen=True, kw_only=True)
class DPM2M:
    """DPM-Solver++ 2M (2022, arXiv:2211.01095), second order, one function evaluation per step:

        x_s = (sigma_s / sigma_t) e^{-eta h} x_t + alpha_s (1 - e^{-(1 + eta) h}) (D + (D - D') / (2 r))
              + sigma_s sqrt(1 - e^{-2 eta h}) n,     r = h' / h,

    with D' and h' of the previous step. The first step, and one before or after a step of infinite length, use D alone.

    Args:
        eta: noise level, 0 or more; 0 is the probability flow, 1 SDE-DPM-Solver++ 2M.
        lower_order_final: use D alone in the last step: more stable with few steps and strong guidance, same order.

    Raises:
        ValueError: a negative or infinite eta.
    """

    kind: Literal["dpm2m"] = "dpm2m"
    eta: float = 0.0
    lower_order_final: bool = False
    processes: ClassVar[Processes] = (Gaussian,)

    def __post_init__(self) -> None:
        _require(self.eta, 2)

    @property
    def convergence_order(self) -> int | None:
        return 2 if self.eta == 0 else None

    def begin(self, state: State, process: Gaussian) -> State:
        steps = StepGeometry.of(process.schedule, state.times)
        a, lost, noise = linear_terms(steps, self.eta)
        second = steps.order(2, lower_final=self.lower_order_final) > 1
        half_r = torch.where(second, 0.5 * steps.h / torch.where(second, steps.shift(steps.h, 1), 1.0), 0.0)
        b = steps.alpha_s * lost
        weights = (a, b * (1 + half_r), -b * half_r)
        table = CallTable(times=steps.t, weights=weights, noise=noise if self.eta > 0 else None)
        return init_linear(state, table)

    def update(self, state: State, q: Point, process: Gaussian) -> State:
        return linear_update(state, q)


@dataclass(frozen=True, kw_only=True)
class DPM3M:
    """DPM-Solver++ 3M as published (2022, arXiv:2211.01095), second order (see the module), one evaluation per step:

        x_s = (sigma_s / sigma_t) x_t + alpha_s (E D_0 + psi_1 D_1 + psi_2 D_2),
        D_1 = D_1a + r_0 / (r_0 + r_1) (D_1a - D_1b),     D_2 = (D_1a - D_1b) / (r_0 + r_1),
        D_1a = (D_0 - D_{-1}) / r_0,     D_1b = (D_{-1} - D_{-2}) / r_1,

    with r_0 h and r_1 h the lengths of the two previous steps. The order rises from 1 over the first steps.

    Args:
        lower_order_final: lower the order to 1 over the last steps.
    """

    kind: Literal["dpm3m"] = "dpm3m"
    lower_order_final: bool = False
    processes: ClassVar[Processes] = (Gaussian,)

    @property
    def convergence_order(self) -> int | None:
        return 2

    def begin(self, state: State, process: Gaussian) -> State:
        steps = StepGeometry.of(process.schedule, state.times)
        a, lost, _ = linear_terms(steps, 0.0)
        order = steps.order(3, lower_final=self.lower_order_final)
        exact = output_weights(steps, order, 3)
        h = torch.where(steps.regular, steps.h, 1.0)
        j_0, _, j_2 = kernel_moments(h, 3)
        r_0, r_1 = (torch.where(order > j, steps.shift(steps.h, j) / h, 1.0) for j in (1, 2))
        # weights of the outputs in h^2 times the second divided difference, of which 3M takes half the exact multiple
        second = (1 / (r_0 * (r_0 + r_1)), -1 / (r_0 * r_1), 1 / (r_1 * (r_0 + r_1)))
        three = [w - torch.where(order == 3, j_2 / 2 * d, 0.0) for w, d in zip(exact, second, strict=True)]
        half_r = 0.5 / r_0
        two = (j_0 * (1 + half_r), -j_0 * half_r, torch.zeros_like(h))
        one = (lost, torch.zeros_like(h), torch.zeros_like(h))
        weights = [
            steps.alpha_s * torch.where(order == 3, w3, torch.where(order == 2, w2, w1))
            for w3, w2, w1 in zip(three, two, one, strict=True)
        ]
        return init_linear(state, CallTable(times=steps.t, weights=(a, *weights)))

    def update(self, state: State, q: Point, process: Gaussian) -> State:
        return linear_update(state, q)
