"""The general equation dx = f(x, t) dt + g(t) dw: `Drift`, its closed form where f is affine, its simulation where not."""

from langevin.diffusion.process.drift.affine import Kernel, is_affine
from langevin.diffusion.process.drift.end import AnyEnd, Normal, Reservoir, Stationary, blend
from langevin.diffusion.process.drift.fields import AnyField, DoubleWell, LimitCycle, Pull
from langevin.diffusion.process.drift.gap import Gap, sliced
from langevin.diffusion.process.drift.likelihood import divergence, log_density
from langevin.diffusion.process.drift.process import Drift, Question, from_gradient
from langevin.diffusion.process.drift.simulate import path

__all__ = [
    "AnyEnd",
    "AnyField",
    "DoubleWell",
    "Drift",
    "Gap",
    "Kernel",
    "LimitCycle",
    "Normal",
    "Pull",
    "Question",
    "Reservoir",
    "Stationary",
    "blend",
    "divergence",
    "from_gradient",
    "is_affine",
    "log_density",
    "path",
    "sliced",
]
