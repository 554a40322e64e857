"""The Bogacki-Shampine method for the probability flow, with adaptive step size.

In y = x / alpha and v = ln rho the flow is dy / dv = rho eps = y - D = f. A step of length h from slope k_1 evaluates f
three times,

    k_2 = f(v + h / 2, y + h k_1 / 2),   k_3 = f(v + 3 h / 4, y + 3 h k_2 / 4),
    y'  = y + h (2 k_1 + 3 k_2 + 4 k_3) / 9,   k_4 = f(v + h, y'),

It accepts y' if err, the root mean square over the sample of h (-5 k_1 + 6 k_2 + 8 k_3 - 9 k_4) / 72 in units of
`tolerance` (0.1 + max(|y|, |y'|)), is at most 1; k_4 is then k_1 of the next step. The next length is 0.9 h err^(-1/3),
between h / 5 and 5 h. Every sample has its own step sizes.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from langevin.diffusion.float64 import to_float64
from langevin.diffusion.posterior import Point
from langevin.diffusion.process.gaussian import Gaussian
from langevin.diffusion.sampler.state import Processes, State
from langevin.diffusion.schedule import rho
from langevin.diffusion.shape import append_dims

STAGES = torch.tensor([[0.0, 0, 0], [1 / 2, 0, 0], [0, 3 / 4, 0], [2 / 9, 1 / 3, 4 / 9]], dtype=torch.float64)
NODES = torch.tensor([0.0, 1 / 2, 3 / 4, 1.0], dtype=torch.float64)
ERROR = torch.tensor([-5 / 72, 1 / 12, 1 / 9, -1 / 8], dtype=torch.float64)
"""The Butcher tableau: weights of k_1, k_2, k_3 at each stage, its node, and the weights of the error estimate."""


@dataclass(frozen=True, kw_only=True)
class BogackiShampine:
    """The embedded Runge-Kutta pair of orders 3 and 2 ("A 3(2) Pair of Runge-Kutta Formulas", 1989); see the module.

    It uses only the ends of the grid: the first time, of finite rho, and the last one above 0. If the grid ends at 0, D at
    that last time is the sample. Times per position are not supported.

    Args:
        tolerance: of the error of a step, relative to 0.1 + |y|, in (0, 1).
        first_step: length of the first step in ln rho.
        max_calls: function evaluations, 4 or more, after which a sample stops where it is.

    Raises:
        ValueError: a number out of range.
    """

    kind: Literal["bogacki_shampine"] = "bogacki_shampine"
    tolerance: float = 1e-3
    first_step: float = 0.1
    max_calls: int = 10_000
    processes: ClassVar[Processes] = (Gaussian,)

    def __post_init__(self) -> None:
        if not (0 < self.tolerance < 1 and 0 < self.first_step < math.inf and self.max_calls >= 4):
            raise ValueError(
                f"adaptive steps need a tolerance in (0, 1), first_step > 0 and max_calls >= 4, got {self}"
            )

    @property
    def convergence_order(self) -> int | None:
        return 3

    def begin(self, state: State, process: Gaussian) -> State:
        if state.times.ndim != 2:
            raise ValueError(
                "adaptive steps take one time per sample, (b,): the positions of a sample share its step size"
            )
        schedule, times = process.schedule, state.times
        first, ends_at_zero = times[:, 0], times[:, -1] == 0
        above = times > 0
        last = torch.where(ends_at_zero, torch.where(above, times, 2.0).amin(1), times[:, -1])
        v, end = (rho(schedule, t).log() for t in (first, last))
        if not bool(v.isfinite().all()):
            raise ValueError(
                "adaptive steps cannot begin where no signal is left (alpha = 0): use a grid with a finite `high`"
            )
        h = torch.minimum((end - v).abs(), torch.full_like(end, self.first_step)) * (end - v).sign()
        zeros = torch.zeros_like(state.x)
        y = state.x / append_dims(schedule.alpha(first), zeros).to(zeros)
        num_calls = torch.where(state.num_calls > 0, self.max_calls, 0)
        memory = {"y": y, **{f"k_{i}": zeros for i in range(1, 4)}, "v": v, "end": end, "h": h,
                  "ends_at_zero": ends_at_zero, "stage": torch.zeros_like(state.call_index)}  # fmt: skip
        return replace(state, num_calls=num_calls, memory=memory)

    def update(self, state: State, q: Point, process: Gaussian) -> State:
        memory, schedule = state.memory, process.schedule

        def wide(values: Tensor) -> Tensor:
            return append_dims(values, state.x).to(state.x)

        stage, v, h, y = memory["stage"], memory["v"], memory["h"], memory["y"]
        finishing = (v == memory["end"]) & (stage == 0)
        t = torch.where(finishing, state.t, schedule.time(-2 * (v + NODES.to(v)[stage] * h)))
        k_new = state.x / wide(schedule.alpha(t)) - q.mean
        slopes = [torch.where(wide(stage == i) > 0, k_new, memory[f"k_{i + 1}"]) for i in range(3)]
        weights = h[:, None] * ERROR.to(v)
        error = sum((wide(weights[:, i]) * k for i, k in enumerate((*slopes, k_new))), torch.zeros_like(y))
        y_new = state.x / wide(schedule.alpha(t))
        scale = self.tolerance * (0.1 + torch.maximum(y.abs(), y_new.abs()))
        size = to_float64(error / scale).flatten(1).square().mean(1).sqrt().clamp_min(1e-10)
        last_stage = stage == 3
        accepted = last_stage & (size <= 1)
        factor = (0.9 * size ** (-1 / 3)).clamp(0.2, 5)
        v = torch.where(accepted, v + h, v)
        y = torch.where(wide(accepted) > 0, y_new, y)
        slopes[0] = torch.where(wide(accepted) > 0, k_new, slopes[0])
        left = memory["end"] - v
        arrived = accepted & (left.abs() < 1e-9)
        v = torch.where(arrived, memory["end"], v)
        h = torch.where(last_stage, torch.where(factor.abs() * h.abs() < left.abs(), factor * h, left), h)
        stage = torch.where(arrived, 0, torch.where(last_stage, 1, stage + 1))
        weights = h[:, None] * STAGES.to(v)[stage]
        point = y + sum((wide(weights[:, i]) * k for i, k in enumerate(slopes)), torch.zeros_like(y))
        t = schedule.time(-2 * (v + NODES.to(v)[stage] * h)).clamp(0, 1)
        x = torch.where(wide(finishing) > 0, q.mean, point * wide(schedule.alpha(t)))
        k = state.call_index + 1
        done = finishing | (arrived & ~memory["ends_at_zero"])
        return replace(
            state, x=x, t=torch.where(finishing, 0.0, t), call_index=k, num_calls=torch.where(done, k, state.num_calls),
            memory={**memory, "y": y, "v": v, "h": h, "stage": stage,
                    **{f"k_{i + 1}": slope for i, slope in enumerate(slopes)}},
        )  # fmt: skip
