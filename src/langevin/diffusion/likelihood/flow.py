"""Exact likelihood by the probability flow ("Score-Based Generative Modeling through SDEs", 2021).

In canonical coordinates y = x_t / alpha every schedule has the same flow. Divided by the spread of Gaussian data, it hardly
moves: with m^2 = s_d^2 + rho^2, z = y / m and l = log-SNR = -2 ln rho,

    dz/dl = (D - (s_d^2 / m) z) / 2m,        d ln p(z) / dl = -(tr dD/dz - d s_d^2 / m) / 2m

along a path: both sides are zero where the data is N(0, s_d^2). From l_0, where y is asked about, down to l_1, where z is
standard normal by the process's own prior, in float64 by the classical Runge-Kutta method on equal steps of l,

    ln p(y) = ln N(z_1; 0, 1) - int_{l_0}^{l_1} d ln p(z) - d ln m_0.

The trace is exact (d products with the Jacobian) or Hutchinson's estimate e^T J e with Rademacher probes e, one for the
whole path, so that the integral is of one smooth function; its variance is 2 (|S|_F^2 - sum S_ii^2) with S the
symmetric part of J. The answer is the density of y at noise level l_0, not beyond it: `first` belongs to the figure.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.likelihood.answers import Likelihood
from langevin.diffusion.likelihood.levels import Dequantisation, Levels
from langevin.diffusion.noise import RowNoise, mix
from langevin.diffusion.posterior import Point
from langevin.diffusion.process import Gaussian

EXACT = 256  # dimensions up to which the trace is exact unless asked otherwise

Field = Callable[[Tensor, float], tuple[Tensor, Tensor]]  # (z, l) -> (dz/dl (b, d), d ln p(z) / dl (b, draws))


def flow_likelihood(
    denoiser: Denoiser,
    process: Gaussian,
    x: Tensor,
    *,
    condition: Condition | None = None,
    levels: Levels | None = None,
    dequantise: Dequantisation | None = None,
    first: float = 13.0,
    last: float = -12.0,
    steps: int = 32,
    tolerance: float | None = None,
    most_steps: int = 1024,
    probes: int | None = None,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    names: Tensor | None = None,
) -> Likelihood:
    """ln p of rows x (b, ...), each a function of its own row.

    Args:
        levels, dequantise: of recorded data, which the answer is then the log-probability of (in the mean over the
            dequantising noise a lower bound); None asks for the density of x / alpha itself.
        first, last: log-SNR where the density is asked for, and where the prior is met (at what the schedule reaches).
        steps: of the integral, an even number; each four calls, and half as many again for the estimate of its error.
        tolerance: nats a dimension; steps are doubled, up to `most_steps`, until the error of the mean row is below.
        probes: for Hutchinson's trace; None is exact up to 256 dimensions and 1 probe above, 0 is exact.
        dtype: that the denoiser is asked in: float32 for a network.
        seed, names: (b,) int64 names of the rows; probes and dequantising noise are functions of both.

    Raises:
        ValueError: a range or steps that make no integral, levels without their noise or the other way round, or a denoiser
            whose answer cannot be differentiated.
    """
    reach = float(process.schedule.log_snr(torch.ones(1, dtype=torch.float64)))
    last = max(last, reach)
    if not last < first < 80 or steps < 2 or steps % 2 or most_steps < steps:
        raise ValueError(
            f"the flow runs from log-SNR `first` (below 80) down to `last` in an even number of steps: got {first}, {last} "
            f"(the schedule reaches {reach:.4g}), {steps} steps of at most {most_steps}"
        )
    if (levels is None) != (dequantise is None):
        raise ValueError("recorded data needs both its levels and a dequantisation; a density needs neither")
    rows = torch.arange(len(x), device=x.device) if names is None else names.to(x.device)
    noise = RowNoise(seeds=mix(torch.full_like(rows, seed), rows), steps=torch.zeros_like(rows))
    d, rho = math.prod(x.shape[1:]), math.exp(-0.5 * first)
    surprise, y = torch.zeros(len(x), dtype=torch.float64, device=x.device), x.double()
    if levels is not None and dequantise is not None:
        levels.index(x)
        y = dequantise.draw(x, levels, rho, noise.fork(1))
        surprise = dequantise.surprise(y, x, levels, rho).flatten(1).sum(1)
    count = (0 if d <= EXACT else 1) if probes is None else probes
    field = _field(denoiser, process, x, condition, dtype, _probes(x, count, noise.fork(2)))
    coarse, fine = (_integrate(field, process, y.flatten(1), first, last, n) for n in (steps // 2, steps))
    while tolerance is not None and 2 * steps <= most_steps and (fine - coarse).abs().mean() > tolerance * d:
        steps, coarse = 2 * steps, fine
        fine = _integrate(field, process, y.flatten(1), first, last, steps)
    error = (fine - coarse).mean(1).abs()
    return Likelihood(log_density=fine, surprise=surprise, error=error, places=d, steps=steps)


def _probes(x: Tensor, count: int, noise: RowNoise) -> Tensor | None:
    """(count, b, d) signs; None for an exact trace."""
    if count == 0:
        return None
    flat = x.double().flatten(1)
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
    b, d, s_2 = len(x), math.prod(x.shape[1:]), process.sigma_data**2

    def field(z: Tensor, level: float) -> tuple[Tensor, Tensor]:
        m = math.sqrt(s_2 + math.exp(-level))
        t = process.schedule.time(torch.tensor([level], dtype=torch.float64, device=z.device)).expand(b)
        alpha = float(process.schedule.alpha(t[:1]))
        x_t = (alpha * m * z).to(dtype).reshape(x.shape).requires_grad_()
        with torch.enable_grad():
            q = denoiser(x_t, t, condition)
        if not isinstance(q, Point):
            raise ValueError(
                f"the probability flow needs a posterior mean, a `Point`; this denoiser answers {type(q).__name__}"
            )
        mean = q.mean
        if not mean.requires_grad:
            raise ValueError(
                "the denoiser's answer does not depend on its question by automatic differentiation (is it computed under "
                "no_grad or detached?), so its divergence, and the likelihood, cannot be computed"
            )
        trace = _trace(mean, x_t, probes, d) * (alpha * m)  # of dD/dz
        answer = mean.detach().double().flatten(1)
        return (answer - (s_2 / m) * z) / (2 * m), -(trace - d * s_2 / m) / (2 * m)

    return field


def _trace(mean: Tensor, x_t: Tensor, probes: Tensor | None, d: int) -> Tensor:
    """tr dD/dx_t (b, 1), or e^T J e of each probe (b, probes), float64; one backward pass a column or probe."""

    def product(e: Tensor) -> Tensor:
        """e^T J, (b, d)."""
        asked = e.to(mean.dtype).reshape(x_t.shape)
        return torch.autograd.grad(mean, x_t, asked, retain_graph=True)[0].double().flatten(1)

    if probes is not None:
        return torch.stack([(product(e) * e).sum(1) for e in probes], 1)
    columns = torch.eye(d, dtype=torch.float64, device=mean.device)
    return torch.stack([product(e.expand(len(mean), d))[:, i] for i, e in enumerate(columns)]).sum(0)[:, None]


def _integrate(field: Field, process: Gaussian, y: Tensor, first: float, last: float, steps: int) -> Tensor:
    """ln p(y) (b, draws) by `steps` Runge-Kutta steps."""
    d, h = y.shape[1], (last - first) / steps
    m = math.sqrt(process.sigma_data**2 + math.exp(-first))
    z, gained = y / m, torch.zeros(len(y), 1, dtype=torch.float64, device=y.device)
    for i in range(steps):
        level = first + i * h
        k_1, g_1 = field(z, level)
        k_2, g_2 = field(z + 0.5 * h * k_1, level + 0.5 * h)
        k_3, g_3 = field(z + 0.5 * h * k_2, level + 0.5 * h)
        k_4, g_4 = field(z + h * k_3, level + h if i < steps - 1 else last)
        z = z + h / 6 * (k_1 + 2 * k_2 + 2 * k_3 + k_4)
        gained = gained + h / 6 * (g_1 + 2 * g_2 + 2 * g_3 + g_4)
    at_prior = -0.5 * (z.square().sum(1) + d * math.log(2 * math.pi))
    return at_prior[:, None] - gained - d * math.log(m)
