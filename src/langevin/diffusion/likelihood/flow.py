"""Exact likelihood by the probability flow.

In canonical coordinates y = x_t / alpha every schedule has the same flow. Divided by the standard deviation that
Gaussian data would have, a path hardly moves: with m^2 = s_d^2 + rho^2, z = y / m and l = log-SNR = -2 ln rho,

    dz/dl = (D - (s_d^2 / m) z) / 2m,        d ln p(z) / dl = -(tr dD/dz - d s_d^2 / m) / 2m

along a path, and both are zero for data N(0, s_d^2). The flow is integrated from l_0, the noise level of y, down to
l_1, where the prior of the process makes z standard normal, in float64 by the classical Runge-Kutta method on equal
steps of l:

    ln p(y) = ln N(z_1; 0, 1) - int_{l_0}^{l_1} d ln p(z) - d ln m_0.

The trace is exact (d vector-Jacobian products) or Hutchinson's estimate e^T J e with Rademacher probes e. A path keeps
its probe, so that the integrand is smooth; the variance is 2 (|S|_F^2 - sum S_ii^2) with S the symmetric part of J. The
result is the density of y at noise level l_0, so state `first` with every value.

At l_1 the density of y_1 is not exactly the prior N(0, m^2). They differ by what the rest of the flow would change.
With Delta = D - (s_d / m)^2 y, which tends to the mean of the data, and A = rho^2 dDelta/dy, which tends to its
covariance minus s_d^2,

    |ln p(y_1) - ln N(y_1; 0, m^2)| <= |y| |Delta| / rho^2 + |Delta|^2 / 2 rho^2 + |tr A| / 2 rho^2

to leading order in 1 / rho. For data of mean mu this is about sqrt(d) |mu| / rho, which decides how far down l_1 must
lie for a given tolerance.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.float64 import float64_device, to_float64
from langevin.diffusion.likelihood.levels import Dequantisation, Levels
from langevin.diffusion.likelihood.results import ExactLikelihood
from langevin.diffusion.noise import SampleNoise, mix
from langevin.diffusion.posterior import Point
from langevin.diffusion.process import Gaussian

EXACT = 256  # dimensions up to which the trace is exact by default
NOISY, NOISIEST = -12.0, -30.0  # log-SNR between which l_1 is chosen, as far as the schedule reaches
MISMATCH = 1e-4  # default bound on the difference of p(y_1) and the prior, nats per dimension

Field = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # z, l (b,) -> dz/dl (b, d), d ln p(z) / dl (b, draws)


def flow_likelihood(
    denoiser: Denoiser,
    process: Gaussian,
    x: Tensor,
    *,
    condition: Condition | None = None,
    levels: Levels | None = None,
    dequantise: Dequantisation | None = None,
    first: float = 13.0,
    last: float | None = None,
    steps: int = 32,
    tolerance: float | None = None,
    most_steps: int = 1024,
    probes: int | None = None,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    names: Tensor | None = None,
) -> ExactLikelihood:
    """ln p of samples x (b, ...), by ln p(y) = ln N(z_1; 0, 1) - int d ln p(z) - d ln m_0 along the probability flow.

    A sample's value does not depend on the other samples. "Score-Based Generative Modeling through Stochastic
    Differential Equations" (2021, arXiv:2011.13456); the trace by "FFJORD: Free-form Continuous Dynamics ..." (2019,
    arXiv:1810.01367).

    Args:
        levels, dequantise: the recorded levels of the data and the noise added to them. The result is then a
            log-probability (a lower bound of it, in the mean over that noise); with None it is the log-density of x.
        first: log-SNR l_0 at which the density is taken.
        last: log-SNR l_1 of the prior, cut to what the schedule reaches. None chooses it per sample: at most -12, and
            low enough (down to -30) that the mismatch of the prior is below `tolerance`, or 1e-4 without one.
        steps: Runge-Kutta steps, an even number; each takes 4 function evaluations, and the error estimate half as many
            more.
        tolerance: nats per dimension; `steps` is doubled, up to `most_steps`, until the mean difference between `steps`
            and `steps` / 2 is smaller.
        probes: number of probes of Hutchinson's trace; 0 is the exact trace, None exact up to 256 dimensions, then 1
            probe.
        dtype: of the denoiser's input: float32 for a network.
        seed, names: names (b,) int64 of the samples; probes and dequantising noise depend on the two alone.

    Raises:
        ValueError: an empty range, an odd number of steps, one of levels and dequantise without the other, or a
            denoiser whose output cannot be differentiated.
    """
    reach = float(process.schedule.log_snr(torch.ones(1, dtype=torch.float64)))
    end = max(NOISY if last is None else last, reach)
    if not end < first < 80 or steps < 2 or steps % 2 or most_steps < steps:
        raise ValueError(
            f"the flow needs first > last in log-SNR, first below 80, and an even number of steps: got {first}, {end} "
            f"(the schedule reaches {reach:.4g}), {steps} steps of at most {most_steps}"
        )
    if (levels is None) != (dequantise is None):
        raise ValueError("recorded data needs both its levels and a dequantisation; a density needs neither")
    host = float64_device(x.device)
    names = torch.arange(len(x), device=host) if names is None else names.to(host)
    noise = SampleNoise(seeds=mix(torch.full_like(names, seed), names), steps=torch.zeros_like(names))
    d, rho = math.prod(x.shape[1:]), math.exp(-0.5 * first)
    surprise, y = torch.zeros(len(x), dtype=torch.float64, device=host), to_float64(x)
    if levels is not None and dequantise is not None:
        levels.index(x)
        y = dequantise.draw(x, levels, rho, noise.fork(1))
        surprise = dequantise.surprise(y, x, levels, rho).flatten(1).sum(1)
    count = (0 if d <= EXACT else 1) if probes is None else probes
    field = _field(denoiser, process, x, condition, dtype, _probes(x, count, noise.fork(2)))
    ends = torch.full((len(x),), end, dtype=torch.float64, device=host)
    if last is None:
        ends = _noisy_enough(
            field, process, ends, d, MISMATCH if tolerance is None else tolerance, max(reach, NOISIEST)
        )
    (coarse, _), (fine, mismatch) = (
        _integrate(field, process, y.flatten(1), first, ends, n) for n in (steps // 2, steps)
    )
    while tolerance is not None and 2 * steps <= most_steps and (fine - coarse).abs().mean() > tolerance * d:
        steps, coarse = 2 * steps, fine
        fine, mismatch = _integrate(field, process, y.flatten(1), first, ends, steps)
    return ExactLikelihood(
        log_density=fine,
        surprise=surprise,
        error=(fine - coarse).mean(1).abs() + mismatch,
        mismatch=mismatch,
        dimensions=d,
        steps=steps,
    )


def _probes(x: Tensor, count: int, noise: SampleNoise) -> Tensor | None:
    """(count, b, d) random signs; None for an exact trace."""
    if count == 0:
        return None
    flat = to_float64(x).flatten(1)
    draws = [noise.fork(i).uniform(flat) for i in range(count)]
    return torch.where(torch.stack(draws) < 0.5, -1.0, 1.0).double()


def _field(
    denoiser: Denoiser,
    process: Gaussian,
    x: Tensor,
    condition: Condition | None,
    dtype: torch.dtype,
    probes: Tensor | None,
) -> Field:
    d, s_2 = math.prod(x.shape[1:]), process.sigma_data**2

    def field(z: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        m = (s_2 + torch.exp(-level)).sqrt()[:, None]
        t = process.schedule.time(level)
        alpha = process.schedule.alpha(t)[:, None]
        x_t = (alpha * m * z).to(x.device, dtype).reshape(x.shape).requires_grad_()
        with torch.enable_grad():
            q = denoiser(x_t, t, condition)
        if not isinstance(q, Point):
            raise ValueError(
                f"the probability flow needs a posterior mean, a `Point`; this denoiser returns {type(q).__name__}"
            )
        mean = q.mean
        if not mean.requires_grad:
            raise ValueError(
                "the denoiser's output has no gradient by x_t, so its divergence, and the likelihood, cannot be computed: "
                "do not evaluate it under no_grad, and do not detach it"
            )
        trace = _trace(mean, x_t, probes, d) * (alpha * m)  # of dD/dz
        mean = to_float64(mean.detach()).flatten(1)
        return (mean - (s_2 / m) * z) / (2 * m), -(trace - d * s_2 / m) / (2 * m)

    return field


def _trace(mean: Tensor, x_t: Tensor, probes: Tensor | None, d: int) -> Tensor:
    """tr dD/dx_t (b, 1), or e^T J e of each probe (b, probes), float64; one backward pass per column or probe."""

    def product(e: Tensor) -> Tensor:
        """e^T J, (b, d)."""
        cotangent = e.to(mean).reshape(x_t.shape)
        return to_float64(torch.autograd.grad(mean, x_t, cotangent, retain_graph=True)[0]).flatten(1)

    if probes is not None:
        return torch.stack([(product(e) * e).sum(1) for e in probes], 1)
    columns = torch.eye(d, dtype=torch.float64, device=float64_device(mean.device))
    return torch.stack([product(e.expand(len(mean), d))[:, i] for i, e in enumerate(columns)]).sum(0)[:, None]


def _mismatch(field: Field, process: Gaussian, z: Tensor, level: Tensor) -> Tensor:
    """The bound of |ln p(y) - ln prior(y)| (b,) at z = y / m (b, d) and log-SNR `level` (b,); see the module."""
    k, g = field(z, level)  # Delta / 2m, and -tr A / 2 rho^2
    size = k.square().sum(1).sqrt()
    return 2 * (1 + process.sigma_data**2 * level.exp()) * size * (z.square().sum(1).sqrt() + size) + g.mean(1).abs()


def _noisy_enough(field: Field, process: Gaussian, level: Tensor, d: int, tolerance: float, floor: float) -> Tensor:
    """log-SNR (b,), at most `level`, where the mismatch at a typical z, which falls as 1 / rho, is `tolerance` * d."""
    mismatch = _mismatch(field, process, level.new_ones(len(level), d), level)
    return (level - 2 * (mismatch / (tolerance * d)).log().clamp_min(0)).clamp_min(floor)


def _integrate(
    field: Field, process: Gaussian, y: Tensor, first: float, last: Tensor, steps: int
) -> tuple[Tensor, Tensor]:
    """ln p(y) (b, draws) by `steps` Runge-Kutta steps down to each sample's `last` (b,), and the mismatch there (b,)."""
    d, h = y.shape[1], (last - first)[:, None] / steps
    m = math.sqrt(process.sigma_data**2 + math.exp(-first))
    z, change = y / m, torch.zeros(len(y), 1, dtype=torch.float64, device=float64_device(y.device))

    def level(i: float) -> Tensor:
        return first + i * h[:, 0] if i < steps else last

    for i in range(steps):
        k_1, g_1 = field(z, level(i))
        k_2, g_2 = field(z + 0.5 * h * k_1, level(i + 0.5))
        k_3, g_3 = field(z + 0.5 * h * k_2, level(i + 0.5))
        k_4, g_4 = field(z + h * k_3, level(i + 1))
        z = z + h / 6 * (k_1 + 2 * k_2 + 2 * k_3 + k_4)
        change = change + h / 6 * (g_1 + 2 * g_2 + 2 * g_3 + g_4)
    at_prior = -0.5 * (z.square().sum(1) + d * math.log(2 * math.pi))
    return at_prior[:, None] - change - d * math.log(m), _mismatch(field, process, z, last)
