"""First-order samplers with fresh noise at every step: Euler-Maruyama, and DDIM with a Langevin corrector.

The reverse equation in canonical coordinates, y = x / alpha, is dy = 2 eps drho + sqrt(2 rho) dw, rho falling ("Score-Based
Generative Modeling through Stochastic Differential Equations", 2021).
"""

from dataclasses import dataclass
from typing import Literal

import torch

from langevin.diffusion.posterior import Point
from langevin.diffusion.process.gaussian import Gaussian
from langevin.diffusion.sampler.linear import Rows, Steps, any_place, begin, update
from langevin.diffusion.sampler.state import State


@dataclass(frozen=True, kw_only=True)
class EulerMaruyama:
    """y_s = y_t + 2 (rho_s - rho_t) eps + sqrt(2 rho_t (rho_t - rho_s)) n; a last step to t = 0 takes D, and one from no
    signal at all is ancestral."""

    process: Gaussian
    kind: Literal["euler_maruyama"] = "euler_maruyama"

    @property
    def order(self) -> int | None:
        return None

    def begin(self, state: State) -> State:
        steps = Steps.of(self.process.schedule, state.times)
        regular, moved = steps.regular, steps.h != 0
        alpha_t, sigma_t = (torch.where(regular, v, 1.0) for v in (steps.alpha_t, steps.sigma_t))
        less = torch.expm1(-steps.h)  # rho_s / rho_t - 1
        keep = torch.where(moved, 0.0, 1.0)
        c_x = torch.where(regular, steps.alpha_s / alpha_t * (1 + 2 * less), keep)
        c_d = torch.where(regular, -2 * steps.alpha_s * less, torch.where(moved, steps.alpha_s, 0.0))
        added = steps.alpha_s * sigma_t / alpha_t * (-2 * less).clamp_min(0).sqrt()
        noise = torch.where(regular, added, torch.where(moved, steps.sigma_s, 0.0))
        return begin(state, Rows(times=steps.t, weights=(c_x, c_d), noise=noise))

    def update(self, state: State, q: Point) -> State:
        return update(state, q)


@dataclass(frozen=True, kw_only=True)
class Langevin:
    """DDIM's steps, each followed by Langevin steps at the noise level reached: x + d score + sqrt(2 d) n.

    The published step d = 2 (r |n| / |score|)^2 takes norms of the row; with their expectation, that of noise alone, it is
    2 r^2 sigma^2, the same for all rows. A Langevin step of a fixed size has a bias of its own that more grid steps do not
    remove, so it is shortened by min(1, h), the grid step's length in log(alpha / sigma).

    Args:
        ratio: r, the published signal-to-noise ratio.
        corrections: Langevin steps after each step, a call each; none at t = 0.
    """

    process: Gaussian
    ratio: float = 0.16
    corrections: int = 1
    kind: Literal["langevin"] = "langevin"

    def __post_init__(self) -> None:
        if not (0 < self.ratio < 0.7 and self.corrections >= 1):
            raise ValueError(
                f"a Langevin corrector needs a ratio in (0, 0.7), beyond which it diverges, and corrections >= 1: {self}"
            )

    @property
    def order(self) -> int | None:
        return None

    def begin(self, state: State) -> State:
        steps = Steps.of(self.process.schedule, state.times)
        a, b = steps.first_order()
        here = (steps.sigma_s > 0) & (steps.h != 0)
        part = 2 * self.ratio**2 * torch.where(steps.h.isfinite(), steps.h.abs(), 1.0).clamp_max(1)  # d / sigma^2
        part = torch.where(here, part, 0.0)
        zero = torch.zeros_like(a)
        times = torch.stack([steps.t, *[steps.s] * self.corrections], 2).flatten(1, 2)
        weights = [
            torch.stack([first, *[then] * self.corrections], 2).flatten(1, 2)
            for first, then in ((a, 1 - part), (b, part * steps.alpha_s), (zero, steps.sigma_s * (2 * part).sqrt()))
        ]
        asked = torch.stack([any_place(steps.h != 0), *[any_place(here)] * self.corrections], 2).flatten(1, 2)
        return begin(state, Rows(times=times, weights=weights[:2], noise=weights[2], asked=asked))

    def update(self, state: State, q: Point) -> State:
        return update(state, q)
