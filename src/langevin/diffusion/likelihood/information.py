"""The likelihood of a point by its denoising errors: information is half the integral of the least mean squared error.

With mse(x, l) = E_eps |x - D(x + rho eps)|^2 at log-SNR l, pointwise in x ("Information-Theoretic Diffusion", 2023),

    -ln p(x) = d / 2 ln(2 pi e v) - 1/2 int_{-inf}^{inf} SNR [d v / (1 + v SNR) - mse(x, l)] dl

for any v > 0: d v / (1 + v SNR) is the error on Gaussian data of that variance, and with v = s_d^2 little is left to
integrate. No schedule appears: this is the free energy of a point, and its integrand says at which noise level a point
is surprising.
"""

import math

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.likelihood.answers import Likelihood
from langevin.diffusion.likelihood.gaussian import chance
from langevin.diffusion.noise import RowNoise, mix
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
) -> Likelihood:
    """ln p of rows x (b, ...) by I-MMSE, (b, draws): a density, no model of which bounds another.

    Args:
        first, last: log-SNR between which the errors are measured.
        levels: of a midpoint rule, each asked with one noise a row and draw; `error` is what half of them change.

    Raises:
        ValueError: no levels, an odd number of them, no draws, or ends that do not fall.
    """
    last = max(last, float(process.schedule.log_snr(torch.ones(1, dtype=torch.float64))))
    if levels < 2 or levels % 2 or draws < 1 or not last < first:
        raise ValueError(
            f"needed are an even number of levels, a draw and first > last: got {levels}, {draws}, {first}, {last}"
        )
    rows = torch.arange(len(x), device=x.device) if names is None else names.to(x.device)
    seeds, d, v = mix(torch.full_like(rows, seed), rows), math.prod(x.shape[1:]), process.sigma_data**2
    width = (first - last) / levels
    found = torch.zeros(levels, len(x), draws, dtype=torch.float64, device=x.device)
    with torch.no_grad():
        for i in range(levels):
            level = torch.tensor([last + (i + 0.5) * width], dtype=torch.float64, device=x.device)
            t, snr = process.schedule.time(level).expand(len(x)), float(level.exp())
            for draw in range(draws):
                noise = RowNoise(seeds=seeds, steps=torch.full_like(rows, i * draws + draw))
                x_t = process.corrupt(x, t, noise)
                error = denoiser(x_t, t, condition).error(x).double() - chance(process, x, x_t, t)
                found[i, :, draw] = d * v * snr / (1 + v * snr) - snr * error.flatten(1).sum(1)
    integral = found.sum(0) * width
    half = (found[::2].sum(0) - found[1::2].sum(0)).mean(1) * width  # odd against even levels
    log_density = 0.5 * integral - 0.5 * d * math.log(2 * math.pi * math.e * v)
    return Likelihood(
        log_density=log_density, surprise=torch.zeros_like(half), error=half.abs(), places=d, steps=levels
    )
