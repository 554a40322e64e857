"""UniPC: an exponential predictor, corrected by the answer that the next step asks for anyway ("UniPC: A Unified
Predictor-Corrector Framework for Fast Sampling of Diffusion Models", 2023).

A step of order p predicts x_s by the polynomial through the last p answers. The answer D_s at the predicted point is a
node more: it corrects x_s to order p + 1 before the next step leaves from there, and costs no call. Both are weights on
answers, so a corrected step and the prediction after it are one row of numbers.

The published method (its bh2) is the exact exponential integrator, but for two of its weights that are set to 1 / 2: the
predictor's of p = 2, which makes it DPM-Solver++ 2M, and the corrector's of p = 1.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from langevin.diffusion.posterior import Point
from langevin.diffusion.process.gaussian import Gaussian
from langevin.diffusion.sampler.exponential import answer_weights
from langevin.diffusion.sampler.linear import Rows, Steps, begin, ramp, update
from langevin.diffusion.sampler.state import State


@dataclass(frozen=True, kw_only=True)
class UniPC:
    """Order p + 1 for one call a step.

    Args:
        p: answers that the predictor looks at.
        full_start: begin at the full order, at the price of p - 2 calls more (none for p = 2).
        lower_order_final: let the order fall to 1 along a row's last steps: steadier, and of order 2 in all.
    """

    process: Gaussian
    p: int = 3
    full_start: bool = True
    lower_order_final: bool = False
    kind: Literal["unipc"] = "unipc"

    def __post_init__(self) -> None:
        if not 1 <= self.p <= 5:
            raise ValueError(f"UniPC looks at 1 to 5 answers, got {self.p}")

    @property
    def order(self) -> int | None:
        if self.lower_order_final:
            return 2
        return self.p + 1 if self.full_start else min(3, self.p + 1)

    def begin(self, state: State) -> State:
        schedule = self.process.schedule
        times = ramp(schedule, state.times, self.p + 1, first=2) if self.full_start else state.times
        steps = Steps.of(schedule, times)
        order = steps.order(self.p, lower_final=self.lower_order_final)
        a, b = steps.first_order()
        predicted = self._predictor(steps, order, b)
        change = [
            after - before for after, before in zip(self._corrector(steps, order), (0.0, *predicted), strict=True)
        ]
        corrects = steps.regular  # the step before it, if that was one
        change = [torch.where(corrects, c, 0.0) for c in change]
        change = [torch.cat([torch.zeros_like(c[:, :1]), c[:, :-1]], 1) for c in change]
        weights = [torch.addcmul(w, a, c) for w, c in zip((*predicted, torch.zeros_like(a)), change, strict=True)]
        return begin(state, Rows(times=steps.t, weights=(a, *weights)))

    def _predictor(self, steps: Steps, order: Tensor, alone: Tensor) -> list[Tensor]:
        """Weights on the answer at t and on those before."""
        exact = answer_weights(steps, order, self.p)
        weights = [steps.alpha_s * w for w in exact]
        weights[0] = torch.where(steps.regular, weights[0], alone)
        weights[1:] = [torch.where(steps.regular, w, 0.0) for w in weights[1:]]
        if self.p > 1:
            two = steps.regular & (order == 2)
            half_r = torch.where(two, 0.5 * steps.h / torch.where(two, steps.lag(steps.h, 1), 1.0), 0.0)
            weights[0] = torch.where(two, alone * (1 + half_r), weights[0])
            weights[1] = torch.where(two, -alone * half_r, weights[1])
        return weights

    def _corrector(self, steps: Steps, order: Tensor) -> list[Tensor]:
        """Weights on the answer at s, at t, and on those before."""
        weights = [steps.alpha_s * w for w in answer_weights(steps, order, self.p, ahead=True)]
        _, b = steps.first_order()
        one = steps.regular & (order == 1)
        halves = [b / 2 if j < 2 else torch.zeros_like(b) for j in range(len(weights))]
        return [torch.where(one, half, w) for half, w in zip(halves, weights, strict=True)]

    def update(self, state: State, q: Point) -> State:
        return update(state, q)
