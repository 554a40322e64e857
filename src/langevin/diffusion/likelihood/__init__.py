"""How probable the data is under the model, in nats a row and bits a dimension.

    levels        the affine map of recorded levels, which gives a density its unit, and dequantisation
    bound         the variational bound as named terms, in continuous time and on a finite grid; any process
    chain         likelihood of the ancestral chain by weighted paths: the bound and what it bounds, on the same draws
    flow          exact likelihood by the probability flow; Gaussian processes
    information   the likelihood of a point by its denoising errors (I-MMSE); Gaussian processes
    answers       what these return: numbers a row, with standard errors over rows, times and probes

A bound and an exact likelihood never share a column: the first is at least the second, if both are of one model.
"""

from langevin.diffusion.likelihood.answers import Bound, Estimate, Likelihood, Weighted, mean_of
from langevin.diffusion.likelihood.bound import bound, finite_bound
from langevin.diffusion.likelihood.chain import chain_likelihood
from langevin.diffusion.likelihood.flow import flow_likelihood
from langevin.diffusion.likelihood.gaussian import prior_nats, reconstruction_nats
from langevin.diffusion.likelihood.information import information
from langevin.diffusion.likelihood.levels import Decoded, Dequantisation, Levels, TruncatedNormal, Uniform, levels_of

__all__ = [
    "Bound",
    "Decoded",
    "Dequantisation",
    "Estimate",
    "Levels",
    "Likelihood",
    "TruncatedNormal",
    "Uniform",
    "Weighted",
    "bound",
    "chain_likelihood",
    "finite_bound",
    "flow_likelihood",
    "information",
    "levels_of",
    "mean_of",
    "prior_nats",
    "reconstruction_nats",
]
