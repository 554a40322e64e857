"""General SDEs dx = f(x, t) dt + g(t) dw: `SDE`, in closed form where f is affine, else by simulation."""

from langevin.diffusion.process.sde.affine import Kernel, is_affine
from langevin.diffusion.process.sde.fields import AnyField, DoubleWell, LimitCycle, OrnsteinUhlenbeck
from langevin.diffusion.process.sde.likelihood import divergence, log_density
from langevin.diffusion.process.sde.mismatch import PriorMismatch, sliced
from langevin.diffusion.process.sde.process import SDE, ScoreTarget, from_gradient
from langevin.diffusion.process.sde.simulate import path
from langevin.diffusion.process.sde.terminal import (
    AnyTerminal,
    EmpiricalTerminal,
    GaussianTerminal,
    StationaryTerminal,
    blend,
)

__all__ = [
    "SDE",
    "AnyField",
    "AnyTerminal",
    "DoubleWell",
    "EmpiricalTerminal",
    "GaussianTerminal",
    "Kernel",
    "LimitCycle",
    "OrnsteinUhlenbeck",
    "PriorMismatch",
    "ScoreTarget",
    "StationaryTerminal",
    "blend",
    "divergence",
    "from_gradient",
    "is_affine",
    "log_density",
    "path",
    "sliced",
]
