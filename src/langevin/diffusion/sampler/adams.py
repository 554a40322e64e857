"""Adams-Bashforth methods for the probability flow dy / drho = eps, y = x / alpha, rho = sigma / alpha.

    y_s = y_t + int eps(rho) drho,  with eps the polynomial through the last k values.

The polynomial can be in any variable u(rho). In rho itself this is variable-step Adams-Bashforth (iPNDM_v), in the time of
the variance-preserving process it is DEIS. `IPNDM` uses the coefficients of equal steps on any grid.
"""

from collections.abc import Callable, Sequence
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
from langevin.diffusion.schedule import AnySchedule

EQUAL_STEPS = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
_NODES = ((-0.9602898564975363, 0.1012285362903763), (-0.7966664774136267, 0.2223810344533745),
          (-0.5255324099163290, 0.3137066458778873), (-0.1834346424956498, 0.3626837833783620))  # fmt: skip
GAUSS = (*_NODES, *((-x, w) for x, w in _NODES))  # Gauss-Legendre on [-1, 1], exact to degree 15

Clock = Callable[[Tensor], Tensor]  # half log-SNR lambda -> u


def adams_table(steps: StepGeometry, coefficients: Sequence[Tensor]) -> CallTable:
    """x_s = alpha_s (x_t / alpha_t + (rho_s - rho_t) sum_j c_j eps_j); steps of infinite length are DDIM steps."""
    a, b = steps.ddim_weights()
    regular = steps.regular
    alpha_t, sigma_t = (torch.where(regular, v, 1.0) for v in (steps.alpha_t, steps.sigma_t))
    length = steps.alpha_s * sigma_t / alpha_t * torch.expm1(-steps.h)  # alpha_s (rho_s - rho_t)
    weights = [torch.where(regular, length * c, 0.0) for c in coefficients]
    weights[0] = torch.where(regular, weights[0], b)
    # eps = (x - alpha D) / sigma
    eps = torch.where(regular, 1 / sigma_t, 0.0), torch.where(regular, -alpha_t / sigma_t, 1.0)
    return CallTable(
        times=steps.t, weights=(torch.where(regular, steps.alpha_s / alpha_t, a), *weights), remembered=eps
    )


def in_clock(
    schedule: AnySchedule, times: Tensor, max_order: int, *, clock: Clock | None, full_start: bool
) -> CallTable:
    """The table of the method whose polynomial is in `clock`; None is rho itself, with moments in closed form."""
    steps = StepGeometry.of(schedule, warmup_knots(schedule, times, max_order) if full_start else times)
    regular, u = steps.regular, clock or _rho
    lambda_t, h = torch.where(regular, steps.lambda_t, 0.0), torch.where(regular, steps.h, 1.0)
    u_t, length = u(lambda_t), u(lambda_t + h) - u(lambda_t)
    past = [u(torch.where(regular, steps.shift(steps.lambda_t, j), 0.0)) for j in range(max_order)]
    nodes = [(u_j - u_t) / length for u_j in past]
    nodes = [torch.where(node.isfinite(), node, 0.0) for node in nodes]
    if clock is None:
        moments = [torch.full_like(lambda_t, 1 / (n + 1)) for n in range(max_order)]
    else:
        moments = _moments(clock, lambda_t, h, max_order)
    return adams_table(steps, interpolation(nodes, moments, steps.order(max_order)))


def _rho(half_log_snr: Tensor) -> Tensor:
    return torch.exp(-half_log_snr)


def vp_time(half_log_snr: Tensor) -> Tensor:
    """The time of the linear variance-preserving process, B(u) = u / 10 + 9.95 u^2, with B = ln(1 + rho^2)."""
    z = -2 * half_log_snr
    b = z.clamp_min(0) + torch.log1p(torch.exp(-z.abs()))
    return 2 * b / (0.1 + (0.01 + 4 * 9.95 * b).sqrt())


def _moments(clock: Clock, lambda_t: Tensor, h: Tensor, count: int) -> list[Tensor]:
    """int ((u - u_t) / (u_s - u_t))^n drho / (rho_s - rho_t), by quadrature in rho."""
    total = [torch.zeros_like(lambda_t) for _ in range(count)]
    u_t, length = clock(lambda_t), clock(lambda_t + h) - clock(lambda_t)
    rho_t, change = torch.exp(-lambda_t), torch.exp(-lambda_t) * torch.expm1(-h)
    for x, w in GAUSS:
        ratio = rho_t + (x + 1) / 2 * change
        v, power = (clock(-ratio.log()) - u_t) / length, torch.ones_like(lambda_t)
        for n in range(count):
            total[n] = total[n] + w / 2 * power
            power = power * v
    return total


def _require_order(max_order: int) -> None:
    if not 1 <= max_order <= 6:
        raise ValueError(f"max_order must be from 1 to 6, got {max_order}")


@dataclass(frozen=True, kw_only=True)
class Adams:
    """Variable-step Adams-Bashforth in rho (iPNDM_v), one function evaluation per step:

        x_s / alpha_s = x_t / alpha_t + int_{rho_t}^{rho_s} P(rho) drho,

    P the polynomial in rho through the last `max_order` values of eps = (x - alpha D) / sigma.

    Args:
        max_order: number of values that are interpolated, 1 to 6.
        full_start: start at full order, for max_order - 2 more function evaluations. If False the order rises from 1 over
            the first steps, and the method is second order overall.

    Raises:
        ValueError: max_order out of range.
    """

    kind: Literal["adams"] = "adams"
    max_order: int = 3
    full_start: bool = True
    processes: ClassVar[Processes] = (Gaussian,)

    def __post_init__(self) -> None:
        _require_order(self.max_order)

    @property
    def convergence_order(self) -> int | None:
        return self.max_order if self.full_start else min(2, self.max_order)

    def begin(self, state: State, process: Gaussian) -> State:
        table = in_clock(process.schedule, state.times, self.max_order, clock=None, full_start=self.full_start)
        return init_linear(state, table)

    def update(self, state: State, q: Point, process: Gaussian) -> State:
        return linear_update(state, q)


@dataclass(frozen=True, kw_only=True)
class DEIS:
    """tAB-DEIS ("Fast Sampling of Diffusion Models with Exponential Integrator", 2022, arXiv:2204.13902):

        x_s / alpha_s = x_t / alpha_t + int_{u_t}^{u_s} P(u) (drho / du) du,

    P the polynomial through the last `max_order` values of eps in u, the time of the linear variance-preserving process.

    Args:
        max_order, full_start: as for `Adams`.

    Raises:
        ValueError: max_order out of range.
    """

    kind: Literal["deis"] = "deis"
    max_order: int = 3
    full_start: bool = True
    processes: ClassVar[Processes] = (Gaussian,)

    def __post_init__(self) -> None:
        _require_order(self.max_order)

    @property
    def convergence_order(self) -> int | None:
        return self.max_order if self.full_start else min(2, self.max_order)

    def begin(self, state: State, process: Gaussian) -> State:
        table = in_clock(process.schedule, state.times, self.max_order, clock=vp_time, full_start=self.full_start)
        return init_linear(state, table)

    def update(self, state: State, q: Point, process: Gaussian) -> State:
        return linear_update(state, q)


@dataclass(frozen=True, kw_only=True)
class IPNDM:
    """iPNDM: Adams-Bashforth with the coefficients of equal steps on any grid ("Fast Sampling of Diffusion Models with
    Exponential Integrator", 2022, arXiv:2204.13902). For max_order 4, with eps_j the value j steps earlier,

        x_s / alpha_s = x_t / alpha_t + (rho_s - rho_t) (55 eps_0 - 59 eps_1 + 37 eps_2 - 9 eps_3) / 24.

    It is second order, and often the best in few steps. The order rises from 1 over the first steps.

    Args:
        max_order: number of values that are combined, 1 to 4.

    Raises:
        ValueError: max_order out of range.
    """

    kind: Literal["ipndm"] = "ipndm"
    max_order: int = 4
    processes: ClassVar[Processes] = (Gaussian,)

    def __post_init__(self) -> None:
        if not 1 <= self.max_order <= len(EQUAL_STEPS):
            raise ValueError(f"max_order of iPNDM must be from 1 to 4, got {self.max_order}")

    @property
    def convergence_order(self) -> int | None:
        return min(2, self.max_order)

    def begin(self, state: State, process: Gaussian) -> State:
        steps = StepGeometry.of(process.schedule, state.times)
        table = torch.zeros(len(EQUAL_STEPS) + 1, self.max_order, dtype=torch.float64, device=state.times.device)
        for k, row in enumerate(EQUAL_STEPS[: self.max_order], 1):
            table[k, :k] = table.new_tensor(row)
        return init_linear(state, adams_table(steps, table[steps.order(self.max_order)].unbind(-1)))

    def update(self, state: State, q: Point, process: Gaussian) -> State:
        return linear_update(state, q)
