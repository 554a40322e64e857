"""Samplers as rows of numbers.

Every sampler of a Gaussian process is linear in what it knows: an answer D moves the state by

    x' = c_x x + c_a a + c_1 a_1 + ... + c_m a_m + c_n n,

with a_1, a_2, ... the answers before, the last one first, n fresh noise, and a either D itself or, for solvers that
remember the noise, a = p x + q D. All the numbers depend on the grid alone. They are computed once, in float64, when a
trajectory starts, and travel with the rows; a question is then one look-up and a few multiply-adds, however involved the
formula, and a sampler is a file that computes numbers. `Rows` holds them question by question, dense over steps and the
stages of a step; `begin` leaves out the questions that a row does not ask.

Two-stage methods need no memory of the point where a step began: the second question's point is a weighted sum of it and of
the first answer, so the step can be written in that point instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from langevin.diffusion.posterior import Point
from langevin.diffusion.sampler.state import State, ask, in_order, pick
from langevin.diffusion.schedule import AnySchedule


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The questions of some rows, (b, q) or (b, q, places) each, float64.

    Args:
        times: at which is asked.
        weights: of x, of the answer, of the answers before it.
        noise: weight of fresh noise; None if there never is any.
        slope: (p, q) of what is remembered of an answer; None remembers D.
        asked: (b, q) bool, False where a row does not ask; None asks where time moves on.
    """

    times: Tensor
    weights: Sequence[Tensor]
    noise: Tensor | None = None
    slope: tuple[Tensor, Tensor] | None = None
    asked: Tensor | None = None


def begin(state: State, rows: Rows) -> State:
    """The state with `rows` to walk along; the time that it ends at is the grid's last."""
    end = state.times[:, -1:]
    columns = [*rows.weights, *(rows.slope or ()), *(() if rows.noise is None else (rows.noise,))]
    asked = any_place(torch.cat([rows.times, end], 1).diff(dim=1) != 0) if rows.asked is None else rows.asked
    state, order = ask(state, rows.times, asked)
    table = in_order(torch.stack(columns, 2), order).to(state.x.dtype)
    n = len(rows.weights)
    memory = {"grid_weights": _like(table[:, :, :n], state.x)}
    if rows.slope:
        memory["grid_slope"] = _like(table[:, :, n : n + 2], state.x)
    if rows.noise is not None:
        memory["grid_noise"] = _like(table[:, :, -1:], state.x)
    before = {f"before_{i + 1}": torch.zeros_like(state.x) for i in range(n - 2)}
    return replace(state, memory={**memory, **before})


def update(state: State, q: Point) -> State:
    """The consequence of an answer; see the module."""
    memory, x = state.memory, state.x
    c_x, c_a, *c = pick(memory["grid_weights"], state.k).unbind(1)
    a = q.mean
    if "grid_slope" in memory:
        p, d = pick(memory["grid_slope"], state.k).unbind(1)
        a = (p * x).addcmul_(d, a)
    y = (c_x * x).addcmul_(c_a, a)
    for i, weight in enumerate(c, 1):
        y.addcmul_(weight, memory[f"before_{i}"])
    if "grid_noise" in memory:
        y.addcmul_(pick(memory["grid_noise"], state.k)[:, 0], state.noise.normal(x))
    before = {f"before_{i}": memory[f"before_{i - 1}"] if i > 1 else a for i in range(1, len(c) + 1)}
    return state.advance(y, **before)


def any_place(flags: Tensor) -> Tensor:
    """(b, n, places) or (b, n) bool to (b, n): a row's places are asked together."""
    return flags if flags.ndim == 2 else flags.any(-1)


def right(values: Tensor, like: Tensor) -> Tensor:
    """(b, n) beside (b, n, places): with a dimension of one for them."""
    return values.reshape(values.shape + (1,) * (like.ndim - values.ndim))


def _like(table: Tensor, x: Tensor) -> Tensor:
    """(b, q, m, [places]) with trailing ones, to meet x (b, ...)."""
    return table.reshape(table.shape + (1,) * (x.ndim + 2 - table.ndim)).contiguous()


@dataclass(frozen=True, kw_only=True)
class Steps:
    """What every formula needs of the steps t -> s of a grid (b, n) or (b, n, places), float64.

    `h` = lambda_s - lambda_t with lambda = ln(alpha / sigma); `regular` where it is finite and not 0; `before`, how many
    steps in a row have been regular just before."""

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
    before: Tensor

    @classmethod
    def of(cls, schedule: AnySchedule, times: Tensor, to: Tensor | None = None) -> "Steps":
        """The steps of a grid, or from `times` to `to`."""
        t, s = (times[:, :-1], times[:, 1:]) if to is None else (times, to)
        lambda_t = schedule.log_snr(t) / 2
        h = torch.where(t == s, 0.0, schedule.log_snr(s) / 2 - lambda_t)
        regular = h.isfinite() & (h != 0)
        i = torch.arange(t.shape[1], device=t.device).reshape(1, -1, *(1,) * (t.ndim - 2))
        ready = torch.cat([torch.zeros_like(regular[:, :1]), regular[:, :-1]], 1)
        before = i - torch.where(ready, 0, i).cummax(1).values
        return cls(
            schedule=schedule, t=t, s=s, alpha_t=schedule.alpha(t), sigma_t=schedule.sigma(t),
            alpha_s=schedule.alpha(s), sigma_s=schedule.sigma(s), lambda_t=lambda_t, h=h, regular=regular, before=before,
        )  # fmt: skip

    def order(self, most: int, *, lower_final: bool = False) -> Tensor:
        """The order that each step can be taken at, int64: one more than the regular steps before it, at most `most`, and 1
        for a step of infinite length; with `lower_final` at most one more than the steps that are left."""
        order = torch.where(self.regular, self.before + 1, 1).clamp_max(most)
        if not lower_final:
            return order
        moving = self.h != 0
        return torch.minimum(order, moving.flip(1).cumsum(1).flip(1).clamp_min(1))

    def lag(self, values: Tensor, j: int) -> Tensor:
        """`values` j steps before; those of the first step where there are none."""
        return values if j == 0 else torch.cat([values[:, :1].expand(-1, j, *values.shape[2:]), values], 1)[:, :-j]

    def first_order(self) -> tuple[Tensor, Tensor]:
        """(a, b) of DDIM, x_s = a x + b D: for every step, of any length."""
        still = (self.sigma_t == 0) | (self.h == 0)
        a = torch.where(still, 1.0, self.sigma_s / torch.where(still, 1.0, self.sigma_t))
        return a, torch.where(still, 0.0, self.alpha_s - a * self.alpha_t)


def interpolation(nodes: Sequence[Tensor], moments: Sequence[Tensor], order: Tensor) -> list[Tensor]:
    """Weights c_j with sum_j c_j nodes_j^n = moments_n for n < order, elementwise, and 0 from `order` on.

    The weights of an integral over the polynomial through values at the nodes, whose moments are the integral's."""
    k = len(nodes)
    u = torch.stack(tuple(nodes), -1)
    n = torch.arange(k, device=u.device)
    powers = [torch.ones_like(u)]
    for _ in range(k - 1):
        powers.append(powers[-1] * u)
    used = n < order.unsqueeze(-1)
    inside = used.unsqueeze(-1) & used.unsqueeze(-2)
    system = torch.where(inside, torch.stack(powers, -2), torch.eye(k, dtype=u.dtype, device=u.device))
    wanted = torch.where(used, torch.stack(tuple(moments), -1), 0.0)
    return list(torch.linalg.solve(system, wanted).unbind(-1))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]


def ramp(schedule: AnySchedule, times: Tensor, order: int, *, first: int = 1) -> Tensor:
    """The grid with what a multistep solver of `order` needs to begin at that order: order - 1 - first more knots, in the
    first step of finite length.

    Its steps begin at order `first` and rise by one. A step of order m and length d costs an error of d^(m + 1), so it may
    be h^(order / (m + 1)) long, of the h of that step, to cost no more than the rest of the way; at most half of what is
    left of the step. Where places of one row begin differently, some without signal, the knots are in the row's first step
    that is finite for any of them."""
    orders = range(first, order - 1)
    if not orders or times.shape[1] < 2:
        return times
    log_snr = schedule.log_snr(times)
    choices: list[Tensor] = []
    for at in range(min(2, times.shape[1] - 1)):
        begin_, end = log_snr[:, at] / 2, log_snr[:, at + 1] / 2
        h = end - begin_
        knots: list[Tensor] = []
        here = begin_
        for m in orders:
            here = here + torch.minimum(torch.exp(order / (m + 1) * h.abs().log()), (end - here).abs() / 2) * h.sign()
            knots.append(torch.where(h.isfinite(), schedule.time(2 * here), times[:, at + 1]))
        choices.append(torch.cat([times[:, : at + 1], torch.stack(knots, 1), times[:, at + 1 :]], 1))
    finite = any_place(log_snr[:, :2].diff(dim=1).isfinite() & (times[:, :2].diff(dim=1) != 0))[:, 0]
    if len(choices) == 1:
        return choices[0]
    return torch.where(right(finite[:, None], choices[0]), choices[0], choices[1])
