"""Likelihood of an SDE by its probability flow dx/dt = v = f - g^2 score / 2.

d ln p_t(x_t) / dt = -div v ("Neural Ordinary Differential Equations", 2018, arXiv:1806.07366), so ln p_0(x_0) = ln p_1(x_1)
+ int div v dt. The divergence is exact, by one derivative per dimension.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from langevin.diffusion.float64 import float64_device, to_float64
from langevin.diffusion.posterior import Score
from langevin.diffusion.process.sde.process import SDE

LARGEST = 256


def divergence(v: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """v(x) and its divergence (b,), for a field v that treats the samples of x (b, ...) independently.

    Raises:
        ValueError: more than `LARGEST` dimensions."""
    d = x[0].numel()
    if d > LARGEST:
        raise ValueError(
            f"the exact divergence takes one derivative per dimension, for at most {LARGEST} dimensions; got {d}"
        )
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        value = v(leaf)
        flat = value.flatten(1)
        total = torch.zeros(len(x), dtype=torch.float64, device=float64_device(x.device))
        for i in range(d):
            if flat.requires_grad:
                (slope,) = torch.autograd.grad(flat[:, i].sum(), leaf, retain_graph=True, materialize_grads=True)
                total = total + to_float64(slope.flatten(1)[:, i])
    return value.detach(), total


def log_density(
    process: SDE, denoiser: Callable[[Tensor, Tensor, None], Score], x: Tensor, *, steps: int = 100, low: float = 1e-4
) -> Tensor:
    """ln p_low(x), (b,) float64 nats, by Heun's method from t = low to 1.

    Args:
        steps: each takes two function evaluations.
        low: the time of x, above 0, since the data itself may have no density.
    """
    u = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    times = low + (1 - low) * u * u  # finer where the score is steep
    total = torch.zeros(len(x), dtype=torch.float64, device=float64_device(x.device))

    def field(y: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        times = t.expand(len(y))
        return divergence(lambda z: process.velocity(denoiser(z, times, None), z, times), y)

    for t, r in pairwise(times):
        h = float(process.duration * (r - t))
        v, div_v = field(x, t)
        w, div_w = field(x + h * v, r)
        x = x + h / 2 * (v + w)
        total = total + h / 2 * (div_v + div_w)
    return process.terminal.log_density(x) + total
