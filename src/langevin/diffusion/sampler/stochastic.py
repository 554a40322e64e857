"""First-order samplers with fresh noise at every step: Euler-Maruyama, and DDIM with a Langevin corrector.

The reverse SDE in canonical coordinates, y = x / alpha, is dy = 2 eps drho + sqrt(2 rho) dw with rho falling.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from langevin.diffusion.posterior import Point
from langevin.diffusion.process.gaussian import Gaussian
from langevin.diffusion.sampler.linear import CallTable, StepGeometry, any_position, init_linear, linear_update
from langevin.diffusion.sampler.state import Processes, State


@dataclass(frozen=True, kw_only=True)
class EulerMaruyama:
    """Euler-Maruyama for the reverse SDE ("Score-Based Generative Modeling through Stochastic Differential Equations",
    2021, arXiv:2011.13456):

        x_s / alpha_s = x_t / alpha_t + 2 (rho_s - rho_t) eps + sqrt(2 rho_t (rho_t - rho_s)) n.

    A step to t = 0 returns D. A step from alpha_t = 0 is an ancestral step."""

    kind: Literal["euler_maruyama"] = "euler_maruyama"
    processes: ClassVar[Processes] = (Gaussian,)

    @property
    def convergence_order(self) -> int | None:
        return None

    def begin(self, state: State, process: Gaussian) -> State:
        steps = StepGeometry.of(process.schedule, state.times)
        regular, moved = steps.regular, steps.h != 0
        alpha_t, sigma_t = (torch.where(regular, v, 1.0) for v in (steps.alpha_t, steps.sigma_t))
        fall = torch.expm1(-steps.h)  # rho_s / rho_t - 1
        keep = torch.where(moved, 0.0, 1.0)
        c_x = torch.where(regular, steps.alpha_s / alpha_t * (1 + 2 * fall), keep)
        c_d = torch.where(regular, -2 * steps.alpha_s * fall, torch.where(moved, steps.alpha_s, 0.0))
        std = steps.alpha_s * sigma_t / alpha_t * (-2 * fall).clamp_min(0).sqrt()
        noise = torch.where(regular, std, torch.where(moved, steps.sigma_s, 0.0))
        return init_linear(state, CallTable(times=steps.t, weights=(c_x, c_d), noise=noise))

    def update(self, state: State, q: Point, process: Gaussian) -> State:
        return linear_update(state, q)


@dataclass(frozen=True, kw_only=True)
class Langevin:
    """A DDIM step, then Langevin steps at the noise level reached, the corrector of "Score-Based Generative Modeling
    through Stochastic Differential Equations" (2021, arXiv:2011.13456):

        x <- x + d score + sqrt(2 d) n,     score = (alpha_s D - x) / sigma_s^2.

    The published d = 2 (r |n| / |score|)^2 uses norms over a sample. With their expectations under pure noise it is
    2 r^2 sigma_s^2. A Langevin step of fixed size has a bias that does not vanish on finer grids. So here d = 2 r^2
    sigma_s^2 min(1, h), with h the length of the grid step in ln(alpha / sigma).

    Args:
        ratio: r, the published signal-to-noise ratio, in (0, 0.7).
        corrections: Langevin steps after each step, 1 to 100, each one function evaluation; none at t = 0.

    Raises:
        ValueError: a ratio or number of corrections out of range.
    """

    kind: Literal["langevin"] = "langevin"
    ratio: float = 0.16
    corrections: int = 1
    processes: ClassVar[Processes] = (Gaussian,)

    def __post_init__(self) -> None:
        if not (0 < self.ratio < 0.7 and 1 <= self.corrections <= 100):
            raise ValueError(
                "a Langevin corrector needs a ratio in (0, 0.7), beyond which it diverges, and 1 to 100 corrections, got "
                f"{self.ratio} and {self.corrections}"
            )

    @property
    def convergence_order(self) -> int | None:
        return None

    def begin(self, state: State, process: Gaussian) -> State:
        steps = StepGeometry.of(process.schedule, state.times)
        a, b = steps.ddim_weights()
        corrected = (steps.sigma_s > 0) & (steps.h != 0)
        size = 2 * self.ratio**2 * torch.where(steps.h.isfinite(), steps.h.abs(), 1.0).clamp_max(1)  # d / sigma_s^2
        size = torch.where(corrected, size, 0.0)
        zero = torch.zeros_like(a)
        times = torch.stack([steps.t, *[steps.s] * self.corrections], 2).flatten(1, 2)
        weights = [
            torch.stack([step, *[correction] * self.corrections], 2).flatten(1, 2)
            for step, correction in (
                (a, 1 - size),
                (b, size * steps.alpha_s),
                (zero, steps.sigma_s * (2 * size).sqrt()),
            )
        ]
        called = [any_position(steps.h != 0), *[any_position(corrected)] * self.corrections]
        called = torch.stack(called, 2).flatten(1, 2)
        return init_linear(state, CallTable(times=times, weights=weights[:2], noise=weights[2], called=called))

    def update(self, state: State, q: Point, process: Gaussian) -> State:
        return linear_update(state, q)
