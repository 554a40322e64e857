"""Sampling a density that is given as a formula, without data: chains, annealing from a Gaussian, convergence diagnostics.

Modules: `density` (a log-density with its gradient, checked), `move` (one step of a chain), `run` (many chains),
`convergence` (effective sample size, R-hat, and variance that grows without end).
"""

from langevin.diffusion.chain.convergence import Diagnostics, diagnose, effective_size, r_hat
from langevin.diffusion.chain.density import Density
from langevin.diffusion.chain.move import MALA, ULA, Move
from langevin.diffusion.chain.run import Annealing, Chains, anneal, run_chains

__all__ = [
    "MALA",
    "ULA",
    "Annealing",
    "Chains",
    "Density",
    "Diagnostics",
    "Move",
    "anneal",
    "diagnose",
    "effective_size",
    "r_hat",
    "run_chains",
]
