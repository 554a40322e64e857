"""Forward processes: `Gaussian`, any `SDE`, `Masked`, `UniformDiffusion`, `GIDD`, and `Product` of named parts.

All implement `Process` (`prior`, `corrupt`, `transition`), and all but `SDE` implement `Bounded` (`bound`); see `terms`.
"""

from langevin.diffusion.process.gaussian import Gaussian
from langevin.diffusion.process.gidd import GIDD, UniformDiffusion
from langevin.diffusion.process.masked import Masked
from langevin.diffusion.process.product import Product
from langevin.diffusion.process.sde.process import SDE
from langevin.diffusion.process.terms import Bounded, Process, Terms

AnyProcess = Gaussian | SDE | Masked | UniformDiffusion | GIDD | Product

__all__ = [
    "GIDD",
    "SDE",
    "AnyProcess",
    "Bounded",
    "Gaussian",
    "Masked",
    "Process",
    "Product",
    "Terms",
    "UniformDiffusion",
]
