"""Likelihood of a point from its denoising errors, by the I-MMSE relation.

With mse(x, l) = E_eps |x - D(x + rho eps)|^2 at log-SNR l, pointwise in x,

    -ln p(x) = d / 2 ln(2 pi e v) - 1/2 int_{-inf}^{inf} SNR [d v / (1 + v SNR) - mse(x, l)] dl

for any v > 0. d v / (1 + v SNR) is the error on Gaussian data of variance v; with v = s_d^2 the integrand is small. No
schedule appears. The integrand shows at which noise levels a point is hard to denoise.
"""

import math

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.float64 import float64_device, to_float64
from langevin.diffusion.likelihood.gaussian import chance
from langevin.diffusion.likelihood.results import ExactLikelihood
from langevin.diffusion.noise import SampleNoise, mix
from langevin.diffusion.process import Gaussian


def information(
    denoiser: Denoiser,
    process: Gaussian,
    x: Tensor,
    *,
    condition: Condition | None = None,
    first: float = 14.0,
    last: float = -14.0,
    levels: int = 64,
    draws: int = 4,
    seed: int = 0,
    names: Tensor | None = None,
) -> ExactLikelihood:
    """ln p of samples x (b, ...) by half the integral of their denoising errors over SNR (I-MMSE): an estimate, no bound.

    "Information-Theoretic Diffusion" (2023, arXiv:2302.03792).

    Args:
        first, last: log-SNR between which the errors are measured.
        levels: nodes of the midpoint rule, an even number; `error` compares every other node with the rest.
        draws: noises per sample and node; each costs one function evaluation.
        seed, names: names (b,) int64 of the samples (default 0 .. b - 1); a sample's noise depends on the two alone.

    Raises:
        ValueError: an odd number of levels, or none, no draws, or not first > last.
    """
    last = max(last, float(process.schedule.log_snr(torch.ones(1, dtype=torch.float64))))
    if levels < 2 or levels % 2 or draws < 1 or not last < first:
        raise ValueError(
            f"the integral needs an even number of levels, a draw and first > last: got {levels}, {draws}, {first}, {last}"
        )
    host = float64_device(x.device)
    names = torch.arange(len(x), device=host) if names is None else names.to(host)
    seeds, d, v = mix(torch.full_like(names, seed), names), math.prod(x.shape[1:]), process.sigma_data**2
    width = (first - last) / levels
    integrand = torch.zeros(levels, len(x), draws, dtype=torch.float64, device=host)
    with torch.no_grad():
        for i in range(levels):
            level = torch.tensor([last + (i + 0.5) * width], dtype=torch.float64, device=host)
            t, snr = process.schedule.time(level).expand(len(x)), float(level.exp())
            for draw in range(draws):
                noise = SampleNoise(seeds=seeds, steps=torch.full_like(names, i * draws + draw))
                x_t = process.corrupt(x, t, noise)
                error = to_float64(denoiser(x_t, t, condition).error(x)) - chance(process, x, x_t, t)
                integrand[i, :, draw] = d * v * snr / (1 + v * snr) - snr * error.flatten(1).sum(1)
    integral = integrand.sum(0) * width
    half = (integrand[::2].sum(0) - integrand[1::2].sum(0)).mean(1) * width  # even against odd nodes
    log_density = 0.5 * integral - 0.5 * d * math.log(2 * math.pi * math.e * v)
    zero = torch.zeros_like(half)
    return ExactLikelihood(
        log_density=log_density, surprise=zero, error=half.abs(), mismatch=zero, dimensions=d, steps=levels
    )
