"""Heun's method for dy / drho = eps ("Elucidating the Design Space of Diffusion-Based Generative Models", 2022).

A step asks twice, and is told one answer at a time. The first is an Euler step to s; the second moves that by half the
change of slope:

    x' = alpha_s D_t + sigma_s eps_t,      x_s = x' + alpha_s (rho_s - rho_t) / 2 (eps_s - eps_t).

Both slopes are those of lines through x', so what changes between them is the answer alone:

    eps_s - eps_t = (x' - alpha_s D_s) / sigma_s - (x' - alpha_s D_t) / sigma_s,
    x_s = x' + alpha_s / 2 (rho_t / rho_s - 1) (D_s - D_t).

A step that starts at infinite rho (no signal left) or ends at t = 0 has no second question.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from langevin.diffusion.posterior import Point
from langevin.diffusion.process.gaussian import Gaussian, step_back
from langevin.diffusion.sampler.state import State, pick
from langevin.diffusion.sampler.table import look_up, make_table
from langevin.diffusion.schedule import rho


@dataclass(frozen=True, kw_only=True)
class Heun:
    """Second order, two calls a step but for the last.

    The memory is the first answer, and `half`: whether the row has had it."""

    process: Gaussian
    kind: Literal["heun"] = "heun"

    @property
    def order(self) -> int | None:
        return 2

    def memory(self, state: State) -> dict[str, Tensor]:
        """Two table entries a step, the weights of x, D and the answer before; `grid_again` says whether to ask again."""
        t, s = state.times[:, :-1], state.times[:, 1:]
        schedule = self.process.schedule
        a, b, _ = step_back(schedule, t, s, 0.0)
        again = (schedule.sigma(s) > 0) & (schedule.alpha(t) > 0) & (s < t)
        w = torch.where(again, 0.5 * schedule.alpha(s) * (rho(schedule, t) / rho(schedule, s) - 1), 0.0)
        one, zero = torch.ones_like(w), torch.zeros_like(w)
        columns = [torch.stack(pair, 2).flatten(1, 2) for pair in ((a, one), (b, w), (zero, -w))]
        row = again.flatten(2).any(2) if again.ndim > 2 else again  # a row's places are asked together
        return {
            **make_table(*columns, like=state.x),
            "grid_again": torch.stack([row, torch.zeros_like(row)], 2).flatten(1),
            "before": torch.zeros_like(state.x),
            "half": torch.zeros_like(row[:, 0]),
        }

    def update(self, state: State, q: Point) -> State:
        entry = torch.add(state.memory["half"], state.k, alpha=2)
        a, b, c = look_up(state, entry)
        x = (a * state.x).addcmul_(b, q.mean).addcmul_(c, state.memory["before"])
        again = pick(state.memory["grid_again"], entry)
        return state.advance(x, again=again, before=q.mean, half=again)
