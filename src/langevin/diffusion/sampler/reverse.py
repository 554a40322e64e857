"""Samplers of a `Drift`, told the score.

Reverse   dx = (f - (1 + eta) / 2 g^2 score) dt + sqrt(eta) g dw, backwards: eta = 1 reverses the equation, 0 is its flow.
          After a step it may stay and correct: x += e score + sqrt(2 e) n, Langevin's step at one time
          ("Score-Based Generative Modeling through SDEs", 2021)
Flow      dx/dt = f - g^2 score / 2 by Heun's method: x' = x - h v_t, then x_s = x' + h (v_t - v_s) / 2
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from langevin.diffusion.posterior import Score
from langevin.diffusion.process.drift.process import Drift
from langevin.diffusion.sampler.state import State
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

    def memory(self, state: State) -> dict[str, Tensor]:
        return {"left": torch.zeros_like(state.k)}

    def update(self, state: State, q: Score) -> State:
        left = state.memory["left"]
        t, s = state.time(), state.time(1)
        x = self.process.step_back(q, state.x, t, s, state.noise.fork(0), eta=self.eta)
        if not self.corrections:
            return state.advance(x)
        correcting = left > 0
        e = right_pad(self.size * self.process.scale(state.t).square(), x).to(x.dtype)
        noise = type(state.noise)(seeds=state.noise.fork(1).seeds, steps=state.k * (self.corrections + 1) + left)
        moved = state.x + e * q.score + (2 * e).sqrt() * noise.normal(x)
        left = torch.where(correcting, left - 1, torch.where(s > 0, self.corrections, 0))
        return state.advance(torch.where(right_pad(correcting, x), moved, x), again=left > 0, left=left)


@dataclass(frozen=True, kw_only=True)
class Flow:
    """The probability flow, second order, two calls a step but for one that ends at 0."""

    process: Drift
    kind: Literal["flow"] = "flow"

    @property
    def order(self) -> int | None:
        return 2

    def memory(self, state: State) -> dict[str, Tensor]:
        half = torch.zeros_like(state.k, dtype=torch.bool)
        return {"half": half, "before": torch.zeros_like(state.x)}

    def update(self, state: State, q: Score) -> State:
        t, s, half = state.time(), state.time(1), state.memory["half"]
        v = self.process.velocity(q, state.x, state.t)
        h = right_pad(self.process.time(t) - self.process.time(s), v).to(v.dtype)
        x = torch.where(right_pad(half, v), state.x + h / 2 * (state.memory["before"] - v), state.x - h * v)
        again = ~half & (s > 0)
        return state.advance(self.process.within(x), again=again, before=v, half=again)


AnyReverse = Reverse | Flow
