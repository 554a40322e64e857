"""The likelihood of the ancestral chain itself, by paths drawn from data to noise and weighed.

A chain along times t_0 > ... > t_n draws z_0 from the prior, each next state from q(z_s | z_t, x = D(z_t)), and x from the
decoder of the last: a law of x like any other, with a density that no formula gives. Paths of q, which knows x, give it:

    p(x) = E_q[w],   ln w = ln prior(z_0) / q(z_0 | x) + sum_steps [-Delta / 2 |e|^2 - sqrt(Delta) n . e] + ln p(x | z_n),
    e = x - D(z_t),  Delta = SNR_s - SNR_t,  n the noise of the step,

as the two transitions have one variance and means Delta-many noises apart. E[-ln w] is the bound on this grid
(`finite_bound`, and with small steps `bound`); -ln E[w] is what it bounds: one model, one data, one draw of noise. That
of the flow is another law, unless D is the posterior mean of one, and no inequality orders it.
"""

import math

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.likelihood.answers import Weighted
from langevin.diffusion.likelihood.levels import Levels, decode
from langevin.diffusion.noise import RowNoise, mix
from langevin.diffusion.posterior import Point
from langevin.diffusion.process import Gaussian


def chain_likelihood(
    denoiser: Denoiser,
    process: Gaussian,
    x: Tensor,
    times: Tensor,
    *,
    condition: Condition | None = None,
    levels: Levels | None = None,
    paths: int = 16,
    batch: int = 64,
    seed: int = 0,
    names: Tensor | None = None,
) -> Weighted:
    """ln w of rows x (b, ...), (b, paths), for ancestral steps along `times` (n + 1,), falling to above 0.

    Args:
        levels: of recorded data, which the decoder then chooses among; None is a density, decoded by N(z_n / alpha, rho^2).
        paths: from data to noise, each n calls.
        batch: paths that the denoiser is asked about at once, of all rows together.
        seed, names: (b,) int64 names of the rows (default their places): a row's paths are a function of both.

    Raises:
        ValueError: times that do not fall within (0, 1], no paths, or a denoiser that answers no posterior mean.
    """
    times = times.double().to(x.device)
    if times.ndim != 1 or len(times) < 2 or not bool((times.diff() < 0).all()) or not 0 < times[-1] < times[0] <= 1:
        raise ValueError(
            f"a chain runs along two or more times that fall within (0, 1], got {len(times)} from "
            f"{float(times.flatten()[0]):.4g} to {float(times.flatten()[-1]):.4g}"
        )
    if min(paths, batch) < 1:
        raise ValueError(f"paths are drawn and weighed: at least 1, in batches of at least 1; got {paths} and {batch}")
    rows = torch.arange(len(x), device=x.device) if names is None else names.to(x.device)
    seeds = mix(torch.full_like(rows, seed), rows)
    row: Tensor = torch.arange(len(x), device=x.device).repeat_interleave(paths)
    seeds = mix(seeds[row], torch.arange(paths, device=x.device).repeat(len(x)))
    drawn: list[Tensor] = []
    with torch.no_grad():
        for i, some in zip(torch.split(row, batch), torch.split(seeds, batch), strict=True):
            told = None if condition is None else condition.rows(i)
            drawn.append(_path(denoiser, process, x[i], times, told, levels, some))
    return Weighted(log_weights=torch.cat(drawn).view(len(x), paths), places=math.prod(x.shape[1:]))


def _path(
    denoiser: Denoiser,
    process: Gaussian,
    x: Tensor,
    times: Tensor,
    condition: Condition | None,
    levels: Levels | None,
    seeds: Tensor,
) -> Tensor:
    """ln w (b,) of one path a row, in y = z / alpha, whose noise has the variance v = 1 / SNR."""
    clean, snr = x.double(), process.schedule.log_snr(times).exp()
    alpha = process.schedule.alpha(times)

    def noise(i: int) -> Tensor:
        return RowNoise(seeds=seeds, steps=torch.full_like(seeds, i)).normal(clean)

    n = noise(0)
    v = 1 / snr
    y = clean + v[0].sqrt() * n
    total = process.sigma_data**2 + v[0]  # of y by the prior
    log_w = _sum(0.5 * n.square() - 0.5 * y.square() / total - 0.5 * torch.log(total / v[0]))
    for i in range(len(times) - 1):
        q = denoiser((alpha[i] * y).to(x.dtype), times[i].expand(len(x)), condition)
        if not isinstance(q, Point):
            raise ValueError(f"a chain of numbers needs a posterior mean, a `Point`; got {type(q).__name__}")
        e, n, delta = clean - q.mean.double(), noise(i + 1), snr[i + 1] - snr[i]
        log_w = log_w - _sum(0.5 * delta * e.square() + delta.sqrt() * n * e)
        kept = v[i + 1] / v[i]
        y = kept * y + (1 - kept) * clean + (v[i + 1] * (1 - kept)).sqrt() * n
    if levels is not None:
        return log_w + decode(y.flatten(1), x.flatten(1), levels, float(v[-1].sqrt())).sum(1)
    return log_w - _sum(0.5 * (clean - y).square() / v[-1] + 0.5 * torch.log(2 * math.pi * v[-1]))


def _sum(values: Tensor) -> Tensor:
    return values.flatten(1).sum(1)
