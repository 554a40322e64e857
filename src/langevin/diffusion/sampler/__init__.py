"""Samplers: ask `state.x, state.t`, tell `sampler.update(state, posterior)`.

`state` is what a sampler works on, `grid` the times it visits, `loop` the only loop; then one file a family.
"""

from langevin.diffusion.sampler.ancestral import Ancestral
from langevin.diffusion.sampler.ddim import DDIM, Euler
from langevin.diffusion.sampler.dpm import DPM2M
from langevin.diffusion.sampler.grid import Grid, Knots, LogSNR, Rho, UniformGrid
from langevin.diffusion.sampler.heun import Heun
from langevin.diffusion.sampler.loop import sample, start
from langevin.diffusion.sampler.state import Sampler, State

AnySampler = Ancestral | DDIM | Euler | Heun | DPM2M

__all__ = [
    "DDIM",
    "DPM2M",
    "Ancestral",
    "AnySampler",
    "Euler",
    "Grid",
    "Heun",
    "Knots",
    "LogSNR",
    "Rho",
    "Sampler",
    "State",
    "UniformGrid",
    "sample",
    "start",
]
