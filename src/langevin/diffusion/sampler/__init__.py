"""Samplers: ask `state.x, state.t`, tell `sampler.update(state, posterior)`.

`state` is what a sampler works on, `grid` the times it visits, `loop` the only loop, `linear` how a sampler is a row of
numbers; then one file a family.
"""

from langevin.diffusion.sampler.adams import IPNDM, Adams
from langevin.diffusion.sampler.adaptive import Adaptive
from langevin.diffusion.sampler.ancestral import Ancestral
from langevin.diffusion.sampler.ddim import DDIM, Euler
from langevin.diffusion.sampler.exponential import DPM2M, DPM3M, Exponential
from langevin.diffusion.sampler.grid import Grid, Knots, LogSNR, Rho, Shares, Shifted, UniformGrid
from langevin.diffusion.sampler.learned import Learned
from langevin.diffusion.sampler.loop import sample, start
from langevin.diffusion.sampler.remask import Gibbs, Psi, Remask
from langevin.diffusion.sampler.reverse import AnyReverse, Flow, Reverse
from langevin.diffusion.sampler.singlestep import DPM2, Churn, Heun, Restart
from langevin.diffusion.sampler.state import Sampler, State
from langevin.diffusion.sampler.stochastic import EulerMaruyama, Langevin
from langevin.diffusion.sampler.unipc import UniPC
from langevin.diffusion.sampler.unmask import Reveal, Sure, Taste, TopK

AnySampler = (
    Ancestral | DDIM | Euler | EulerMaruyama | Langevin | Heun | DPM2 | Churn | Restart
    | DPM2M | DPM3M | Exponential | Adams | IPNDM | UniPC | Adaptive | Learned
)  # fmt: skip
AnyUnmask = Reveal | TopK | Sure | Psi | Remask | Gibbs

__all__ = [
    "DDIM",
    "DPM2",
    "DPM2M",
    "DPM3M",
    "IPNDM",
    "Adams",
    "Adaptive",
    "Ancestral",
    "AnyReverse",
    "AnySampler",
    "AnyUnmask",
    "Churn",
    "Euler",
    "EulerMaruyama",
    "Exponential",
    "Flow",
    "Gibbs",
    "Grid",
    "Heun",
    "Knots",
    "Langevin",
    "Learned",
    "LogSNR",
    "Psi",
    "Remask",
    "Restart",
    "Reveal",
    "Reverse",
    "Rho",
    "Sampler",
    "Shares",
    "Shifted",
    "State",
    "Sure",
    "Taste",
    "TopK",
    "UniPC",
    "UniformGrid",
    "sample",
    "start",
]
