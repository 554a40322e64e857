"""Two questions a step: Heun, DPM-Solver-2, DPM-Solver++ 2S, and what adds noise between steps, EDM's churn and Restart.

The first answer D_t moves to a point at lambda_u = lambda_t + r h by DDIM, x_u = alpha_u D_t + sigma_u eps_t, which is
asked about too. Going on to s by DDIM from there and adding a share W of how the answer changed,

    x_s = (sigma_s / sigma_u) x_u + (alpha_s - sigma_s alpha_u / sigma_u) D_t + W (D_u - D_t),

is each of

    DPM-Solver-2     r = 1/2   W = sigma_s (e^h - 1) alpha_u / (2 r sigma_u)      ("DPM-Solver", 2022)
    DPM-Solver++ 2S  r = 1/2   W = alpha_s (1 - e^{-h}) / (2 r)                   ("DPM-Solver++", 2022)
    Heun             the first at r = 1: the trapezium in rho ("Elucidating the Design Space of Diffusion-Based Generative
                     Models", 2022)

A step of infinite length (from no signal, or to t = 0) has no second question.

A step may begin at a noisier time than the one before it ended: x is noised again on the way, y + sqrt(rho^2 - rho_s^2) n.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from langevin.diffusion.posterior import Point
from langevin.diffusion.process.gaussian import Gaussian
from langevin.diffusion.sampler.linear import Rows, Steps, any_place, begin, right, update
from langevin.diffusion.sampler.state import State
from langevin.diffusion.schedule import AnySchedule, rho, time_of_rho

Form = Literal["noise", "data"]


def two_stage(
    schedule: AnySchedule, t: Tensor, s: Tensor, *, form: Form, r: float, louder: float | None = None
) -> Rows:
    """The questions of steps t -> s, (b, n) or (b, n, places), each of which may begin above where the last one ended.

    Args:
        form: which W, see the module.
        r: where between t and s the second question lies, in lambda.
        louder: factor on the noise added between steps; None where there is none.
    """
    steps = Steps.of(schedule, t, s)
    regular, alpha_s, sigma_s = steps.regular, steps.alpha_s, steps.sigma_s
    h = torch.where(regular, steps.h, 1.0)
    u = s if r == 1 else torch.where(regular, schedule.time(2 * (steps.lambda_t + r * h)), s)
    alpha_u, sigma_u = schedule.alpha(u), torch.where(regular, schedule.sigma(u), 1.0)
    a_u, b_u = Steps.of(schedule, t, u).first_order()
    a_s, b_s = steps.first_order()
    ratio = torch.where(regular, sigma_s / sigma_u, 1.0)
    share = alpha_s * -torch.expm1(-h) if form == "data" else ratio * alpha_u * torch.expm1(h)
    w = torch.where(regular, share / (2 * r), 0.0)
    d = torch.where(regular, alpha_s - ratio * alpha_u, 0.0)
    zero, one = torch.zeros_like(w), torch.ones_like(w)
    again = any_place(regular)
    waits = right(again, t) & ~regular  # a place that asked once beside places that ask again
    first = (torch.where(regular, a_u, a_s), torch.where(regular, b_u, b_s), zero)
    second = (torch.where(waits, one, ratio), torch.where(waits, zero, w), torch.where(waits, zero, d - w))
    up, noise = _between(schedule, t, s, louder or 0.0)
    last = ~right(again, t)
    weights = [
        _interleave(torch.where(last, f * up, f), g * up) for f, g in zip(first, second, strict=True)
    ]  # what adds noise comes after a step's last question
    noise = None if louder is None else _interleave(torch.where(last, noise, 0.0), noise)
    moving = any_place((s != t) | (up != 1))
    return Rows(
        times=_interleave(t, torch.where(waits, s, u)),
        weights=weights,
        noise=noise,
        asked=_interleave(moving, again),
    )


def _between(schedule: AnySchedule, t: Tensor, s: Tensor, louder: float) -> tuple[Tensor, Tensor]:
    """(factor on x, weight of noise) from each step's end to the next one's beginning; (1, 0) where they are the same."""
    start = torch.cat([t[:, 1:], s[:, -1:]], 1)
    rises = start > s
    up = torch.where(rises, schedule.alpha(start) / schedule.alpha(s), 1.0)
    added = (rho(schedule, start).square() - rho(schedule, s).square()).clamp_min(0).sqrt()
    return up, torch.where(rises, schedule.alpha(start) * added * louder, 0.0)


def _interleave(first: Tensor, second: Tensor) -> Tensor:
    return torch.stack([first, second], 2).flatten(1, 2)


@dataclass(frozen=True, kw_only=True)
class Heun:
    """Heun's method for dy / drho = eps: second order, two calls a step but for the last."""

    process: Gaussian
    kind: Literal["heun"] = "heun"

    @property
    def order(self) -> int | None:
        return 2

    def begin(self, state: State) -> State:
        t, s = state.times[:, :-1], state.times[:, 1:]
        return begin(state, two_stage(self.process.schedule, t, s, form="noise", r=1.0))

    def update(self, state: State, q: Point) -> State:
        return update(state, q)


@dataclass(frozen=True, kw_only=True)
class DPM2:
    """DPM-Solver-2 (form "noise") and DPM-Solver++ 2S (form "data"): second order, two calls a step but for the last.

    Args:
        r: where in a step the second question lies, in lambda, in (0, 1].
    """

    process: Gaussian
    form: Literal["noise", "data"] = "data"
    r: float = 0.5
    kind: Literal["dpm2"] = "dpm2"

    def __post_init__(self) -> None:
        if not 0 < self.r <= 1:
            raise ValueError(f"r says where in a step the second question lies: above 0, up to 1, got {self.r}")

    @property
    def order(self) -> int | None:
        return 2

    def begin(self, state: State) -> State:
        t, s = state.times[:, :-1], state.times[:, 1:]
        return begin(state, two_stage(self.process.schedule, t, s, form=self.form, r=self.r))

    def update(self, state: State, q: Point) -> State:
        return update(state, q)


@dataclass(frozen=True, kw_only=True)
class Churn:
    """EDM's stochastic sampler: before each step some noise is added, then Heun's method steps down from there.

    The first step of a row begins at the prior itself, to which noise adds nothing.

    Args:
        churn: EDM's S_churn: each step raises rho by the factor 1 + min(churn / steps, sqrt(2) - 1).
        low, high: of rho, where noise is added.
        louder: EDM's S_noise.
    """

    process: Gaussian
    churn: float = 40.0
    low: float = 0.05
    high: float = 50.0
    louder: float = 1.0
    kind: Literal["churn"] = "churn"

    def __post_init__(self) -> None:
        if not (0 <= self.churn < math.inf and 0 <= self.low < self.high and 0 < self.louder < math.inf):
            raise ValueError(f"churn needs churn >= 0, 0 <= low < high and louder > 0, got {self}")

    @property
    def order(self) -> int | None:
        return None if self.churn > 0 else 2

    def begin(self, state: State) -> State:
        schedule, t, s = self.process.schedule, state.times[:, :-1], state.times[:, 1:]
        ratio = rho(schedule, t)
        steps = (t != s).sum(1, keepdim=True).clamp_min(1)
        gamma = (self.churn / steps.double()).clamp_max(math.sqrt(2) - 1)
        inside = (ratio >= self.low) & (ratio <= self.high) & (t != s) & (gamma > 0)
        inside[:, 0] = False
        reach = rho(schedule, torch.ones_like(t))
        raised = time_of_rho(schedule, torch.minimum(ratio * (1 + gamma), reach))
        begins = torch.where(inside, torch.maximum(raised, t), t)
        return begin(
            state, two_stage(schedule, begins, s, form="noise", r=1.0, louder=self.louder if self.churn else None)
        )

    def update(self, state: State, q: Point) -> State:
        return update(state, q)


@dataclass(frozen=True, kw_only=True)
class Restart:
    """Heun's method that goes back up: where the grid first comes to `low` or below, the state is noised to the grid's last
    knot at or above `high` and brought down the same steps again, `again` times ("Restart Sampling for Improving Generative
    Processes", 2023). A row whose grid has no such knots is sampled by Heun's method.

    Args:
        low, high: of rho.
        again: how often.
    """

    process: Gaussian
    low: float = 0.3
    high: float = 1.0
    again: int = 1
    kind: Literal["restart"] = "restart"

    def __post_init__(self) -> None:
        if not (0 < self.low < self.high < math.inf and self.again >= 0):
            raise ValueError(f"restart needs 0 < low < high and again >= 0, got {self}")

    @property
    def order(self) -> int | None:
        return None if self.again else 2

    def begin(self, state: State) -> State:
        schedule, times = self.process.schedule, state.times
        if times.ndim > 2:
            raise ValueError(
                "going back up takes one time a row, (b,): places with times of their own have no common level"
            )
        ratio = rho(schedule, times)
        levels: list[list[float]] = ratio.tolist()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        paths = [self._path(row) for row in levels]
        longest = max(map(len, paths))
        rest = times.shape[1] - 1  # of the row's last knot: a step to itself, which is not asked about
        index = torch.tensor([path + [rest] * (longest - len(path)) for path in paths], device=times.device)
        t, s = times.gather(1, index), times.gather(1, (index + 1).clamp_max(rest))
        return begin(state, two_stage(schedule, t, s, form="noise", r=1.0, louder=1.0 if self.again else None))

    def _path(self, knots: list[float]) -> list[int]:
        """The steps of a row in the order in which they are made."""
        steps = list(range(len(knots) - 1))
        down = next((i for i in steps if 0 < knots[i + 1] <= self.low), None)
        up = max((i for i in steps if knots[i] >= self.high), default=None)
        if down is None or up is None or up > down:
            return steps
        return steps[: down + 1] + steps[up : down + 1] * self.again + steps[down + 1 :]

    def update(self, state: State, q: Point) -> State:
        return update(state, q)
