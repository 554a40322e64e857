"""Likelihood of the ancestral sampling chain, by importance-weighted paths of the forward process.

Along times t_0 > ... > t_n the chain draws z_0 from the prior, each next state from q(z_s | z_t, x = D(z_t)), and x
from the decoder given the last state. The density of this x has no closed form. Paths drawn from q, which is given x,
estimate it:

    p(x) = E_q[w],   ln w = ln prior(z_0) / q(z_0 | x) + sum_steps [-Delta / 2 |e|^2 - sqrt(Delta) n . e] + ln p(x | z_n),
    e = x - D(z_t),  Delta = SNR_s - SNR_t,  n the noise of the step.

(The transitions of the chain and of q have the same variance, and means that are sqrt(Delta) e standard deviations
apart.) E[-ln w] is the bound on this grid (`finite_bound`; for small steps `bound`), and -ln E[w] the likelihood that
it bounds, from the same draws. The probability flow defines another distribution unless D is an exact posterior mean:
this bound does not hold for it.
"""

import math

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.float64 import float64_device, to_float64
from langevin.diffusion.likelihood.levels import Levels, decode
from langevin.diffusion.likelihood.results import ImportanceWeightedPaths
from langevin.diffusion.noise import SampleNoise, mix
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
) -> ImportanceWeightedPaths:
    """ln w of samples x (b, ...), (b, paths), for ancestral steps along `times` (n + 1,), falling to above 0: p(x) = E[w].

    "Importance Weighted Autoencoders" (2015, arXiv:1509.00519) on the chain of "Denoising Diffusion Probabilistic
    Models" (2020, arXiv:2006.11239).

    Args:
        levels: the recorded levels that the decoder chooses among; None is a density with decoder N(z_n / alpha,
            rho^2).
        paths: number of paths per sample; each costs n function evaluations.
        batch: number of paths, of all samples together, that one function evaluation covers.
        seed, names: names (b,) int64 of the samples (default 0 .. b - 1); a sample's paths depend on the two alone.

    Raises:
        ValueError: the times do not fall within (0, 1], a count is below 1, or the denoiser predicts no posterior mean.
    """
    times = to_float64(times).to(float64_device(x.device))
    if times.ndim != 1 or len(times) < 2 or not bool((times.diff() < 0).all()) or not 0 < times[-1] < times[0] <= 1:
        raise ValueError(
            f"a chain needs two or more times that fall within (0, 1], got {len(times)} from "
            f"{float(times.flatten()[0]):.4g} to {float(times.flatten()[-1]):.4g}"
        )
    if min(paths, batch) < 1:
        raise ValueError(f"paths and batch must be at least 1, got {paths} paths in batches of {batch}")
    host = float64_device(x.device)
    names = torch.arange(len(x), device=host) if names is None else names.to(host)
    seeds = mix(torch.full_like(names, seed), names)
    sample: Tensor = torch.arange(len(x), device=host).repeat_interleave(paths)  # of each path
    seeds = mix(seeds[sample], torch.arange(paths, device=host).repeat(len(x)))
    log_weights: list[Tensor] = []
    with torch.no_grad():
        for i, path_seeds in zip(torch.split(sample, batch), torch.split(seeds, batch), strict=True):
            part = None if condition is None else condition.select(i)
            log_weights.append(_path(denoiser, process, x[i], times, part, levels, path_seeds))
    return ImportanceWeightedPaths(
        log_weights=torch.cat(log_weights).view(len(x), paths), dimensions=math.prod(x.shape[1:])
    )


def _path(
    denoiser: Denoiser,
    process: Gaussian,
    x: Tensor,
    times: Tensor,
    condition: Condition | None,
    levels: Levels | None,
    seeds: Tensor,
) -> Tensor:
    """ln w (b,) of one path per sample, in y = z / alpha, whose noise has the variance v = 1 / SNR."""
    clean, snr = to_float64(x), process.schedule.log_snr(times).exp()
    alpha = process.schedule.alpha(times)

    def noise(i: int) -> Tensor:
        return SampleNoise(seeds=seeds, steps=torch.full_like(seeds, i)).normal(clean)

    n = noise(0)
    v = 1 / snr
    y = clean + v[0].sqrt() * n
    total = process.sigma_data**2 + v[0]  # variance of y under the prior
    log_w = _sum(0.5 * n.square() - 0.5 * y.square() / total - 0.5 * torch.log(total / v[0]))
    for i in range(len(times) - 1):
        q = denoiser((alpha[i] * y).to(x), times[i].expand(len(x)), condition)
        if not isinstance(q, Point):
            raise ValueError(
                f"the chain of a Gaussian process needs a posterior mean, a `Point`; got {type(q).__name__}"
            )
        e, n, delta = clean - to_float64(q.mean), noise(i + 1), snr[i + 1] - snr[i]
        log_w = log_w - _sum(0.5 * delta * e.square() + delta.sqrt() * n * e)
        kept = v[i + 1] / v[i]
        y = kept * y + (1 - kept) * clean + (v[i + 1] * (1 - kept)).sqrt() * n
    if levels is not None:
        return log_w + decode(y.flatten(1), x.flatten(1), levels, float(v[-1].sqrt())).sum(1)
    return log_w - _sum(0.5 * (clean - y).square() / v[-1] + 0.5 * torch.log(2 * math.pi * v[-1]))


def _sum(values: Tensor) -> Tensor:
    return values.flatten(1).sum(1)
