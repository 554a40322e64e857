"""Likelihood of data under the model, in nats per sample and bits per dimension.

    levels        the affine map of recorded levels, which fixes the unit of a density, and dequantisation
    bound         the variational bound as named terms, in continuous time and on a finite grid; any process
    chain         likelihood of the ancestral chain by importance-weighted paths: bound and likelihood from one draw
    flow          exact likelihood by the probability flow; Gaussian processes
    information   likelihood of a point from its denoising errors (I-MMSE); Gaussian processes
    tokens        bounds of token models by counts or by times, and the chain rule of an order
    results       the returned values per sample, with standard errors over samples, times and probes

A table never mixes a bound and an exact likelihood in one column: for one model the bound is the larger of the two.
"""

from langevin.diffusion.likelihood.bound import bound, finite_bound
from langevin.diffusion.likelihood.chain import chain_likelihood
from langevin.diffusion.likelihood.flow import flow_likelihood
from langevin.diffusion.likelihood.gaussian import prior_nats, reconstruction_nats
from langevin.diffusion.likelihood.information import information
from langevin.diffusion.likelihood.levels import (
    Decoded,
    Dequantisation,
    Levels,
    TruncatedNormal,
    UniformDequantisation,
    gaussian_mass,
    levels_of,
)
from langevin.diffusion.likelihood.results import ELBOTerms, Estimate, ExactLikelihood, ImportanceWeightedPaths, mean_of

__all__ = [
    "Decoded",
    "Dequantisation",
    "ELBOTerms",
    "Estimate",
    "ExactLikelihood",
    "ImportanceWeightedPaths",
    "Levels",
    "TruncatedNormal",
    "UniformDequantisation",
    "bound",
    "chain_likelihood",
    "finite_bound",
    "flow_likelihood",
    "gaussian_mass",
    "information",
    "levels_of",
    "mean_of",
    "prior_nats",
    "reconstruction_nats",
]
