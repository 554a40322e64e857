"""Likelihoods per sample, and the standard errors of their mean.

A mean has two sources of error: the samples of the data, and the drawn times, noises or probes. `Estimate.samples` is
the standard error of the first, `Estimate.draws` that of the second.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

BITS = 1 / math.log(2)  # of a nat


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean with its standard errors over samples and over draws; None where there is only one."""

    mean: float
    samples: float | None
    draws: float | None

    def times(self, factor: float) -> "Estimate":
        """The same in another unit."""
        samples, draws = (None if e is None else e * abs(factor) for e in (self.samples, self.draws))
        return Estimate(mean=self.mean * factor, samples=samples, draws=draws)


def mean_of(values: Tensor) -> Estimate:
    """The mean of `values` (samples, draws), whose columns are independent."""
    values = values.double()
    samples, draws = values.shape
    return Estimate(
        mean=float(values.mean()),
        samples=float(values.mean(1).std() / math.sqrt(samples)) if samples > 1 else None,
        draws=float(values.mean(0).std() / math.sqrt(draws)) if draws > 1 else None,
    )


@dataclass(frozen=True, kw_only=True)
class ELBOTerms:
    """-ln p(x) <= prior + diffusion + reconstruction, each (b, draws) in nats per sample, float64.

    Args:
        dimensions: of a sample, for `bits`; their mean, if samples differ in shape.
    """

    prior: Tensor
    diffusion: Tensor
    reconstruction: Tensor
    dimensions: float

    @property
    def nats(self) -> Tensor:
        """The bound, (b, draws)."""
        return self.prior + self.diffusion + self.reconstruction

    def bits(self) -> dict[str, Estimate]:
        """The terms and their `total`, in bits per dimension."""
        parts = {name: getattr(self, name) for name in ("prior", "diffusion", "reconstruction")}
        unit = BITS / self.dimensions
        return {name: mean_of(value).times(unit) for name, value in {**parts, "total": self.nats}.items()}


@dataclass(frozen=True, kw_only=True)
class ExactLikelihood:
    """ln p of each sample in nats, float64: of a density, or of a probability where the data was dequantised.

    Args:
        log_density: (b, draws); one column where nothing is drawn, as with an exact trace.
        surprise: (b,) -ln q(y) of the dequantising noise, which is added to `log_density`; 0 for a density.
        error: (b,) nats: `mismatch` plus the change by halving the steps, which in practice exceeds the discretisation
            error.
        mismatch: (b,) nats: a bound, to leading order, on the error of using the prior at the noisy end; 0 without one.
        dimensions: of a sample, for `bits`.
        steps: of the integral.
    """

    log_density: Tensor
    surprise: Tensor
    error: Tensor
    mismatch: Tensor
    dimensions: int
    steps: int

    @property
    def nats(self) -> Tensor:
        """-ln p, (b, draws)."""
        return -(self.log_density + self.surprise[:, None])

    def bits(self) -> Estimate:
        """-log2 p per dimension."""
        return mean_of(self.nats).times(BITS / self.dimensions)


@dataclass(frozen=True, kw_only=True)
class ImportanceWeightedPaths:
    """ln w of w = p(x, z) / q(z | x), z drawn from q: E_q[w] = p(x), (b, draws) in nats, float64.

    By Jensen's inequality the mean of -ln w is at least -ln of the mean of w, on any draws. The expectation of the
    latter falls towards -ln p(x) with the number of draws and never below it ("Importance Weighted Autoencoders", 2015,
    arXiv:1509.00519).

    Args:
        log_weights: (b, draws).
        dimensions: of a sample, for `bits`.
    """

    log_weights: Tensor
    dimensions: int

    @property
    def bound(self) -> Tensor:
        """(b,) the variational bound: the mean of -ln w."""
        return -self.log_weights.mean(1)

    @property
    def exact(self) -> Tensor:
        """(b,) -ln of the mean of w: its expectation exceeds -ln p(x) by about Var(w) / (2 draws E[w]^2)."""
        return math.log(self.log_weights.shape[1]) - self.log_weights.logsumexp(1)

    @property
    def effective(self) -> Tensor:
        """(b,) effective sample size, (sum w)^2 / sum w^2: near 1 `exact` is still far above -ln p(x)."""
        return (2 * self.log_weights.logsumexp(1) - (2 * self.log_weights).logsumexp(1)).exp()

    def bits(self) -> dict[str, Estimate]:
        """`bound`, `exact` and `gap`, their paired difference, in bits per dimension."""
        columns = {"bound": -self.log_weights, "exact": self.exact[:, None], "gap": (self.bound - self.exact)[:, None]}
        return {name: mean_of(value).times(BITS / self.dimensions) for name, value in columns.items()}


def join(parts: "list[ExactLikelihood]") -> ExactLikelihood:
    """The samples of all parts, in order."""
    return ExactLikelihood(
        log_density=torch.cat([p.log_density for p in parts]),
        surprise=torch.cat([p.surprise for p in parts]),
        error=torch.cat([p.error for p in parts]),
        mismatch=torch.cat([p.mismatch for p in parts]),
        dimensions=parts[0].dimensions,
        steps=max(p.steps for p in parts),
    )
