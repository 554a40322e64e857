"""How data becomes noise: `Gaussian`, `Masked`, `Drift` of any equation, and `Product` of named parts.

All have one face: `prior`, `corrupt`, `transition`, `bound` (see `terms`).
"""

from langevin.diffusion.process.drift.process import Drift
from langevin.diffusion.process.gaussian import Gaussian
from langevin.diffusion.process.masked import Masked
from langevin.diffusion.process.product import Product
from langevin.diffusion.process.terms import Process, Terms

__all__ = ["Drift", "Gaussian", "Masked", "Process", "Product", "Terms"]
