"""UniPC: an exponential multistep predictor with a corrector that needs no further function evaluation.

A step of order p predicts x_s from the polynomial through the last p denoiser outputs. The output D_s at the predicted
point, which the next step needs anyway, is one more node: it corrects x_s to order p + 1. Predictor and corrector are
both linear in the outputs, so the correction of one step and the prediction of the next are one entry of the table (see
`linear`).

The published method (bh2) is the exact exponential integrator but for two weights that it sets to 1 / 2: that of the
predictor for p = 2, which makes it DPM-Solver++ 2M, and that of the corrector for p = 1.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from langevin.diffusion.posterior import Point
from langevin.diffusion.process.gaussian import Gaussian
from langevin.diffusion.sampler.exponential import output_weights
from langevin.diffusion.sampler.linear import CallTable, StepGeometry, init_linear, linear_update, warmup_knots
from langevin.diffusion.sampler.state import Processes, State


@dataclass(frozen=True, kw_only=True)
class UniPC:
    """UniPC-p with bh2 ("UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of Diffusion Models", 2023,
    arXiv:2302.04867), order p + 1 with one function evaluation per step:

        x'_s = (sigma_s / sigma_t) x_t - alpha_s B (D_0 + sum_{j=1}^{p-1} w_j (D_j - D_0) / r_j)
        x_s  = (sigma_s / sigma_t) x_t - alpha_s B (D_0 + sum_{j=1}^{p-1} v_j (D_j - D_0) / r_j + v_p (D(x'_s, s) - D_0)),

    with B = e^{-h} - 1, D_0 the output at t, D_j the output j steps earlier, at lambda_t + r_j h. The weights solve

        sum_j w_j r_j^{n-1} = b_n (n < p),     sum_j v_j r_j^{n-1} = b_n (n <= p), r_p = 1,
        b_n = n! phi_n / B,     phi_1 = -B / h - 1,     phi_n = -phi_{n-1} / h - 1 / n!,

    except w_1 = 1 / 2 for p = 2 and v_1 = 1 / 2 for p = 1.

    Args:
        p: number of outputs that the predictor interpolates, 1 to 5.
        full_start: start at full order, for p - 2 more function evaluations (none for p = 2).
        lower_order_final: lower the order to 1 over the last steps: more stable, order 2 overall.

    Raises:
        ValueError: p out of range.
    """

    kind: Literal["unipc"] = "unipc"
    p: int = 2
    full_start: bool = True
    lower_order_final: bool = False
    processes: ClassVar[Processes] = (Gaussian,)

    def __post_init__(self) -> None:
        if not 1 <= self.p <= 5:
            raise ValueError(f"UniPC needs p from 1 to 5, got {self.p}")

    @property
    def convergence_order(self) -> int | None:
        if self.lower_order_final:
            return 2
        return self.p + 1 if self.full_start else min(3, self.p + 1)

    def begin(self, state: State, process: Gaussian) -> State:
        times = state.times
        if self.full_start:
            times = warmup_knots(process.schedule, times, self.p + 1, first=2)
        steps = StepGeometry.of(process.schedule, times)
        order = steps.order(self.p, lower_final=self.lower_order_final)
        a, b = steps.ddim_weights()
        predictor = self._predictor(steps, order, b)
        change = [
            corrected - predicted
            for corrected, predicted in zip(self._corrector(steps, order), (0.0, *predictor), strict=True)
        ]
        change = [torch.where(steps.regular, c, 0.0) for c in change]
        # a step is corrected at the call after it
        change = [torch.cat([torch.zeros_like(c[:, :1]), c[:, :-1]], 1) for c in change]
        weights = [torch.addcmul(w, a, c) for w, c in zip((*predictor, torch.zeros_like(a)), change, strict=True)]
        return init_linear(state, CallTable(times=steps.t, weights=(a, *weights)))

    def _predictor(self, steps: StepGeometry, order: Tensor, alone: Tensor) -> list[Tensor]:
        """Weights of the output at t and of earlier ones; `alone` is the weight of D_0 in a first-order step."""
        exact = output_weights(steps, order, self.p)
        weights = [steps.alpha_s * w for w in exact]
        weights[0] = torch.where(steps.regular, weights[0], alone)
        weights[1:] = [torch.where(steps.regular, w, 0.0) for w in weights[1:]]
        if self.p > 1:
            two = steps.regular & (order == 2)
            half_r = torch.where(two, 0.5 * steps.h / torch.where(two, steps.shift(steps.h, 1), 1.0), 0.0)
            weights[0] = torch.where(two, alone * (1 + half_r), weights[0])
            weights[1] = torch.where(two, -alone * half_r, weights[1])
        return weights

    def _corrector(self, steps: StepGeometry, order: Tensor) -> list[Tensor]:
        """Weights of the output at s, of that at t, and of earlier ones."""
        weights = [steps.alpha_s * w for w in output_weights(steps, order, self.p, corrector=True)]
        _, b = steps.ddim_weights()
        one = steps.regular & (order == 1)
        halves = [b / 2 if j < 2 else torch.zeros_like(b) for j in range(len(weights))]
        return [torch.where(one, half, w) for half, w in zip(halves, weights, strict=True)]

    def update(self, state: State, q: Point, process: Gaussian) -> State:
        return linear_update(state, q)
