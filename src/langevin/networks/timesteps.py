"""The timestep of a network of integer timesteps, from c_time, and its sinusoidal features, as diffusers computes them."""

import math

import torch
from torch import Tensor, nn

from langevin.diffusion.betas import Betas

SNAP = 0.02  # of a timestep, within which one is an integer: c_time is float32


class Timesteps(nn.Module):
    """c_time (b,) -> timesteps (b,) float32: the index k, or between, at which betas have this noise level; c_time itself
    without betas, which is EDM's c_noise."""

    c_times: Tensor

    def __init__(self, betas: Betas | None) -> None:
        super().__init__()
        levels = torch.zeros(0, dtype=torch.float64) if betas is None else -0.125 * betas.log_snr().clamp(-20, 20)
        self.register_buffer("c_times", levels, persistent=False)  # rising

    def forward(self, c_time: Tensor) -> Tensor:
        levels = self.c_times
        if not len(levels):
            return c_time
        c = c_time.to(levels)
        low = (torch.searchsorted(levels, c.contiguous(), right=True) - 1).clamp(0, len(levels) - 2)
        between = (c - levels[low]) / (levels[low + 1] - levels[low])
        k = (low + between).clamp(0, len(levels) - 1)
        whole = k.round()
        return torch.where((k - whole).abs() < SNAP, whole, k).float()


def sinusoid(timestep: Tensor, width: int, *, freq_shift: float, flip_sin_to_cos: bool) -> Tensor:
    """Features (b, width) of timesteps (b,): sines, then cosines, of frequencies from 1 to 1 / 10000; the other way round
    with `flip_sin_to_cos`."""
    half = width // 2
    exponent = -math.log(10_000) * torch.arange(half, dtype=torch.float32, device=timestep.device) / (half - freq_shift)
    angle = timestep[:, None].float() * exponent.exp()
    parts = (angle.cos(), angle.sin()) if flip_sin_to_cos else (angle.sin(), angle.cos())
    return nn.functional.pad(torch.cat(parts, -1), (0, width % 2))


class TimestepEmbedding(nn.Module):
    """(b, in_width) -> (b, width): linear, SiLU, linear."""

    def __init__(self, in_width: int, width: int) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(in_width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(nn.functional.silu(self.linear_1(x)))
