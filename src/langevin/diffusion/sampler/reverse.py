"""Samplers of a `Drift`, told the score.

Reverse   dx = (f - (1 + eta) / 2 g^2 score) dt + sqrt(eta) g dw, backwards: eta = 1 reverses the equation, 0 is its flow.
          After a step it may stay and correct: x += e score + sqrt(2 e) n, Langevin's step at one time
          ("Score-Based Generative Modeling through SDEs", 2021)
Flow      dx/dt = f - g^2 score / 2 by Heun's method: x' = x - h v_t, then x_s = x' + h (v_t - v_s) / 2
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch

from langevin.diffusion.posterior import Score
from langevin.diffusion.process.drift.process import Drift
from langevin.diffusion.sampler.state import State, ask, in_order, pick
from langevin.diffusion.shape import right_pad


@dataclass(frozen=True, kw_only=True)
class Reverse:
    """The reversed equation by Euler's steps, first order in law.

    Args:
        eta: share of fresh noise, 0 to 1.
        corrections: Langevin steps after each step, but for the last; a call each.
        size: of a correction, in units of the scale of x_t squared.
    """

    process: Drift
    eta: float = 1.0
    corrections: int = 0
    size: float = 0.05
    kind: Literal["reverse"] = "reverse"

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta is a share of fresh noise, between 0 and 1, got {self.eta}")
        if self.corrections < 0 or not 0 < self.size < 1:
            raise ValueError(f"corrections are counted and small, got {self.corrections} of size {self.size}")

    @property
    def order(self) -> int | None:
        return 1 if self.eta == 0 and not self.corrections else None

    def begin(self, state: State) -> State:
        return _stay(state, self.corrections)

    def update(self, state: State, q: Score) -> State:
        x = self.process.step_back(q, state.x, state.time(), state.time(1), state.noise.fork(0), eta=self.eta)
        if not self.corrections:
            return state.advance(x)
        e = right_pad(self.size * self.process.scale(state.t).square(), x).to(x.dtype)
        corrected = state.x + e * q.score + (2 * e).sqrt() * state.noise.fork(1).normal(x)
        staying = pick(state.memory["grid_stays"], state.k)
        return state.advance(torch.where(right_pad(staying, x), corrected, x))


@dataclass(frozen=True, kw_only=True)
class Flow:
    """The probability flow, second order, two calls a step but for one that ends at 0."""

    process: Drift
    kind: Literal["flow"] = "flow"

    @property
    def order(self) -> int | None:
        return 2

    def begin(self, state: State) -> State:
        state = _stay(state, 1)
        return replace(state, memory={**state.memory, "before": torch.zeros_like(state.x)})

    def update(self, state: State, q: Score) -> State:
        """The first answer of a step goes all of its way; the second, at its end, mends that by half the change."""
        second = pick(state.memory["grid_stays"], state.k)
        t, s = torch.where(second, state.time(-1), state.t), torch.where(second, state.t, state.time(1))
        v = self.process.velocity(q, state.x, state.t)
        h = right_pad(self.process.time(t) - self.process.time(s), v).to(v.dtype)
        x = torch.where(right_pad(second, v), state.x + h / 2 * (state.memory["before"] - v), state.x - h * v)
        return state.advance(self.process.within(x), before=v)


def _stay(state: State, more: int) -> State:
    """Questions at each time of the grid, and `more` at the end of each step that does not end at 0; those are marked."""
    t, s = state.times[:, :-1], state.times[:, 1:]
    times = torch.stack([t, *[s] * more], 2).flatten(1, 2)
    asked = torch.stack([t != s, *[(t != s) & (s > 0)] * more], 2).flatten(1, 2)
    stays = torch.stack([torch.zeros_like(t, dtype=torch.bool), *[torch.ones_like(t, dtype=torch.bool)] * more], 2)
    state, order = ask(state, times, asked)
    return replace(state, memory={"grid_stays": in_order(stays.flatten(1, 2), order)})


AnyReverse = Reverse | Flow
