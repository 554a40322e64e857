"""DDIM(eta), and Euler's method, which it is at eta = 0.

In canonical coordinates y = x / alpha, rho = sigma / alpha the probability flow is dy / drho = eps, and Euler's step
y + (rho_s - rho_t) eps is, back in x, alpha_s D + sigma_s eps: DDIM ("Denoising Diffusion Implicit Models", 2021).
eta = 1 is ancestral sampling; "Denoising Diffusion Probabilistic Models" (2020) names two variances for it, that of the
posterior, sigma_s^2 (1 - e^{-2h}), and the larger one of the forward step, sigma_t^2 (1 - e^{-2h}).
"""

from dataclasses import dataclass
from typing import Literal

import torch

from langevin.diffusion.posterior import Point
from langevin.diffusion.process.gaussian import Gaussian, step_back
from langevin.diffusion.sampler.linear import Rows, Steps, begin, update
from langevin.diffusion.sampler.state import State


@dataclass(frozen=True, kw_only=True)
class DDIM:
    """x_s = a x_t + b D + c n, see `process.gaussian`.

    Args:
        eta: share of fresh noise, in [0, 1].
        variance: of that noise: the posterior's, or with eta = 1 the forward step's; none is added to reach t = 0.
    """

    process: Gaussian
    eta: float = 0.0
    variance: Literal["posterior", "forward"] = "posterior"
    kind: Literal["ddim"] = "ddim"

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta is a share of fresh noise, between 0 and 1, got {self.eta}")
        if self.variance == "forward" and self.eta != 1:
            raise ValueError(f"the forward step's variance belongs to eta = 1, got eta {self.eta}")

    @property
    def order(self) -> int | None:
        return 1 if self.eta == 0 else None

    def begin(self, state: State) -> State:
        t, s = state.times[:, :-1], state.times[:, 1:]
        a, b, c = step_back(self.process.schedule, t, s, self.eta)
        if self.variance == "forward":
            sigma_t, sigma_s = self.process.schedule.sigma(t), self.process.schedule.sigma(s)
            c = torch.where(sigma_s > 0, c * sigma_t / torch.where(sigma_s > 0, sigma_s, 1.0), 0.0)
        return begin(state, Rows(times=t, weights=(a, b), noise=c if self.eta > 0 else None))

    def update(self, state: State, q: Point) -> State:
        return update(state, q)


@dataclass(frozen=True, kw_only=True)
class Euler:
    """Euler's method for dy / drho = eps: first order, one call a step."""

    process: Gaussian
    kind: Literal["euler"] = "euler"

    @property
    def order(self) -> int | None:
        return 1

    def begin(self, state: State) -> State:
        steps = Steps.of(self.process.schedule, state.times)
        return begin(state, Rows(times=steps.t, weights=steps.first_order()))

    def update(self, state: State, q: Point) -> State:
        return update(state, q)
