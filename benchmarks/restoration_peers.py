"""DPS and RePaint, written as their papers state them, for `benchmarks/restoration.py`.

Both are loops over the steps of a DDPM with the linear schedule, beta from 1e-4 to 0.02 in 1,000 steps. The run's denoiser
is asked at the same noise level in its own schedule: x_t / alpha_t is the same number in both."""

from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.measurement import Mask, Measurement
from langevin.diffusion.process.gaussian import Gaussian


def cumulative() -> Tensor:
    """alpha-bar of the 1,000 steps, float64."""
    return torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)


def clean(denoiser: Any, process: Gaussian, x: Tensor, abar: Tensor, condition: Condition | None) -> Tensor:
    """E[x_0 | x] for x = sqrt(abar) x_0 + sqrt(1 - abar) eps."""
    t = process.schedule.time((abar / (1 - abar)).log())
    scale = process.schedule.alpha(t) / abar.sqrt()
    return denoiser(scale.to(x) * x, t.expand(len(x)), condition).mean.clamp(-1, 1)


def ancestral(x: Tensor, x0: Tensor, abar: Tensor, before: Tensor, z: Tensor) -> Tensor:
    """x_{i-1} of DDPM, with the variance of the posterior."""
    beta = 1 - abar / before
    mean = (before.sqrt() * beta / (1 - abar)).to(x) * x0 + ((abar / before).sqrt() * (1 - before) / (1 - abar)).to(
        x
    ) * x
    return mean + (beta * (1 - before) / (1 - abar)).sqrt().to(x) * z


def dps(
    denoiser: Any, process: Gaussian, measurement: Measurement, condition: Condition | None, zeta: float = 1.0
) -> Tensor:
    """Algorithm 1 of arXiv:2209.14687 with the step zeta / |y - A x_0|, for all samples of a batch, each by itself."""
    abars, generator = cumulative(), torch.Generator().manual_seed(0)
    x = torch.randn(len(measurement.y), *measurement.shape, generator=generator)
    one = torch.ones((), dtype=torch.float64)
    for i in range(999, -1, -1):
        before = abars[i - 1] if i else one
        with torch.enable_grad():
            at = x.detach().requires_grad_()
            x0 = clean(denoiser, process, at, abars[i], condition)
            distance = measurement.residual(x0).flatten(1).norm(dim=1)
            slope = torch.autograd.grad(distance.sum(), at)[0]
        z = torch.randn(x.shape, generator=generator)
        x = ancestral(x, x0.detach(), abars[i], before, z) - zeta * slope
    return x


def repaint(denoiser: Any, process: Gaussian, measurement: Measurement, condition: Condition | None) -> Tensor:
    """Algorithm 1 of arXiv:2201.09865: 250 steps, jumps of 10 and 10 resamplings."""
    assert isinstance(measurement.operator, Mask), "RePaint fills masks"
    seen, y = measurement.operator.seen, measurement.y
    abars, generator = cumulative()[3::4], torch.Generator().manual_seed(0)
    one = torch.ones((), dtype=torch.float64)
    x = torch.randn(len(y), *measurement.shape, generator=generator)
    jumps = dict.fromkeys(range(0, 250 - 10, 10), 10 - 1)
    i = 250
    with torch.no_grad():
        while i >= 1:
            i -= 1
            abar, before = abars[i], abars[i - 1] if i else one
            x0 = clean(denoiser, process, x, abar, condition)
            unknown = ancestral(x, x0, abar, before, torch.randn(x.shape, generator=generator))
            known = before.sqrt().to(y) * y + (1 - before).sqrt().to(y) * torch.randn(x.shape, generator=generator)
            x = torch.where(seen, known, unknown)
            if jumps.get(i, 0) > 0:
                jumps[i] -= 1
                for _ in range(10):
                    i += 1
                    ratio = abars[i - 1] / (abars[i - 2] if i > 1 else one)
                    x = ratio.sqrt().to(x) * x + (1 - ratio).sqrt().to(x) * torch.randn(x.shape, generator=generator)
    return x
