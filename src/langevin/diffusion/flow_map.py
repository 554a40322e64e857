"""The map along the probability flow from a time t to an earlier time r, written as one step of Euler's method:

    x_r / alpha_r = x_t / alpha_t + (rho_r - rho_t) (x_t - alpha_t D) / sigma_t,    rho = sigma / alpha,    D = D(x_t, t, r)

As r goes to t, D becomes the mean of the posterior, so the denoiser of a run is such a D for short steps. For r = 0 D is
the end of the flow. A network learns D(x_t, t, r) when it is given the length of the step in straight time,

    tau = sigma / (sigma + alpha s_d),     z = x_t / (sigma + alpha s_d) = (1 - tau) x / s_d + tau n,     s_d of the data,

the time of the rectified flow of data of unit deviation, which all schedules share. There D is an average velocity, and
the flow map moves in a straight line:

    u = (z - D / s_d) / tau,     z_r = z_t - (tau_t - tau_r) u.

tau_t - tau_r, in [0, 1], is the field `span` of a condition. Without it the step has no length: D is the posterior mean.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import GaussianDenoiser, affine, computing
from langevin.diffusion.float64 import to_float64
from langevin.diffusion.process.gaussian import Gaussian
from langevin.diffusion.schedule import time_of_rho
from langevin.diffusion.shape import append_dims


def straight_time(process: Gaussian, t: Tensor) -> Tensor:
    """tau at times t, float64, shaped like t: from 0 at t = 0 to at most 1."""
    signal, noise = process.schedule.alpha(t) * process.sigma_data, process.schedule.sigma(t)
    return noise / (noise + signal)


def time_of_straight(process: Gaussian, tau: Tensor) -> Tensor:
    """The inverse of `straight_time`, for tau (b,) float64 in (0, 1)."""
    return time_of_rho(process.schedule, process.sigma_data * tau / (1 - tau))


def move(process: Gaussian, x_t: Tensor, t: Tensor, s: Tensor, by: Tensor) -> Tensor:
    """x_s of z_s = z_t - `by`, shaped like x_t."""
    before, after = (append_dims(_scale(process, time), x_t).to(x_t) for time in (t, s))
    return after * (x_t / before - by)


def mean_velocity(process: Gaussian, mean: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """u = (z - D / s_d) / tau of D, `mean`, at x_t (b, ...) and t (b,); at t > 0."""
    time = to_float64(t)
    tau, scale = (append_dims(part, x_t).to(x_t) for part in (straight_time(process, time), _scale(process, time)))
    return (x_t / scale - mean / process.sigma_data) / tau


def with_span(condition: Condition | None, span: Tensor) -> Condition:
    """The condition for steps of the length `span` (b,)."""
    return replace(condition or Condition(), span=span)


def along_flow(
    denoiser: GaussianDenoiser, x_t: Tensor, t: Tensor, condition: Condition | None, *, span: Tensor, velocity: Tensor
) -> tuple[Tensor, Tensor]:
    """D, and its derivative dD / dtau along dz / dtau = `velocity` with r fixed, both shaped like x_t.

    Forward-mode differentiation, exact to the rounding of the network's precision. The layers of the network must allow it
    (`networks.fused.twice_differentiable`).

    Args:
        denoiser: of a network that reads `Condition.span`.
        x_t: (b, ...); t (b,) float64 in (0, 1).
        span: (b,) tau_t - tau_r, in [0, 1].
        velocity: shaped like x_t.
    """
    process, schedule = denoiser.process, denoiser.process.schedule
    tau = straight_time(process, t)
    rate = -2 / (tau * (1 - tau) * schedule.rate(t))  # dt / dtau: log-SNR is 2 ln((1 - tau) / tau) - 2 ln s_d

    def coefficients(time: Tensor) -> Tensor:
        return torch.stack([*affine(denoiser.prediction, schedule, time, process.sigma_data), _scale(process, time)])

    values, slopes = _with_slope(coefficients, (t,), (rate,))
    c_skip, c_out, c_in, scale = append_dims(values[[0, 1, 2, 4]], x_t[None]).to(x_t)
    d_skip, d_out, d_in, d_scale = append_dims(slopes[[0, 1, 2, 4]], x_t[None]).to(x_t)
    dx = d_scale / scale * x_t + scale * velocity

    def network(x: Tensor, c_time: Tensor, length: Tensor) -> Tensor:
        return denoiser.network(x, c_time, with_span(condition, length)).to(x)

    c_time, d_time = (part[3].to(x_t.device, torch.float32) for part in (values, slopes))
    length = span.to(x_t.device, torch.float32)
    with computing(x_t.device, denoiser.precision):
        output, slope = _with_slope(
            network, (c_in * x_t, c_time, length), (d_in * x_t + c_in * dx, d_time, torch.ones_like(length))
        )
    return c_skip * x_t + c_out * output, d_skip * x_t + c_skip * dx + d_out * output + c_out * slope


def _with_slope(
    function: Callable[..., Tensor], at: tuple[Tensor, ...], along: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    """The value of a function, and its derivative along a direction."""
    value, slope, *_ = torch.func.jvp(function, at, along)
    return value, slope


def _scale(process: Gaussian, t: Tensor) -> Tensor:
    """x_t / z."""
    return process.schedule.sigma(t) + process.schedule.alpha(t) * process.sigma_data
