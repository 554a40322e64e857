"""ln p(x) along the flow: d ln p_t(x_t) / dt = -div v with dx/dt = v = f - g^2 score / 2 ("Neural Ordinary Differential
Equations", 2018), so ln p_0(x_0) = ln p_1(x_1) + int div v dt. The divergence is exact, one derivative a dimension."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from langevin.diffusion.posterior import Score
from langevin.diffusion.process.drift.process import Drift

LARGEST = 256


def divergence(v: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """v(x) and its divergence (b,), for rows x (b, ...) that v does not mix.

    Raises:
        ValueError: rows of more than `LARGEST` numbers."""
    d = x[0].numel()
    if d > LARGEST:
        raise ValueError(
            f"the exact divergence takes one derivative a number, for rows of up to {LARGEST}; these have {d}"
        )
    with torch.enable_grad():
        asked = x.detach().requires_grad_()
        value = v(asked)
        flat = value.flatten(1)
        total = torch.zeros(len(x), dtype=torch.float64)
        for i in range(d):
            if flat.requires_grad:
                (slope,) = torch.autograd.grad(flat[:, i].sum(), asked, retain_graph=True, materialize_grads=True)
                total = total + slope.flatten(1)[:, i].double()
    return value.detach(), total


def log_density(
    process: Drift, denoiser: Callable[[Tensor, Tensor, None], Score], x: Tensor, *, steps: int = 100, low: float = 1e-4
) -> Tensor:
    """ln p_low(x), (b,) float64 nats, by Heun's method from t = low to 1.

    Args:
        low: the time that x is taken to be of; data itself may have no density.
    """
    u = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    times = low + (1 - low) * u * u  # finer where the score is steep
    total = torch.zeros(len(x), dtype=torch.float64)

    def ask(y: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        rows = t.expand(len(y))
        return divergence(lambda z: process.velocity(denoiser(z, rows, None), z, rows), y)

    for t, r in pairwise(times):
        h = float(process.horizon * (r - t))
        v, div = ask(x, t)
        w, more = ask(x + h * v, r)
        x = x + h / 2 * (v + w)
        total = total + h / 2 * (div + more)
    return process.end.log_density(x) + total
