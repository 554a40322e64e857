"""Sampling with a denoiser that was trained to jump to the end of the probability flow."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from langevin.diffusion.posterior import Point
from langevin.diffusion.process.gaussian import Gaussian
from langevin.diffusion.sampler.linear import CallTable, init_linear, linear_update
from langevin.diffusion.sampler.state import Processes, State


@dataclass(frozen=True, kw_only=True)
class MultistepConsistency:
    """Multistep consistency sampling ("Consistency Models", 2023, arXiv 2303.01469, algorithm 1):

        x_s = alpha_s D + sigma_s n,     n ~ N(0, 1) fresh.

    Where D(x_t, t) is the end of the flow through x_t, it has the distribution of the data, and x_s that of q(x_s): right
    after one step and after any number. With the mean of the posterior as D it is not."""

    kind: Literal["consistency"] = "consistency"
    processes: ClassVar[Processes] = (Gaussian,)

    @property
    def convergence_order(self) -> int | None:
        return None

    def begin(self, state: State, process: Gaussian) -> State:
        t, s = state.times[:, :-1], state.times[:, 1:]
        still = s == t  # a shorter grid, at its end
        a, b = still.to(t.dtype), torch.where(still, 0.0, process.schedule.alpha(s))
        return init_linear(
            state, CallTable(times=t, weights=(a, b), noise=torch.where(still, 0.0, process.schedule.sigma(s)))
        )

    def update(self, state: State, q: Point, process: Gaussian) -> State:
        return linear_update(state, q)
