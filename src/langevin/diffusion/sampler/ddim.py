"""First-order samplers with one function evaluation per step: DDIM, DDPM and Euler.

D is the denoiser's prediction of E[x | x_t], and eps = (x_t - alpha_t D) / sigma_t the noise that it implies. In the
coordinates y = x_t / alpha, rho = sigma / alpha the probability flow is dy / drho = eps. Its Euler step
y_s = y_t + (rho_s - rho_t) eps is x_s = alpha_s D + sigma_s eps: DDIM with eta = 0. h = ln(alpha_s / sigma_s) -
ln(alpha_t / sigma_t) is the length of a step in half log-SNR, so e^{-h} = sigma_s alpha_t / (sigma_t alpha_s).

Each `begin` computes the coefficients (a, b, c) of x_s = a x_t + b D + c n for all steps of the grid, n ~ N(0, 1), and each
`update` applies those of one step (see `linear`).
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from langevin.diffusion.posterior import Point
from langevin.diffusion.process.gaussian import Gaussian, reverse_step
from langevin.diffusion.sampler.linear import CallTable, StepGeometry, init_linear, linear_update
from langevin.diffusion.sampler.state import Processes, State
from langevin.diffusion.schedule import AnySchedule


@dataclass(frozen=True, kw_only=True)
class DDIM:
    """DDIM ("Denoising Diffusion Implicit Models", 2020, arXiv:2010.02502):

        x_s = alpha_s D + sqrt(sigma_s^2 - c^2) eps + c n,     c = eta sigma_s sqrt(1 - e^{-2h}),

    with eps = (x_t - alpha_t D) / sigma_t, e^{-h} = sigma_s alpha_t / (sigma_t alpha_s), and fresh noise n ~ N(0, 1).

    Args:
        eta: the paper's eta, in [0, 1]; 0 is deterministic, 1 is ancestral sampling.

    Raises:
        ValueError: eta outside [0, 1].
    """

    kind: Literal["ddim"] = "ddim"
    eta: float = 0.0
    processes: ClassVar[Processes] = (Gaussian,)

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must be between 0 (deterministic) and 1 (ancestral sampling), got {self.eta}")

    @property
    def convergence_order(self) -> int | None:
        return 1 if self.eta == 0 else None

    def step(self, schedule: AnySchedule, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(a, b, c) of x_s = a x_t + b D + c n, float64, elementwise in t and s."""
        return reverse_step(schedule, t, s, self.eta)

    def begin(self, state: State, process: Gaussian) -> State:
        t, s = state.times[:, :-1], state.times[:, 1:]
        a, b, c = self.step(process.schedule, t, s)
        return init_linear(state, CallTable(times=t, weights=(a, b), noise=c if self.eta > 0 else None))

    def update(self, state: State, q: Point, process: Gaussian) -> State:
        return linear_update(state, q)


@dataclass(frozen=True, kw_only=True)
class DDPM:
    """DDPM, ancestral sampling with a choice of variance ("Denoising Diffusion Probabilistic Models", 2020,
    arXiv:2006.11239):

        x_s = mu + std n,     mu = alpha_s D + sigma_s e^{-h} eps,   the mean of q(x_s | x_t, x = D).

    Args:
        variance: "posterior": std^2 = sigma_s^2 (1 - e^{-2h}), the variance of q(x_s | x_t, x). "forward": std^2 =
            sigma_t^2 (1 - e^{-2h}), the variance beta_t of q(x_t | x_s), and no noise in a step to t = 0.
    """

    kind: Literal["ddpm"] = "ddpm"
    variance: Literal["posterior", "forward"] = "forward"
    processes: ClassVar[Processes] = (Gaussian,)

    @property
    def convergence_order(self) -> int | None:
        return None

    def step(self, schedule: AnySchedule, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(a, b, std) of x_s = a x_t + b D + std n, float64, elementwise in t and s."""
        a, b, std = reverse_step(schedule, t, s, 1.0)
        if self.variance == "forward":
            sigma_t, sigma_s = schedule.sigma(t), schedule.sigma(s)
            # sigma_t sqrt(1 - e^{-2h}); sigma_s = 0 in a step to t = 0
            std = torch.where(sigma_s > 0, std * sigma_t / torch.where(sigma_s > 0, sigma_s, 1.0), 0.0)
        return a, b, std

    def begin(self, state: State, process: Gaussian) -> State:
        t, s = state.times[:, :-1], state.times[:, 1:]
        a, b, std = self.step(process.schedule, t, s)
        return init_linear(state, CallTable(times=t, weights=(a, b), noise=std))

    def update(self, state: State, q: Point, process: Gaussian) -> State:
        return linear_update(state, q)


@dataclass(frozen=True, kw_only=True)
class Euler:
    """Euler's method for the probability flow dy / drho = eps, y = x_t / alpha, rho = sigma / alpha:

    x_s / alpha_s = x_t / alpha_t + (rho_s - rho_t) eps,     eps = (x_t - alpha_t D) / sigma_t.
    """

    kind: Literal["euler"] = "euler"
    processes: ClassVar[Processes] = (Gaussian,)

    @property
    def convergence_order(self) -> int | None:
        return 1

    def begin(self, state: State, process: Gaussian) -> State:
        steps = StepGeometry.of(process.schedule, state.times)
        return init_linear(state, CallTable(times=steps.t, weights=steps.ddim_weights()))

    def update(self, state: State, q: Point, process: Gaussian) -> State:
        return linear_update(state, q)
