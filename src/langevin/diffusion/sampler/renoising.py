"""Heun's method with noise added between its steps: EDM's stochastic sampler and Restart."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from langevin.diffusion.posterior import Point
from langevin.diffusion.process.gaussian import Gaussian
from langevin.diffusion.sampler.linear import init_linear, linear_update
from langevin.diffusion.sampler.singlestep import two_stage
from langevin.diffusion.sampler.state import Processes, State
from langevin.diffusion.schedule import rho, time_of_rho


@dataclass(frozen=True, kw_only=True)
class EDMStochastic:
    """EDM's stochastic sampler ("Elucidating the Design Space of Diffusion-Based Generative Models", 2022,
    arXiv:2206.00364, algorithm 2). Before a step from rho_t in [s_min, s_max] noise is added:

        rho' = (1 + gamma) rho_t,     gamma = min(s_churn / steps, sqrt(2) - 1)
        y' = y_t + s_noise sqrt(rho'^2 - rho_t^2) n,     y_s = Heun(y', rho' -> rho_s),     y = x / alpha.

    The first step adds no noise, because it starts from the prior.

    Args:
        s_churn: the total amount of noise; 0 is Heun's method.
        s_min, s_max: the range of rho in which noise is added.
        s_noise: factor on the added noise.

    Raises:
        ValueError: a number out of range.
    """

    kind: Literal["edm_stochastic"] = "edm_stochastic"
    s_churn: float = 40.0
    s_min: float = 0.05
    s_max: float = 50.0
    s_noise: float = 1.0
    processes: ClassVar[Processes] = (Gaussian,)

    def __post_init__(self) -> None:
        if not (0 <= self.s_churn < math.inf and 0 <= self.s_min < self.s_max and 0 < self.s_noise < math.inf):
            raise ValueError(f"edm_stochastic needs s_churn >= 0, 0 <= s_min < s_max and s_noise > 0, got {self}")

    @property
    def convergence_order(self) -> int | None:
        return None if self.s_churn > 0 else 2

    def begin(self, state: State, process: Gaussian) -> State:
        schedule, t, s = process.schedule, state.times[:, :-1], state.times[:, 1:]
        rho_t = rho(schedule, t)
        num_steps = (t != s).sum(1, keepdim=True).clamp_min(1)
        gamma = (self.s_churn / num_steps.double()).clamp_max(math.sqrt(2) - 1)
        noised = (rho_t >= self.s_min) & (rho_t <= self.s_max) & (t != s) & (gamma > 0)
        noised[:, 0] = False
        largest = rho(schedule, torch.ones_like(t))
        raised = time_of_rho(schedule, torch.minimum(rho_t * (1 + gamma), largest))
        t = torch.where(noised, torch.maximum(raised, t), t)
        s_noise = self.s_noise if self.s_churn else None
        return init_linear(state, two_stage(schedule, t, s, prediction="noise", r=1.0, s_noise=s_noise))

    def update(self, state: State, q: Point, process: Gaussian) -> State:
        return linear_update(state, q)


@dataclass(frozen=True, kw_only=True)
class Restart:
    """Restart ("Restart Sampling for Improving Generative Processes", 2023, arXiv:2306.14878). When Heun's method reaches
    rho_min, the state is noised back to rho_max and the same steps are repeated, `num_restarts` times:

        y_max = y_min + sqrt(rho_max^2 - rho_min^2) n,     y_min = Heun(y_max, rho_max -> rho_min),     y = x / alpha.

    rho_min is the grid's first knot at or below `low`, rho_max its last one at or above `high`. If a
    sample's grid has no such knots it is sampled by Heun's method.

    Args:
        low, high: bounds on rho_min and rho_max.
        num_restarts: number of repetitions, 0 to 1000.

    Raises:
        ValueError: a number out of range.
    """

    kind: Literal["restart"] = "restart"
    low: float = 0.3
    high: float = 1.0
    num_restarts: int = 1
    processes: ClassVar[Processes] = (Gaussian,)

    def __post_init__(self) -> None:
        if not (0 < self.low < self.high < math.inf and 0 <= self.num_restarts <= 1000):
            raise ValueError(f"restart needs 0 < low < high and 0 <= num_restarts <= 1000, got {self}")

    @property
    def convergence_order(self) -> int | None:
        return None if self.num_restarts else 2

    def begin(self, state: State, process: Gaussian) -> State:
        schedule, times = process.schedule, state.times
        if times.ndim > 2:
            raise ValueError(
                "Restart takes one time per sample, (b,): positions with times of their own have no common noise level"
            )
        levels: list[list[float]] = rho(schedule, times).tolist()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        paths = [self._path(row) for row in levels]
        longest = max(map(len, paths))
        last = times.shape[1] - 1  # padding: a step from the last knot to itself makes no call
        index = torch.tensor([path + [last] * (longest - len(path)) for path in paths], device=times.device)
        t, s = times.gather(1, index), times.gather(1, (index + 1).clamp_max(last))
        s_noise = 1.0 if self.num_restarts else None
        return init_linear(state, two_stage(schedule, t, s, prediction="noise", r=1.0, s_noise=s_noise))

    def _path(self, knots: list[float]) -> list[int]:
        """The indices of a sample's grid steps in the order in which they are made."""
        steps = list(range(len(knots) - 1))
        down = next((i for i in steps if 0 < knots[i + 1] <= self.low), None)
        up = max((i for i in steps if knots[i] >= self.high), default=None)
        if down is None or up is None or up > down:
            return steps
        return steps[: down + 1] + steps[up : down + 1] * self.num_restarts + steps[down + 1 :]

    def update(self, state: State, q: Point, process: Gaussian) -> State:
        return linear_update(state, q)
