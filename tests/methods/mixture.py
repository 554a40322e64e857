"""The exact flow map of a mixture of two normals on a line, as a network."""

import torch
from torch import nn

from tests.exact import Mixture

S_D = 0.6  # of the process; the deviation of the data is 0.93
MIXTURE = Mixture()  # in straight time it is a rectified flow of the data over S_D
STRAIGHT = Mixture(means=tuple(m / S_D for m in MIXTURE.means), stds=tuple(s / S_D for s in MIXTURE.stds))


def data(count, *, seed=0):
    """(count, 1) float64."""
    p = torch.rand(count, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return MIXTURE.quantile(p, torch.zeros(count))


def velocity(z, tau):
    """v of z (b, 1) at tau (b,)."""
    return (z - STRAIGHT(z, tau).mean) / tau[:, None]


def earlier(z, tau, span, *, steps=24):
    """z at tau - span of the flow through z at tau, by the Runge-Kutta method."""
    for i in range(steps):
        at, h = tau - i / steps * span, -span / steps
        a = velocity(z, at)
        b = velocity(z + 0.5 * h[:, None] * a, at + 0.5 * h)
        c = velocity(z + 0.5 * h[:, None] * b, at + 0.5 * h)
        d = velocity(z + h[:, None] * c, (at + h).clamp_min(1e-9))
        z = z + h[:, None] / 6 * (a + 2 * b + 2 * c + d)
    return z


class ExactNetwork(nn.Module):
    """The output of prediction edm with which D is that of the flow. `bump` is added to D / S_D, for gradients."""

    def __init__(self):
        super().__init__()
        self.bump = nn.Parameter(torch.zeros(3, dtype=torch.float64))

    def forward(self, x, c_time, condition=None):
        ratio = (4 * c_time.double()).exp() / S_D
        tau = ratio / (1 + ratio)
        norm = (tau**2 + (1 - tau) ** 2).sqrt()[:, None]
        z = x * norm
        span = torch.zeros_like(tau) if condition is None else condition.span.double()
        length = torch.where(span > 0, span, 0.1 * tau)
        u = torch.where((span > 0)[:, None], (z - earlier(z, tau, length)) / length[:, None], velocity(z, tau))
        at = tau[:, None]
        bump = self.bump[0] + self.bump[1] * torch.tanh(z) + self.bump[2] * at
        return ((2 * at - 1) * z / norm**2 - (u - bump / at)) * norm
