"""How data becomes noise: `Gaussian`, `Drift` of any equation, `Masked`, `Uniform`, `Hybrid`, and `Product` of named parts.

All have one face: `prior`, `corrupt`, `transition`, `bound` (see `terms`).
"""

from langevin.diffusion.process.drift.process import Drift
from langevin.diffusion.process.gaussian import Gaussian
from langevin.diffusion.process.hybrid import Hybrid, Uniform
from langevin.diffusion.process.masked import Masked
from langevin.diffusion.process.product import Product
from langevin.diffusion.process.terms import Process, Terms

__all__ = ["Drift", "Gaussian", "Hybrid", "Masked", "Process", "Product", "Terms", "Uniform"]
