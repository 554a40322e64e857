"""What a Gaussian process adds to its bound at both ends, and what chance adds between them."""

import math

import torch
from torch import Tensor

from langevin.diffusion.likelihood.levels import Levels, decode
from langevin.diffusion.noise import RowNoise
from langevin.diffusion.process import Gaussian
from langevin.diffusion.shape import right_pad


def prior_nats(process: Gaussian, x: Tensor, t: Tensor) -> Tensor:
    """KL(q(x_t | x) || N(0, alpha^2 s_d^2 + sigma^2)) a place, for t (b,), float64."""
    rho_2 = right_pad(torch.exp(-process.schedule.log_snr(t.double())), x)
    variance = process.sigma_data**2 + rho_2  # of y = x_t / alpha under the prior
    # written in 1 / rho so that no noise left is no limit to take
    return 0.5 * ((x.double().square() - process.sigma_data**2) / variance + torch.log1p(process.sigma_data**2 / rho_2))


def reconstruction_nats(x: Tensor, levels: Levels | None, rho: Tensor, noise: RowNoise) -> Tensor:
    """The last term of a Gaussian process that ends at rho = sigma / alpha (b,): (b,), see the module.

    Raises:
        ValueError: x is not on the levels."""
    places = math.prod(x.shape[1:])
    if levels is None:
        return 0.5 * places * (math.log(2 * math.pi * math.e) + 2 * rho.log())
    y = x.double().flatten(1) + rho[:, None] * noise.normal(x.double()).flatten(1)
    return -decode(y, x.flatten(1), levels, rho).sum(1)


def _gain(process: Gaussian, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """k = s_d^2 / (s_d^2 + rho^2) of the best linear guess k y, y = x_t / alpha, and rho^2; float64, padded to x."""
    rho_2 = right_pad(torch.exp(-process.schedule.log_snr(t.double())), x)
    return process.sigma_data**2 / (process.sigma_data**2 + rho_2), rho_2


def linear_error(process: Gaussian, x: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """|x - k y|^2 a place: what the best linear guess errs by."""
    k, _ = _gain(process, x, t)
    alpha, _ = process.scales(t, x_t.double())
    return (x.double() - k * x_t.double() / alpha).square()


def chance(process: Gaussian, x: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """|x - k y|^2 less its mean over the noise, (1 - k)^2 x^2 + k^2 rho^2, a place.

    Of mean zero, and most of what chance adds to any |x - D|^2: subtracted, it takes the variance and leaves the mean."""
    k, rho_2 = _gain(process, x, t)
    return linear_error(process, x, x_t, t) - ((1 - k) * x.double()).square() - k * k * rho_2


def linear_nats(process: Gaussian, x: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
    """The bound's integral for the linear guess, a place: int SNR / 2 ((1 - k)^2 x^2 + k^2 rho^2) dl between two times

    = 1/2 [x^2 / s_d^2 (-g) + g - ln g], g = 1 / (1 + s_d^2 SNR), from the noisy to the clean one."""
    v = process.sigma_data**2
    g_0, g_1 = (1 / (1 + v * process.schedule.log_snr(t.double()).exp()) for t in (clean, noisy))
    return 0.5 * ((g_1 - g_0) * (x.double().square() / v - 1) + (g_1 / g_0).log())
