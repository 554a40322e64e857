"""Simulated paths of dx = f(x, t) dt + g(t) dw.

    Heun     x' = x + (h / 2) (f(x, t) + f(x + h f + dw, t + h)) + dw      weak order 2 (the noise is additive)
    Euler    x' = x + h f(x, t) + dw                                       with the Gaussian kernel N(x + h f, g^2 h)

with dw = g(t + h / 2) sqrt(h) z. Every sample has its own step length, so a batch may have different end times; z is a
function of the sample's noise stream alone.
"""

import torch
from torch import Tensor

from langevin.diffusion.noise import Noise
from langevin.diffusion.process.sde.equation import DiffusionCoefficient, Field, diffusion_at, drift_at
from langevin.diffusion.shape import append_dims


def steps_noise(like: Tensor, steps: int, noise: Noise) -> Tensor:
    """Standard normals (b, steps, ...), for each step of each sample."""
    return noise.normal(like.new_empty(len(like), steps, *like.shape[1:]))


def heun(f: Field, g: DiffusionCoefficient, x: Tensor, time: Tensor, h: Tensor, z: Tensor) -> Tensor:
    """One Heun step of length h (b,) from `time` (b,), with standard normals z."""
    wide = append_dims(h, x).to(x)
    dw = append_dims(diffusion_at(g, time + h / 2) * h.sqrt(), x).to(x) * z
    slope = drift_at(f, x, time)
    return x + wide / 2 * (slope + drift_at(f, x + wide * slope + dw, time + h)) + dw


def euler(f: Field, g: DiffusionCoefficient, x: Tensor, time: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """(mean, standard deviation (b, 1, ...)) of the kernel of an Euler step of length h (b,)."""
    scale = append_dims(diffusion_at(g, time + h / 2) * h.sqrt(), x).to(x)
    return x + append_dims(h, x).to(x) * drift_at(f, x, time), scale


def path(
    f: Field, g: DiffusionCoefficient, x: Tensor, end: Tensor, *, steps: int, noise: Noise, begin: Tensor | None = None
) -> list[Tensor]:
    """States after 0, 1, ... `steps` equal Heun steps from `begin` (default 0) to the times `end`, both (b,)."""
    begin = torch.zeros_like(end) if begin is None else begin
    h = (end - begin) / max(1, steps)
    states, z = [x], steps_noise(x, max(1, steps), noise)
    for i in range(steps):
        states.append(heun(f, g, states[-1], begin + i * h, h, z[:, i]))
    return states
