"""Adams-Bashforth methods for the probability flow dy / drho = eps, y = x / alpha, rho = sigma / alpha.

    y_s = y_t + int eps(rho) drho,  with eps the polynomial through the last k values.

The polynomial may run in any clock u(rho): in rho itself it is the variable-step Adams-Bashforth method (iPNDM_v), in the
time of the variance-preserving process it is DEIS, and `IPNDM` takes the coefficients of equal steps whatever the steps
are ("Fast Sampling of Diffusion Models with Exponential Integrator", 2022): second order only, and often the best of all in
few steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from langevin.diffusion.posterior import Point
from langevin.diffusion.process.gaussian import Gaussian
from langevin.diffusion.sampler.linear import Rows, Steps, begin, interpolation, ramp, update
from langevin.diffusion.sampler.state import State

EQUAL_STEPS = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
_NODES = ((-0.9602898564975363, 0.1012285362903763), (-0.7966664774136267, 0.2223810344533745),
          (-0.5255324099163290, 0.3137066458778873), (-0.1834346424956498, 0.3626837833783620))  # fmt: skip
GAUSS = (*_NODES, *((-x, w) for x, w in _NODES))  # Gauss-Legendre on [-1, 1], exact to degree 15


def rows_of(steps: Steps, shares: Sequence[Tensor]) -> Rows:
    """x_s = alpha_s (x / alpha_t + (rho_s - rho_t) sum_j shares_j eps_j); a step of infinite length is DDIM's, in D."""
    a, b = steps.first_order()
    regular = steps.regular
    alpha_t, sigma_t = (torch.where(regular, v, 1.0) for v in (steps.alpha_t, steps.sigma_t))
    step = steps.alpha_s * sigma_t / alpha_t * torch.expm1(-steps.h)  # alpha_s (rho_s - rho_t)
    weights = [torch.where(regular, step * share, 0.0) for share in shares]
    weights[0] = torch.where(regular, weights[0], b)
    slope = (
        torch.where(regular, 1 / sigma_t, 0.0),
        torch.where(regular, -alpha_t / sigma_t, 1.0),
    )  # (x - alpha D) / sigma
    return Rows(times=steps.t, weights=(torch.where(regular, steps.alpha_s / alpha_t, a), *weights), slope=slope)


@dataclass(frozen=True, kw_only=True)
class Adams:
    """Adams-Bashforth with variable steps, of any order, one call a step.

    Args:
        max_order: values that it looks at.
        clock: what the polynomial runs in: rho (iPNDM_v), or the time of the linear variance-preserving process (DEIS).
        full_start: begin at the full order, at the price of max_order - 2 calls more; without, the order rises from 1 along
            the first steps, and what they cost is that of order 2.
    """

    process: Gaussian
    max_order: int = 3
    clock: Literal["rho", "vp"] = "rho"
    full_start: bool = True
    kind: Literal["adams"] = "adams"

    def __post_init__(self) -> None:
        if not 1 <= self.max_order <= 6:
            raise ValueError(f"multistep solvers here have orders 1 to 6, got {self.max_order}")

    @property
    def order(self) -> int | None:
        return self.max_order if self.full_start else min(2, self.max_order)

    def begin(self, state: State) -> State:
        schedule = self.process.schedule
        steps = Steps.of(schedule, ramp(schedule, state.times, self.max_order) if self.full_start else state.times)
        regular, k = steps.regular, self.max_order
        now, h = torch.where(regular, steps.lambda_t, 0.0), torch.where(regular, steps.h, 1.0)
        place, length = self._clock(now), self._clock(now + h) - self._clock(now)
        before = [self._clock(torch.where(regular, steps.lag(steps.lambda_t, j), 0.0)) for j in range(k)]
        nodes = [(u - place) / length for u in before]
        nodes = [torch.where(node.isfinite(), node, 0.0) for node in nodes]
        shares = interpolation(nodes, self._moments(now, h, place, length), steps.order(k))
        return begin(state, rows_of(steps, shares))

    def _clock(self, half_log_snr: Tensor) -> Tensor:
        if self.clock == "rho":
            return torch.exp(-half_log_snr)
        z = -2 * half_log_snr  # B = ln(1 + rho^2) = ln(1 + e^z), B(t) = t / 10 + 9.95 t^2
        b = z.clamp_min(0) + torch.log1p(torch.exp(-z.abs()))
        return 2 * b / (0.1 + (0.01 + 4 * 9.95 * b).sqrt())

    def _moments(self, now: Tensor, h: Tensor, place: Tensor, length: Tensor) -> list[Tensor]:
        """int ((u - u_t) / (u_s - u_t))^n drho / (rho_s - rho_t): 1 / (n + 1) where u is rho, else by quadrature."""
        if self.clock == "rho":
            return [torch.full_like(now, 1 / (n + 1)) for n in range(self.max_order)]
        total = [torch.zeros_like(now) for _ in range(self.max_order)]
        start, way = torch.exp(-now), torch.exp(-now) * torch.expm1(-h)
        for x, w in GAUSS:
            ratio = start + (x + 1) / 2 * way
            v, power = (self._clock(-ratio.log()) - place) / length, torch.ones_like(now)
            for n in range(self.max_order):
                total[n] = total[n] + w / 2 * power
                power = power * v
        return total

    def update(self, state: State, q: Point) -> State:
        return update(state, q)


@dataclass(frozen=True, kw_only=True)
class IPNDM:
    """Adams-Bashforth with the coefficients of equal steps, one call a step; the order rises from 1 along the first steps.

    Args:
        max_order: values that it looks at, 1 to 4.
    """

    process: Gaussian
    max_order: int = 4
    kind: Literal["ipndm"] = "ipndm"

    def __post_init__(self) -> None:
        if not 1 <= self.max_order <= len(EQUAL_STEPS):
            raise ValueError(f"coefficients of equal steps are known for orders 1 to 4, got {self.max_order}")

    @property
    def order(self) -> int | None:
        return min(2, self.max_order)

    def begin(self, state: State) -> State:
        steps = Steps.of(self.process.schedule, state.times)
        table = torch.zeros(len(EQUAL_STEPS) + 1, self.max_order, dtype=torch.float64, device=state.times.device)
        for k, row in enumerate(EQUAL_STEPS[: self.max_order], 1):
            table[k, :k] = table.new_tensor(row)
        return begin(state, rows_of(steps, table[steps.order(self.max_order)].unbind(-1)))

    def update(self, state: State, q: Point) -> State:
        return update(state, q)
