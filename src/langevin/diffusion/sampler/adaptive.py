"""Steps of the probability flow that choose their own length: the Bogacki-Shampine pair ("A 3(2) Pair of Runge-Kutta
Formulas", 1989) with error control.

In y = x / alpha and v = ln rho the flow is dy / dv = rho eps = y - D. A step of length h from slope k_1 asks three times,

    k_2 = f(v + h / 2, y + h k_1 / 2),   k_3 = f(v + 3 h / 4, y + 3 h k_2 / 4),
    y'  = y + h (2 k_1 + 3 k_2 + 4 k_3) / 9,   k_4 = f(v + h, y'),

takes y' if the error h (-5 k_1 + 6 k_2 + 8 k_3 - 9 k_4) / 72, in units of `tolerance` (0.1 + |y'|) by root mean square
over the row, is at most 1, and then begins with k_1 = k_4. The next length is h 0.9 err^(-1/3), between h / 5 and
5 h. Every row goes at its own pace.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from langevin.diffusion.posterior import Point
from langevin.diffusion.process.gaussian import Gaussian
from langevin.diffusion.sampler.state import State
from langevin.diffusion.schedule import rho
from langevin.diffusion.shape import right_pad

STAGES = torch.tensor([[0.0, 0, 0], [1 / 2, 0, 0], [0, 3 / 4, 0], [2 / 9, 1 / 3, 4 / 9]], dtype=torch.float64)
NODES = torch.tensor([0.0, 1 / 2, 3 / 4, 1.0], dtype=torch.float64)
ERROR = torch.tensor([-5 / 72, 1 / 12, 1 / 9, -1 / 8], dtype=torch.float64)
"""Weights of k_1, k_2, k_3 in the point of each stage, where it lies, and the weights of the error."""


@dataclass(frozen=True, kw_only=True)
class Adaptive:
    """Third order with error control. Of the grid only the ends count: the first time, and the last above 0, where the
    answer is the sample. Times must be (b,), and begin below infinite rho.

    Args:
        tolerance: error of a step, relative to 0.1 + |y|.
        first: length of the first step in ln rho.
        most: questions after which a row gives up, leaving what it has.
    """

    process: Gaussian
    tolerance: float = 1e-3
    first: float = 0.1
    most: int = 10_000
    kind: Literal["adaptive"] = "adaptive"

    def __post_init__(self) -> None:
        if not (0 < self.tolerance < 1 and 0 < self.first < math.inf and self.most >= 4):
            raise ValueError(f"adaptive steps need a tolerance in (0, 1), first > 0 and most >= 4, got {self}")

    @property
    def order(self) -> int | None:
        return 3

    def begin(self, state: State) -> State:
        if state.times.ndim != 2:
            raise ValueError("adaptive steps take one time a row, (b,): places with times of their own go at one pace")
        schedule, times = self.process.schedule, state.times
        start, zero = times[:, 0], times[:, -1] == 0
        above = times > 0
        end = torch.where(zero, torch.where(above, times, 2.0).amin(1), times[:, -1])
        begin_, end_ = (rho(schedule, t).log() for t in (start, end))
        if not bool(begin_.isfinite().all()):
            raise ValueError(
                "adaptive steps cannot begin where no signal is left (alpha = 0): use a grid with a finite high"
            )
        h = torch.minimum((end_ - begin_).abs(), torch.full_like(end_, self.first)) * (end_ - begin_).sign()
        like = torch.zeros_like(state.x)
        y = state.x / right_pad(schedule.alpha(start), like).to(like.dtype)
        last = torch.where(state.last > 0, self.most, 0)
        memory = {"y": y, **{f"k_{i}": like for i in range(1, 4)}, "v": begin_, "end": end_, "h": h,
                  "zero": zero, "stage": torch.zeros_like(state.k)}  # fmt: skip
        return replace(state, last=last, memory=memory)

    def update(self, state: State, q: Point) -> State:
        m, dtype = state.memory, state.x.dtype

        def wide(values: Tensor) -> Tensor:
            return right_pad(values, state.x).to(dtype)

        stage, v, h, y = m["stage"], m["v"], m["h"], m["y"]
        finishing = (v == m["end"]) & (stage == 0)
        schedule = self.process.schedule
        here = torch.where(finishing, state.t, schedule.time(-2 * (v + NODES.to(v)[stage] * h)))
        k_new = state.x / wide(schedule.alpha(here)) - q.mean
        slopes = [torch.where(wide(stage == i) > 0, k_new, m[f"k_{i + 1}"]) for i in range(3)]
        error = h[:, None] * ERROR.to(v)
        e = sum((wide(error[:, i]) * k for i, k in enumerate((*slopes, k_new))), torch.zeros_like(y))
        y_new = state.x / wide(schedule.alpha(here))
        scale = self.tolerance * (0.1 + torch.maximum(y.abs(), y_new.abs()))
        size = (e / scale).double().flatten(1).square().mean(1).sqrt().clamp_min(1e-10)
        judged = stage == 3
        taken = judged & (size <= 1)
        factor = (0.9 * size ** (-1 / 3)).clamp(0.2, 5)
        v = torch.where(taken, v + h, v)
        y = torch.where(wide(taken) > 0, y_new, y)
        slopes[0] = torch.where(wide(taken) > 0, k_new, slopes[0])
        left = m["end"] - v
        arrived = taken & (left.abs() < 1e-9)
        v = torch.where(arrived, m["end"], v)
        h = torch.where(judged, torch.where(factor.abs() * h.abs() < left.abs(), factor * h, left), h)
        stage = torch.where(arrived, 0, torch.where(judged, 1, stage + 1))
        weights = h[:, None] * STAGES.to(v)[stage]
        point = y + sum((wide(weights[:, i]) * k for i, k in enumerate(slopes)), torch.zeros_like(y))
        t = schedule.time(-2 * (v + NODES.to(v)[stage] * h)).clamp(0, 1)
        x = point * wide(schedule.alpha(t))
        over = finishing | (arrived & ~m["zero"])
        x = torch.where(wide(finishing) > 0, q.mean, x)
        t = torch.where(finishing, 0.0, t)
        k = state.k + 1
        return replace(
            state, x=x, t=t, k=k, last=torch.where(over, k, state.last),
            memory={**m, "y": y, "v": v, "h": h, "stage": stage,
                    **{f"k_{i + 1}": slope for i, slope in enumerate(slopes)}},
        )  # fmt: skip
