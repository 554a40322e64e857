"""Sampling a density that is given as a formula, without data: chains, the path from a Gaussian, and whether they settled.

Rooms: `density` (a log-density with its slope, checked), `move` (one step of a chain), `run` (many chains), `settled`
(effective sample size, R-hat, and spread that grows without end).
"""

from langevin.diffusion.chain.density import Density
from langevin.diffusion.chain.move import Adjusted, Move, Unadjusted
from langevin.diffusion.chain.run import Annealing, Chains, anneal, run_chains
from langevin.diffusion.chain.settled import Verdict, effective_size, judge, r_hat

__all__ = [
    "Adjusted",
    "Annealing",
    "Chains",
    "Density",
    "Move",
    "Unadjusted",
    "Verdict",
    "anneal",
    "effective_size",
    "judge",
    "r_hat",
    "run_chains",
]
