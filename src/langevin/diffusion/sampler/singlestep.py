"""Samplers with two function evaluations per step: Heun's method, DPM-Solver-2 and DPM-Solver++ 2S.

The first output D_t gives a DDIM step to lambda_u = lambda_t + r h, x_u = alpha_u D_t + sigma_u eps_t, where the
denoiser is evaluated again. A DDIM step with D_t from u on to s, plus a multiple W of the change of the output,

    x_s = (sigma_s / sigma_u) x_u + (alpha_s - sigma_s alpha_u / sigma_u) D_t + W (D_u - D_t),

is each of

    Heun             r = 1   W = sigma_s (e^h - 1) alpha_s / (2 sigma_s)
    DPM-Solver-2             W = sigma_s (e^h - 1) alpha_u / (2 r sigma_u)
    DPM-Solver++ 2S          W = alpha_s (1 - e^{-h}) / (2 r)

A step of infinite length (from alpha_t = 0, or to t = 0) has no second call.

A step may begin at a noisier time, rho, than the one at which the previous step ended, rho_s (see `renoising`). Noise
is then added in between, in canonical coordinates y + sqrt(rho^2 - rho_s^2) n.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from langevin.diffusion.posterior import Point
from langevin.diffusion.process.gaussian import Gaussian
from langevin.diffusion.sampler.linear import CallTable, StepGeometry, any_position, init_linear, linear_update
from langevin.diffusion.sampler.state import Processes, State
from langevin.diffusion.schedule import AnySchedule, rho
from langevin.diffusion.shape import append_dims

Prediction = Literal["noise", "data"]


def two_stage(
    schedule: AnySchedule, t: Tensor, s: Tensor, *, prediction: Prediction, r: float, s_noise: float | None = None
) -> CallTable:
    """The calls of steps t -> s, (b, n) or (b, n, positions); a step may begin at a noisier time than the last one ended.

    Args:
        prediction: W of DPM-Solver ("noise") or of DPM-Solver++ ("data").
        r: position of the second call between t and s in lambda, in (0, 1].
        s_noise: factor on the noise added between steps; None if none is added.
    """
    steps = StepGeometry.of(schedule, t, s)
    regular, alpha_s, sigma_s = steps.regular, steps.alpha_s, steps.sigma_s
    h = torch.where(regular, steps.h, 1.0)
    u = s if r == 1 else torch.where(regular, schedule.time(2 * (steps.lambda_t + r * h)), s)
    alpha_u, sigma_u = schedule.alpha(u), torch.where(regular, schedule.sigma(u), 1.0)
    a_u, b_u = StepGeometry.of(schedule, t, u).ddim_weights()
    a_s, b_s = steps.ddim_weights()
    ratio = torch.where(regular, sigma_s / sigma_u, 1.0)
    twice_w = alpha_s * -torch.expm1(-h) if prediction == "data" else ratio * alpha_u * torch.expm1(h)
    w = torch.where(regular, twice_w / (2 * r), 0.0)
    d = torch.where(regular, alpha_s - ratio * alpha_u, 0.0)
    zero, one = torch.zeros_like(w), torch.ones_like(w)
    second_call = any_position(regular)
    idle = append_dims(second_call, t) & ~regular  # positions without a second call, in a sample that has one
    predictor = (torch.where(regular, a_u, a_s), torch.where(regular, b_u, b_s), zero)
    corrector = (torch.where(idle, one, ratio), torch.where(idle, zero, w), torch.where(idle, zero, d - w))
    growth, noise = _renoise(schedule, t, s, s_noise or 0.0)
    ends_step = ~append_dims(second_call, t)  # noise is added after a step's last call
    weights = [
        _interleave(torch.where(ends_step, first * growth, first), second * growth)
        for first, second in zip(predictor, corrector, strict=True)
    ]
    moving = any_position((s != t) | (growth != 1))
    return CallTable(
        times=_interleave(t, torch.where(idle, s, u)),
        weights=weights,
        noise=None if s_noise is None else _interleave(torch.where(ends_step, noise, 0.0), noise),
        called=_interleave(moving, second_call),
    )


def _renoise(schedule: AnySchedule, t: Tensor, s: Tensor, s_noise: float) -> tuple[Tensor, Tensor]:
    """(factor on x, weight of noise) from the end of each step to the start of the next; (1, 0) where these are equal."""
    begin = torch.cat([t[:, 1:], s[:, -1:]], 1)
    rises = begin > s
    growth = torch.where(rises, schedule.alpha(begin) / schedule.alpha(s), 1.0)
    added = (rho(schedule, begin).square() - rho(schedule, s).square()).clamp_min(0).sqrt()
    return growth, torch.where(rises, schedule.alpha(begin) * added * s_noise, 0.0)


def _interleave(first: Tensor, second: Tensor) -> Tensor:
    return torch.stack([first, second], 2).flatten(1, 2)


@dataclass(frozen=True, kw_only=True)
class Heun:
    """Heun's method for dy / drho = eps, the deterministic sampler of "Elucidating the Design Space of Diffusion-Based
    Generative Models" (2022, arXiv:2206.00364), second order, two function evaluations per step, one in a step to t = 0:

        y' = y_t + (rho_s - rho_t) eps(y_t, t)
        y_s = y_t + (rho_s - rho_t) (eps(y_t, t) + eps(y', s)) / 2,     y = x / alpha.
    """

    kind: Literal["heun"] = "heun"
    processes: ClassVar[Processes] = (Gaussian,)

    @property
    def convergence_order(self) -> int | None:
        return 2

    def begin(self, state: State, process: Gaussian) -> State:
        t, s = state.times[:, :-1], state.times[:, 1:]
        return init_linear(state, two_stage(process.schedule, t, s, prediction="noise", r=1.0))

    def update(self, state: State, q: Point, process: Gaussian) -> State:
        return linear_update(state, q)


@dataclass(frozen=True, kw_only=True)
class DPM2:
    """DPM-Solver-2 ("DPM-Solver: A Fast ODE Solver for Diffusion Probabilistic Model Sampling in Around 10 Steps", 2022,
    arXiv:2206.00927), second order, two function evaluations per step, one in a step to t = 0:

        x_u = (alpha_u / alpha_t) x_t - sigma_u (e^{r h} - 1) eps(x_t, t),     lambda_u = lambda_t + r h
        x_s = (alpha_s / alpha_t) x_t - sigma_s (e^h - 1) (eps(x_t, t) + (eps(x_u, u) - eps(x_t, t)) / (2 r)).

    Args:
        r: position of the second call within a step in lambda, in (0, 1].

    Raises:
        ValueError: r out of range.
    """

    kind: Literal["dpm2"] = "dpm2"
    r: float = 0.5
    processes: ClassVar[Processes] = (Gaussian,)

    def __post_init__(self) -> None:
        _require_fraction(self.r)

    @property
    def convergence_order(self) -> int | None:
        return 2

    def begin(self, state: State, process: Gaussian) -> State:
        t, s = state.times[:, :-1], state.times[:, 1:]
        return init_linear(state, two_stage(process.schedule, t, s, prediction="noise", r=self.r))

    def update(self, state: State, q: Point, process: Gaussian) -> State:
        return linear_update(state, q)


@dataclass(frozen=True, kw_only=True)
class DPM2S:
    """DPM-Solver++ 2S ("DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models", 2022,
    arXiv:2211.01095), second order, two function evaluations per step, one in a step to t = 0:

        x_u = (sigma_u / sigma_t) x_t - alpha_u (e^{-r h} - 1) D(x_t, t),     lambda_u = lambda_t + r h
        x_s = (sigma_s / sigma_t) x_t - alpha_s (e^{-h} - 1) ((1 - 1 / (2 r)) D(x_t, t) + 1 / (2 r) D(x_u, u)).

    Args:
        r: position of the second call within a step in lambda, in (0, 1].

    Raises:
        ValueError: r out of range.
    """

    kind: Literal["dpm2s"] = "dpm2s"
    r: float = 0.5
    processes: ClassVar[Processes] = (Gaussian,)

    def __post_init__(self) -> None:
        _require_fraction(self.r)

    @property
    def convergence_order(self) -> int | None:
        return 2

    def begin(self, state: State, process: Gaussian) -> State:
        t, s = state.times[:, :-1], state.times[:, 1:]
        return init_linear(state, two_stage(process.schedule, t, s, prediction="data", r=self.r))

    def update(self, state: State, q: Point, process: Gaussian) -> State:
        return linear_update(state, q)


def _require_fraction(r: float) -> None:
    if not 0 < r <= 1:
        raise ValueError(f"r, the position of the second call within a step, must be in (0, 1], got {r}")
