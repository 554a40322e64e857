"""How data becomes noise: `Gaussian`, `Masked`, and `Product` of named parts.

All have one face: `prior`, `corrupt`, `transition`, `bound` (see `terms`).
"""

from langevin.diffusion.process.gaussian import Gaussian
from langevin.diffusion.process.masked import Masked
from langevin.diffusion.process.product import Product
from langevin.diffusion.process.terms import Process, Terms

__all__ = ["Gaussian", "Masked", "Process", "Product", "Terms"]
