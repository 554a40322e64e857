"""Paths of dx = f(x, t) dt + g(t) dw.

    Heun     x' = x + (h / 2) (f(x, t) + f(x + h f + dw, t + h)) + dw      second order in law (the noise is additive)
    Euler    x' = x + h f(x, t) + dw                                       whose kernel N(x + h f, g^2 h) is Gaussian

with dw = g(t + h / 2) sqrt(h) z. Every row has its own step, so rows of one batch may end at different times; z is a
function of the row's noise alone.
"""

import torch
from torch import Tensor

from langevin.diffusion.noise import Noise
from langevin.diffusion.process.drift.equation import Field, Level, call, level
from langevin.diffusion.shape import right_pad


def steps_noise(like: Tensor, steps: int, noise: Noise) -> Tensor:
    """Standard normals (b, steps, ...), one for each step of each row."""
    return noise.normal(like.new_empty(len(like), steps, *like.shape[1:]))


def heun(f: Field, g: Level, x: Tensor, time: Tensor, h: Tensor, z: Tensor) -> Tensor:
    """One step of length h (b,) from `time` (b,), told its normals z."""
    wide = right_pad(h, x).to(x.dtype)
    dw = right_pad(level(g, time + h / 2) * h.sqrt(), x).to(x.dtype) * z
    slope = call(f, x, time)
    return x + wide / 2 * (slope + call(f, x + wide * slope + dw, time + h)) + dw


def euler(f: Field, g: Level, x: Tensor, time: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """(mean, standard deviation (b, 1, ...)) of the Gaussian step of length h."""
    scale = right_pad(level(g, time + h / 2) * h.sqrt(), x).to(x.dtype)
    return x + right_pad(h, x).to(x.dtype) * call(f, x, time), scale


def path(
    f: Field, g: Level, x: Tensor, end: Tensor, *, steps: int, noise: Noise, begin: Tensor | None = None
) -> list[Tensor]:
    """States after 0, 1, ... `steps` equal Heun steps from `begin` (default 0) to the times `end`, both (b,)."""
    begin = torch.zeros_like(end) if begin is None else begin
    h = (end - begin) / max(1, steps)
    states, z = [x], steps_noise(x, max(1, steps), noise)
    for i in range(steps):
        states.append(heun(f, g, states[-1], begin + i * h, h, z[:, i]))
    return states
