"""DDIM(eta), and Euler's method, which it is at eta = 0.

In canonical coordinates y = x / alpha, rho = sigma / alpha the probability flow is dy / drho = eps, and Euler's step
y + (rho_s - rho_t) eps is, back in x, alpha_s D + sigma_s eps: DDIM ("Denoising Diffusion Implicit Models", 2021).
eta = 1 is ancestral sampling.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from langevin.diffusion.posterior import Point
from langevin.diffusion.process.gaussian import Gaussian, step_back
from langevin.diffusion.sampler.state import State
from langevin.diffusion.sampler.table import look_up, make_table


@dataclass(frozen=True, kw_only=True)
class DDIM:
    """x_s = a x_t + b D + c n, see `process.gaussian`.

    Args:
        eta: share of fresh noise, in [0, 1].
    """

    process: Gaussian
    eta: float = 0.0
    kind: Literal["ddim"] = "ddim"

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta is a share of fresh noise, between 0 and 1, got {self.eta}")

    @property
    def order(self) -> int | None:
        return 1 if self.eta == 0 else None

    def memory(self, state: State) -> dict[str, Tensor]:
        t, s = state.times[:, :-1], state.times[:, 1:]
        a, b, c = step_back(self.process.schedule, t, s, self.eta)
        return make_table(a, b, *((c,) if self.eta > 0 else ()), like=state.x)

    def update(self, state: State, q: Point) -> State:
        a, b, *c = look_up(state)
        x = (a * state.x).addcmul_(b, q.mean)
        if c:
            x.addcmul_(c[0], state.noise.normal(x))
        return state.advance(x)


@dataclass(frozen=True, kw_only=True)
class Euler:
    """Euler's method for dy / drho = eps: first order, one call a step."""

    process: Gaussian
    kind: Literal["euler"] = "euler"

    @property
    def order(self) -> int | None:
        return 1

    def memory(self, state: State) -> dict[str, Tensor]:
        return DDIM(process=self.process).memory(state)

    def update(self, state: State, q: Point) -> State:
        a, b = look_up(state)
        return state.advance((a * state.x).addcmul_(b, q.mean))
