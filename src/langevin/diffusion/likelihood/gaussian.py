"""Closed forms of a Gaussian process's bound: its two end terms, and the control variates of the diffusion term.

The best linear estimate of x from y = x_t / alpha is k y with k = s_d^2 / (s_d^2 + rho^2). Its error is known in closed
form, so it serves as a control variate for the error of D on the same noise.
"""

import math

import torch
from torch import Tensor

from langevin.diffusion.float64 import to_float64
from langevin.diffusion.likelihood.levels import Levels, decode
from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.process import Gaussian
from langevin.diffusion.shape import append_dims


def prior_nats(process: Gaussian, x: Tensor, t: Tensor) -> Tensor:
    """KL(q(x_t | x) || N(0, alpha^2 s_d^2 + sigma^2)) per dimension, for t (b,); float64, shaped like x."""
    rho_2 = append_dims(torch.exp(-process.schedule.log_snr(to_float64(t))), x)
    variance = process.sigma_data**2 + rho_2  # of y = x_t / alpha under the prior
    # finite in this form where no noise is left, rho = 0
    return 0.5 * (
        (to_float64(x).square() - process.sigma_data**2) / variance + torch.log1p(process.sigma_data**2 / rho_2)
    )


def reconstruction_nats(x: Tensor, levels: Levels | None, rho: Tensor, noise: SampleNoise) -> Tensor:
    """The reconstruction term (b,) of a Gaussian process that ends at rho = sigma / alpha (b,).

    -ln softmax_k(-(y - v_k)^2 / 2 rho^2) at the level of x for recorded levels v_k, y = x + rho eps; d / 2 ln(2 pi e
    rho^2) for a density.

    Raises:
        ValueError: x is not on the levels."""
    d = math.prod(x.shape[1:])
    if levels is None:
        return 0.5 * d * (math.log(2 * math.pi * math.e) + 2 * rho.log())
    y = to_float64(x).flatten(1) + rho[:, None] * noise.normal(to_float64(x)).flatten(1)
    return -decode(y, x.flatten(1), levels, rho).sum(1)


def _gain(process: Gaussian, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """k = s_d^2 / (s_d^2 + rho^2) of the best linear estimate k y, y = x_t / alpha, and rho^2; float64, padded to x."""
    rho_2 = append_dims(torch.exp(-process.schedule.log_snr(to_float64(t))), x)
    return process.sigma_data**2 / (process.sigma_data**2 + rho_2), rho_2


def linear_error(process: Gaussian, x: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """|x - k y|^2 per dimension: the error of the best linear estimate."""
    k, _ = _gain(process, x, t)
    alpha, _ = process.scales(t, to_float64(x_t))
    return (to_float64(x) - k * to_float64(x_t) / alpha).square()


def chance(process: Gaussian, x: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """|x - k y|^2 minus its mean over the noise, (1 - k)^2 x^2 + k^2 rho^2, per dimension.

    A control variate of mean zero: subtracted from |x - D|^2 it removes most of the variance and leaves the mean."""
    k, rho_2 = _gain(process, x, t)
    return linear_error(process, x, x_t, t) - ((1 - k) * to_float64(x)).square() - k * k * rho_2


def linear_nats(process: Gaussian, x: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
    """The diffusion term of the best linear estimate between two times, per dimension:

        int SNR / 2 ((1 - k)^2 x^2 + k^2 rho^2) dl = 1/2 [g - ln g - g x^2 / s_d^2],     g = 1 / (1 + s_d^2 SNR),

    taken from the noisy to the clean time."""
    v = process.sigma_data**2
    g_0, g_1 = (1 / (1 + v * process.schedule.log_snr(to_float64(t)).exp()) for t in (clean, noisy))
    return 0.5 * ((g_1 - g_0) * (to_float64(x).square() / v - 1) + (g_1 / g_0).log())
