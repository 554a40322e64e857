"""Samplers of an SDE dx = f dt + g dw (`SDE`), whose denoiser predicts the score."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch

from langevin.diffusion.posterior import Score
from langevin.diffusion.process.sde.process import SDE
from langevin.diffusion.sampler.state import Processes, State, gather_calls, gather_per_sample, lay_out_calls
from langevin.diffusion.shape import append_dims


@dataclass(frozen=True, kw_only=True)
class ReverseSDE:
    """The reverse-time SDE by Euler-Maruyama, first order in distribution ("Score-Based Generative Modeling through
    Stochastic Differential Equations", 2021, arXiv:2011.13456):

        x_s = x_t - h (f - (1 + eta) / 2 g^2 score) + sqrt(eta h) g n,     h = t - s,

    with g^2 h the integral of g^2 over the step. Each step can be followed by Langevin steps x <- x + e score + sqrt(2
    e) n.

    Args:
        eta: fraction of the noise, in [0, 1]: 1 is the reverse-time SDE, 0 its probability flow.
        corrections: Langevin steps after each step but the last, 0 to 100; each takes one function evaluation.
        size: e of a Langevin step divided by `process.scale(t)` squared, in (0, 1).

    Raises:
        ValueError: a number out of range.
    """

    kind: Literal["reverse"] = "reverse"
    eta: float = 1.0
    corrections: int = 0
    size: float = 0.05
    processes: ClassVar[Processes] = (SDE,)

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must be between 0 (probability flow) and 1 (reverse SDE), got {self.eta}")
        if not 0 <= self.corrections <= 100 or not 0 < self.size < 1:
            raise ValueError(
                f"a corrector takes 0 to 100 Langevin steps of a size in (0, 1), got {self.corrections} of size {self.size}"
            )

    @property
    def convergence_order(self) -> int | None:
        return 1 if self.eta == 0 and not self.corrections else None

    def begin(self, state: State, process: SDE) -> State:
        return _repeat_ends(state, self.corrections)

    def update(self, state: State, q: Score, process: SDE) -> State:
        x = process.reverse_step(q, state.x, state.time(), state.time(1), state.noise.fork(0), eta=self.eta)
        if not self.corrections:
            return state.advance(x)
        e = append_dims(self.size * process.scale(state.t).square(), x).to(x)
        corrected = state.x + e * q.score + (2 * e).sqrt() * state.noise.fork(1).normal(x)
        at_end = gather_per_sample(state.memory["grid_at_end"], state.call_index)
        return state.advance(torch.where(append_dims(at_end, x).to(x.device), corrected, x))


@dataclass(frozen=True, kw_only=True)
class ProbabilityFlow:
    """The probability flow by Heun's method, second order, two function evaluations per step, one in a step to 0
    ("Score-Based Generative Modeling through Stochastic Differential Equations", 2021, arXiv:2011.13456):

        dx/dt = v(x, t) = f - g^2 score / 2,     x' = x_t - h v(x_t, t),     x_s = x_t - h (v(x_t, t) + v(x', s)) / 2.
    """

    kind: Literal["flow"] = "flow"
    processes: ClassVar[Processes] = (SDE,)

    @property
    def convergence_order(self) -> int | None:
        return 2

    def begin(self, state: State, process: SDE) -> State:
        state = _repeat_ends(state, 1)
        return replace(state, memory={**state.memory, "velocity": torch.zeros_like(state.x)})

    def update(self, state: State, q: Score, process: SDE) -> State:
        """The first call of a step moves x to x' = x - h v_t; the second corrects it to x' + h (v_t - v_s) / 2."""
        second = gather_per_sample(state.memory["grid_at_end"], state.call_index)
        t, s = torch.where(second, state.time(-1), state.t), torch.where(second, state.t, state.time(1))
        v = process.velocity(q, state.x, state.t)
        h = append_dims(process.time(t) - process.time(s), v).to(v)
        second = append_dims(second, v).to(v.device)
        x = torch.where(second, state.x + h / 2 * (state.memory["velocity"] - v), state.x - h * v)
        return state.advance(process.within(x), velocity=v)


def _repeat_ends(state: State, count: int) -> State:
    """The state with one call at each time of the grid, and `count` more at the end of each step that does not end at 0.

    The memory `grid_at_end` is True for the latter."""
    t, s = state.times[:, :-1], state.times[:, 1:]
    times = torch.stack([t, *[s] * count], 2).flatten(1, 2)
    called = torch.stack([t != s, *[(t != s) & (s > 0)] * count], 2).flatten(1, 2)
    at_end = torch.stack([torch.zeros_like(t, dtype=torch.bool), *[torch.ones_like(t, dtype=torch.bool)] * count], 2)
    state, order = lay_out_calls(state, times, called)
    return replace(state, memory={"grid_at_end": gather_calls(at_end.flatten(1, 2), order)})
