"""Samplers of a Gaussian process as tables of coefficients.

Every such sampler is linear in the state, the denoiser's outputs and the noise. After a call (an evaluation of the denoiser
D) at x it moves to

    x' = c_x x + c_0 a_0 + c_1 a_1 + ... + c_m a_m + c_n n,

with n fresh noise, a_0 the output of this call, and a_1, a_2, ... those of earlier calls, the latest first. a_j is D itself
or, for solvers that interpolate the noise, a = p x + q D. The coefficients depend on the grid alone. `begin` computes them
once, in float64, and stores them in the state; `update` looks up those of the current call and applies them. `CallTable`
holds them for every step and every stage of a step, and `init_linear` drops the calls that a sample does not make.

Two-stage methods need not store the point where a step began: it is a combination of the second call's point and the first
output.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from langevin.diffusion.posterior import Point
from langevin.diffusion.sampler.state import State, gather_calls, gather_per_sample, lay_out_calls
from langevin.diffusion.schedule import AnySchedule
from langevin.diffusion.shape import append_dims


@dataclass(frozen=True, kw_only=True)
class CallTable:
    """The coefficients of q calls of b samples, each (b, q) or (b, q, positions), float64.

    Args:
        times: at which the denoiser is evaluated.
        weights: (c_x, c_0, c_1, ...), of x, of this call's output, of earlier outputs.
        noise: c_n; None for a deterministic sampler.
        remembered: (p, q) of a = p x + q D; None for a = D.
        called: (b, q) bool, False where a sample skips the call; None skips steps of length 0.
    """

    times: Tensor
    weights: Sequence[Tensor]
    noise: Tensor | None = None
    remembered: tuple[Tensor, Tensor] | None = None
    called: Tensor | None = None


def init_linear(state: State, table: CallTable) -> State:
    """The state with the calls of `table`, ending at the grid's last time."""
    end = state.times[:, -1:]
    columns = [*table.weights, *(table.remembered or ()), *(() if table.noise is None else (table.noise,))]
    called = table.called
    if called is None:
        called = any_position(torch.cat([table.times, end], 1).diff(dim=1) != 0)
    state, order = lay_out_calls(state, table.times, called)
    numbers = gather_calls(torch.stack(columns, 2), order).to(state.x)
    n = len(table.weights)
    memory = {"grid_weights": _append_ones(numbers[:, :, :n], state.x)}
    if table.remembered:
        memory["grid_remembered"] = _append_ones(numbers[:, :, n : n + 2], state.x)
    if table.noise is not None:
        memory["grid_noise"] = _append_ones(numbers[:, :, -1:], state.x)
    previous = {f"previous_{i + 1}": torch.zeros_like(state.x) for i in range(n - 2)}
    return replace(state, memory={**memory, **previous})


def linear_update(state: State, q: Point) -> State:
    """The state after one call: x' = c_x x + c_0 a_0 + c_1 a_1 + ... + c_n n, see the module."""
    memory, x = state.memory, state.x
    c_x, c_0, *c = gather_per_sample(memory["grid_weights"], state.call_index).unbind(1)
    a = q.mean
    if "grid_remembered" in memory:
        p, d = gather_per_sample(memory["grid_remembered"], state.call_index).unbind(1)
        a = (p * x).addcmul_(d, a)
    y = (c_x * x).addcmul_(c_0, a)
    for i, weight in enumerate(c, 1):
        y.addcmul_(weight, memory[f"previous_{i}"])
    if "grid_noise" in memory:
        y.addcmul_(gather_per_sample(memory["grid_noise"], state.call_index)[:, 0], state.noise.normal(x))
    previous = {f"previous_{i}": memory[f"previous_{i - 1}"] if i > 1 else a for i in range(1, len(c) + 1)}
    return state.advance(y, **previous)


def any_position(flags: Tensor) -> Tensor:
    """(b, n, ...) or (b, n) bool to (b, n): a call evaluates all positions of a sample."""
    return flags if flags.ndim == 2 else flags.flatten(2).any(2)


def _append_ones(numbers: Tensor, x: Tensor) -> Tensor:
    """(b, q, m, [positions]) with trailing ones, to multiply x (b, ...) with."""
    return numbers.reshape(numbers.shape + (1,) * (x.ndim + 2 - numbers.ndim)).contiguous()


@dataclass(frozen=True, kw_only=True)
class StepGeometry:
    """The quantities of the steps t -> s of a grid, each (b, n) or (b, n, positions), float64.

    `h` = lambda_s - lambda_t with lambda = ln(alpha / sigma). `regular`: h is finite and not 0. `regular_before`: the
    number of regular steps directly before this one."""

    schedule: AnySchedule
    t: Tensor
    s: Tensor
    alpha_t: Tensor
    sigma_t: Tensor
    alpha_s: Tensor
    sigma_s: Tensor
    lambda_t: Tensor
    h: Tensor
    regular: Tensor
    regular_before: Tensor

    @classmethod
    def of(cls, schedule: AnySchedule, times: Tensor, to: Tensor | None = None) -> "StepGeometry":
        """The steps of the grid `times` (b, n + 1), or those from `times` to `to`, (b, n) each."""
        t, s = (times[:, :-1], times[:, 1:]) if to is None else (times, to)
        lambda_t = schedule.log_snr(t) / 2
        h = torch.where(t == s, 0.0, schedule.log_snr(s) / 2 - lambda_t)
        regular = h.isfinite() & (h != 0)
        i = torch.arange(t.shape[1], device=t.device).reshape(1, -1, *(1,) * (t.ndim - 2))
        follows_regular = torch.cat([torch.zeros_like(regular[:, :1]), regular[:, :-1]], 1)
        return cls(
            schedule=schedule,
            t=t,
            s=s,
            alpha_t=schedule.alpha(t),
            sigma_t=schedule.sigma(t),
            alpha_s=schedule.alpha(s),
            sigma_s=schedule.sigma(s),
            lambda_t=lambda_t,
            h=h,
            regular=regular,
            regular_before=i - torch.where(follows_regular, 0, i).cummax(1).values,
        )

    def order(self, max_order: int, *, lower_final: bool = False) -> Tensor:
        """The order of each step, int64: 1 plus the number of regular steps directly before it, at most `max_order`.

        It is 1 for a step of infinite length. With `lower_final` it is at most the number of remaining steps, this one
        included."""
        order = torch.where(self.regular, self.regular_before + 1, 1).clamp_max(max_order)
        if not lower_final:
            return order
        moving = self.h != 0
        return torch.minimum(order, moving.flip(1).cumsum(1).flip(1).clamp_min(1))

    def shift(self, values: Tensor, j: int) -> Tensor:
        """`values` j steps earlier; before the first step, those of the first."""
        return values if j == 0 else torch.cat([values[:, :1].expand(-1, j, *values.shape[2:]), values], 1)[:, :-j]

    def ddim_weights(self) -> tuple[Tensor, Tensor]:
        """(a, b) of DDIM, x_s = a x_t + b D = alpha_s D + sigma_s eps, for a step of any length."""
        still = (self.sigma_t == 0) | (self.h == 0)
        a = torch.where(still, 1.0, self.sigma_s / torch.where(still, 1.0, self.sigma_t))
        return a, torch.where(still, 0.0, self.alpha_s - a * self.alpha_t)


def interpolation(nodes: Sequence[Tensor], moments: Sequence[Tensor], order: Tensor) -> list[Tensor]:
    """Weights c_j with sum_j c_j nodes_j^n = moments_n for n < order, elementwise, and c_j = 0 for j >= order.

    They integrate the polynomial through values at the nodes, where moments_n is the integral of u^n."""
    k = len(nodes)
    u = torch.stack(tuple(nodes), -1)
    n = torch.arange(k, device=u.device)
    powers = [torch.ones_like(u)]
    for _ in range(k - 1):
        powers.append(powers[-1] * u)
    used = n < order.unsqueeze(-1)
    inside = used.unsqueeze(-1) & used.unsqueeze(-2)
    system = torch.where(inside, torch.stack(powers, -2), torch.eye(k, dtype=u.dtype, device=u.device))
    target = torch.where(used, torch.stack(tuple(moments), -1), 0.0)
    return list(torch.linalg.solve(system, target).unbind(-1))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]


def warmup_knots(schedule: AnySchedule, times: Tensor, order: int, *, first: int = 1) -> Tensor:
    """The grid with order - 1 - first more knots in its first step of finite length. A multistep solver that starts at
    order `first` has reached full order at the end of that step.

    The steps between these knots have orders first, first + 1, ... A step of order m and length d has an error of
    d^(m + 1). With d = h^(order / (m + 1)), h the length of the whole step, this is no more than that of every later step.
    d is at most half of the remaining length. Where only some positions of a sample begin without signal, the knots are in
    the first step that is finite for any position."""
    orders = range(first, order - 1)
    if not orders or times.shape[1] < 2:
        return times
    log_snr = schedule.log_snr(times)
    grids: list[Tensor] = []  # with the knots in the first step, and in the second
    for i in range(min(2, times.shape[1] - 1)):
        knot, end = log_snr[:, i] / 2, log_snr[:, i + 1] / 2
        h = end - knot
        knots: list[Tensor] = []
        for m in orders:
            knot = knot + torch.minimum(torch.exp(order / (m + 1) * h.abs().log()), (end - knot).abs() / 2) * h.sign()
            knots.append(torch.where(h.isfinite(), schedule.time(2 * knot), times[:, i + 1]))
        grids.append(torch.cat([times[:, : i + 1], torch.stack(knots, 1), times[:, i + 1 :]], 1))
    finite = any_position(log_snr[:, :2].diff(dim=1).isfinite() & (times[:, :2].diff(dim=1) != 0))[:, 0]
    if len(grids) == 1:
        return grids[0]
    return torch.where(append_dims(finite[:, None], grids[0]), grids[0], grids[1])
