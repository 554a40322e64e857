"""Multistep exponential integrators: the exact flow in lambda = ln(alpha / sigma) of a polynomial through past answers.

With u = lambda - lambda_t along a step of length h, noise share eta and kappa = 1 + eta,

    x_s = (sigma_s / sigma_t) e^{-eta h} x + alpha_s int_0^h kappa e^{-kappa (h - u)} D(u) du
          + sigma_s sqrt(1 - e^{-2 eta h}) n,

exact for the D(u) of degree k - 1 through the last k answers: weights c_j with sum_j c_j u_j^n = I_n, the moments of the
kernel. eta = 0 follows the flow, eta = 1 the standard reverse equation ("SEEDS", 2023; "SA-Solver", 2023).

"DPM-Solver++" (2022) writes the integral with divided differences D_1, D_2 of the answers,

    2M   alpha_s (E D + E / 2 D_1)              E = 1 - e^{-kappa h}: the midpoint form, second order like the exact one
    3M   alpha_s (E D + psi_1 D_1 + psi_2 D_2)  psi_1 = 1 - E / h, psi_2 = 1 / 2 - (h - E) / h^2

and the published 3M lacks a factor of 2: h^2 D'' is twice the second divided difference that it calls D_2. So it is a
method of second order with a small constant, often the better one in few steps; `Exponential(order=3)` is the exact one.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from langevin.diffusion.posterior import Point
from langevin.diffusion.process.gaussian import Gaussian
from langevin.diffusion.sampler.linear import Rows, Steps, begin, interpolation, ramp, update
from langevin.diffusion.sampler.state import State


def kernel_moments(z: Tensor, count: int) -> list[Tensor]:
    """J_n = z int_0^1 e^{-z (1 - v)} v^n dv for n < count: I_n = h^n J_n at z = kappa h, for z >= 0 or small.

    By the series sum_m (-1)^m z^(m+1) n! / (n + m + 1)! below 1, where J_n = 1 - n J_{n-1} / z cancels."""
    found: list[Tensor] = []
    small = z.abs() < 1
    near, far = torch.where(small, z, 0.0), torch.where(small, 1.0, z)
    for n in range(count):
        term, series = near / (n + 1), torch.zeros_like(z)
        for m in range(1, 20):
            series = series + term
            term = -term * near / (n + m + 1)
        whole = -torch.expm1(-far) if n == 0 else 1 - n * found[-1] / far
        found.append(torch.where(small, series, whole))
    return found


def answer_weights(steps: Steps, order: Tensor, most: int, *, eta: float = 0.0, ahead: bool = False) -> list[Tensor]:
    """Weights on the answer at t and on those before it, in units of alpha_s, float64; with `ahead` one node more, at s,
    whose weight comes first (the corrector of an implicit step)."""
    h = torch.where(steps.regular, steps.h, 1.0)
    nodes = [torch.ones_like(h)] if ahead else []
    nodes += [(steps.lag(steps.lambda_t, j) - steps.lambda_t) / h if j else torch.zeros_like(h) for j in range(most)]
    nodes = [torch.where(node.isfinite(), node, 0.0) for node in nodes]
    weights = interpolation(nodes, kernel_moments((1 + eta) * h, len(nodes)), order + ahead)
    alone = [torch.ones_like(h) if j == 0 else torch.zeros_like(h) for j in range(len(nodes))]
    return [torch.where(steps.regular, w, one) for w, one in zip(weights, alone, strict=True)]


def drift_and_noise(steps: Steps, eta: float) -> tuple[Tensor, Tensor, Tensor]:
    """(weight of x, 1 - e^{-kappa h}, weight of noise); a step of no length keeps x."""
    h = steps.h
    a, _ = steps.first_order()
    still = h == 0
    lost = torch.where(still, 0.0, -torch.expm1(-(1 + eta) * h))
    if eta == 0:
        return a, lost, torch.zeros_like(h)
    a = torch.where(still, 1.0, a * torch.exp(-eta * h))
    return a, lost, torch.where(still, 0.0, steps.sigma_s * (-torch.expm1(-2 * eta * h)).clamp_min(0).sqrt())


def _require(eta: float, order: int) -> None:
    if not (0 <= eta < math.inf):
        raise ValueError(f"eta is a share of fresh noise, not negative and finite, got {eta}")
    if not 1 <= order <= 6:
        raise ValueError(f"multistep solvers here have orders 1 to 6, got {order}")


@dataclass(frozen=True, kw_only=True)
class Exponential:
    """The exact integrator of any order and any noise, one call a step.

    Args:
        max_order: answers that it looks at.
        eta: fresh noise; 0 follows the flow. With noise the order in law is 2 at most, whatever `max_order`.
        full_start: begin at the full order, at the price of max_order - 2 calls more; without, the order rises from 1 along
            the first steps, and what they cost is that of order 2.
        lower_order_final: let the order fall to 1 along a row's last steps: steadier, and of order 2 in all.
    """

    process: Gaussian
    max_order: int = 3
    eta: float = 0.0
    full_start: bool = True
    lower_order_final: bool = False
    kind: Literal["exponential"] = "exponential"

    def __post_init__(self) -> None:
        _require(self.eta, self.max_order)

    @property
    def order(self) -> int | None:
        if self.eta > 0:
            return None
        whole = self.full_start and not self.lower_order_final
        return self.max_order if whole else min(2, self.max_order)

    def begin(self, state: State) -> State:
        times = state.times
        if self.full_start and self.eta == 0:
            times = ramp(self.process.schedule, times, self.max_order)
        steps = Steps.of(self.process.schedule, times)
        order = steps.order(self.max_order, lower_final=self.lower_order_final)
        a, lost, noise = drift_and_noise(steps, self.eta)
        weights = answer_weights(steps, order, self.max_order, eta=self.eta)
        first = torch.where(
            steps.regular, weights[0], lost
        )  # one of infinite length keeps e^{-kappa h} = 0 of what was
        weights = [steps.alpha_s * w for w in (torch.where(steps.h == 0, 0.0, first), *weights[1:])]
        return begin(state, Rows(times=steps.t, weights=(a, *weights), noise=noise if self.eta > 0 else None))

    def update(self, state: State, q: Point) -> State:
        return update(state, q)


@dataclass(frozen=True, kw_only=True)
class DPM2M:
    """DPM-Solver++ 2M in its published midpoint form: second order, one call a step; with noise SDE-DPM-Solver++ 2M.

    Args:
        eta: fresh noise; 0 follows the flow, 1 the standard reverse equation.
        lower_order_final: take D alone on a row's last step; steadier at few steps under strong guidance, same order.
    """

    process: Gaussian
    eta: float = 0.0
    lower_order_final: bool = False
    kind: Literal["dpm2m"] = "dpm2m"

    def __post_init__(self) -> None:
        _require(self.eta, 2)

    @property
    def order(self) -> int | None:
        return 2 if self.eta == 0 else None

    def begin(self, state: State) -> State:
        steps = Steps.of(self.process.schedule, state.times)
        a, lost, noise = drift_and_noise(steps, self.eta)
        both = steps.order(2, lower_final=self.lower_order_final) > 1
        half_r = torch.where(both, 0.5 * steps.h / torch.where(both, steps.lag(steps.h, 1), 1.0), 0.0)
        b = steps.alpha_s * lost
        weights = (a, b * (1 + half_r), -b * half_r)
        return begin(state, Rows(times=steps.t, weights=weights, noise=noise if self.eta > 0 else None))

    def update(self, state: State, q: Point) -> State:
        return update(state, q)


@dataclass(frozen=True, kw_only=True)
class DPM3M:
    """DPM-Solver++ 3M as published: second order, see the module; begins as 2M does.

    Args:
        lower_order_final: let the order fall along a row's last steps.
    """

    process: Gaussian
    lower_order_final: bool = False
    kind: Literal["dpm3m"] = "dpm3m"

    @property
    def order(self) -> int | None:
        return 2

    def begin(self, state: State) -> State:
        steps = Steps.of(self.process.schedule, state.times)
        a, lost, _ = drift_and_noise(steps, 0.0)
        order = steps.order(3, lower_final=self.lower_order_final)
        exact = answer_weights(steps, order, 3)
        h = torch.where(steps.regular, steps.h, 1.0)
        j_0, _, j_2 = kernel_moments(h, 3)
        r_0, r_1 = (torch.where(order > j, steps.lag(steps.h, j) / h, 1.0) for j in (1, 2))
        # h^2 [i, i-1, i-2]: the second divided difference, by the answers that it is made of; 3M takes half of it
        second = (1 / (r_0 * (r_0 + r_1)), -1 / (r_0 * r_1), 1 / (r_1 * (r_0 + r_1)))
        three = [w - torch.where(order == 3, j_2 / 2 * d, 0.0) for w, d in zip(exact, second, strict=True)]
        half_r = 0.5 / r_0
        two = (j_0 * (1 + half_r), -j_0 * half_r, torch.zeros_like(h))
        alone = (lost, torch.zeros_like(h), torch.zeros_like(h))
        weights = [
            steps.alpha_s * torch.where(order == 3, w3, torch.where(order == 2, w2, w1))
            for w3, w2, w1 in zip(three, two, alone, strict=True)
        ]
        return begin(state, Rows(times=steps.t, weights=(a, *weights)))

    def update(self, state: State, q: Point) -> State:
        return update(state, q)
