"""DPM-Solver++ 2M: the exponential integrator in lambda = ln(alpha / sigma), one call a step
("DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models", 2022).

With h = lambda_s - lambda_t and r = h / (lambda_t - lambda of the step before), the published midpoint form is

    x_s = sigma_s / sigma_t x + alpha_s (1 - e^{-h}) [D + r / 2 (D - D_before)].

The first step, and one of infinite h (from no signal, or to t = 0), takes D alone.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from langevin.diffusion.posterior import Point
from langevin.diffusion.process.gaussian import Gaussian, step_back
from langevin.diffusion.sampler.state import State
from langevin.diffusion.sampler.table import look_up, make_table


@dataclass(frozen=True, kw_only=True)
class DPM2M:
    """Second order, one call a step; the memory is the last answer.

    Args:
        lower_order_final: take D alone on a row's last step; steadier at few steps under strong guidance, same order.
    """

    process: Gaussian
    lower_order_final: bool = False
    kind: Literal["dpm2m"] = "dpm2m"

    @property
    def order(self) -> int | None:
        return 2

    def memory(self, state: State) -> dict[str, Tensor]:
        t, s = state.times[:, :-1], state.times[:, 1:]
        a, b, _ = step_back(self.process.schedule, t, s, 0.0)  # sigma_s / sigma_t and alpha_s (1 - e^{-h})
        h = (self.process.schedule.log_snr(s) - self.process.schedule.log_snr(t)) / 2
        before = torch.cat([torch.zeros_like(h[:, :1]), h[:, :-1]], 1)
        both = torch.isfinite(h) & torch.isfinite(before) & (before > 0) & (h > 0)
        if self.lower_order_final:
            both &= s > state.times[:, -1:]
        half_r = torch.where(both, 0.5 * h / torch.where(both, before, 1.0), 0.0)
        table = make_table(a, b * (1 + half_r), -b * half_r, like=state.x)
        return {**table, "before": torch.zeros_like(state.x)}

    def update(self, state: State, q: Point) -> State:
        a, b, c = look_up(state)
        x = (a * state.x).addcmul_(b, q.mean).addcmul_(c, state.memory["before"])
        return state.advance(x, before=q.mean)
