"""Likelihoods as they are returned: a number a row, and how far chance may have moved their mean.

Two things are drawn: the rows, from the data, and the times, noises or probes, by us. `rows` is the standard error that the
first leaves in the mean over rows, `draws` the one of the second; they are not the same, and more rows do not mend a bias.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

BITS = 1 / math.log(2)  # of a nat


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean with its standard errors over rows and over draws; None where one value gives none."""

    mean: float
    rows: float | None
    draws: float | None

    def times(self, factor: float) -> "Estimate":
        """The same in another unit."""
        size = abs(factor)
        rows, draws = (None if e is None else e * size for e in (self.rows, self.draws))
        return Estimate(mean=self.mean * factor, rows=rows, draws=draws)


def mean_of(values: Tensor) -> Estimate:
    """The mean of `values` (rows, draws), whose draws are independent and each made for all rows."""
    values = values.double()
    rows, draws = values.shape
    return Estimate(
        mean=float(values.mean()),
        rows=float(values.mean(1).std() / math.sqrt(rows)) if rows > 1 else None,
        draws=float(values.mean(0).std() / math.sqrt(draws)) if draws > 1 else None,
    )


@dataclass(frozen=True, kw_only=True)
class Bound:
    """-ln p(x) <= prior + diffusion + reconstruction, each (b, draws) in nats a row, float64.

    Args:
        places: dimensions of a row, for `bits`.
    """

    prior: Tensor
    diffusion: Tensor
    reconstruction: Tensor
    places: int

    @property
    def nats(self) -> Tensor:
        """The bound, (b, draws)."""
        return self.prior + self.diffusion + self.reconstruction

    def bits(self) -> dict[str, Estimate]:
        """The terms and their `total`, in bits a dimension."""
        parts = {name: getattr(self, name) for name in ("prior", "diffusion", "reconstruction")}
        unit = BITS / self.places
        return {name: mean_of(value).times(unit) for name, value in {**parts, "total": self.nats}.items()}


@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """ln p of each row, (b, draws) in nats, float64: of a density, or of a probability where noise was drawn.

    Args:
        log_density: (b, draws): one draw if nothing is drawn, as with an exact trace.
        surprise: (b,) -ln q of the dequantising noise that was drawn, to be added; 0 for a density.
        error: (b,) what halving the steps changes: the discretisation error of the integral, from above in practice.
        places: dimensions of a row, for `bits`.
        steps: of the integral.
    """

    log_density: Tensor
    surprise: Tensor
    error: Tensor
    places: int
    steps: int

    @property
    def nats(self) -> Tensor:
        """-ln p, (b, draws)."""
        return -(self.log_density + self.surprise[:, None])

    def bits(self) -> Estimate:
        """-log2 p a dimension."""
        return mean_of(self.nats).times(BITS / self.places)


@dataclass(frozen=True, kw_only=True)
class Weighted:
    """ln w of w = p(x, z) / q(z | x), z drawn from q: E_q[w] = p(x), (b, draws) in nats, float64.

    By Jensen's inequality, and so on any draws, the bound E[-ln w] is at least the estimate -ln of the mean w, whose mean
    falls with the number of draws to the exact -ln p(x) and never below it ("Importance Weighted Autoencoders", 2015).

    Args:
        log_weights: (b, draws).
        places: dimensions of a row, for `bits`.
    """

    log_weights: Tensor
    places: int

    @property
    def bound(self) -> Tensor:
        """(b,) the mean of -ln w."""
        return -self.log_weights.mean(1)

    @property
    def exact(self) -> Tensor:
        """(b,) -ln of the mean of w: above -ln p(x) in the mean, by about Var(w) / (2 draws E[w]^2)."""
        return math.log(self.log_weights.shape[1]) - self.log_weights.logsumexp(1)

    @property
    def effective(self) -> Tensor:
        """(b,) how many draws carry the mean, (sum w)^2 / sum w^2: near 1 `exact` is still far above -ln p(x)."""
        return (2 * self.log_weights.logsumexp(1) - (2 * self.log_weights).logsumexp(1)).exp()

    def bits(self) -> dict[str, Estimate]:
        """`bound`, `exact` and `gap`, their difference row by row, in bits a dimension."""
        columns = {"bound": -self.log_weights, "exact": self.exact[:, None], "gap": (self.bound - self.exact)[:, None]}
        return {name: mean_of(value).times(BITS / self.places) for name, value in columns.items()}


def join(parts: "list[Likelihood]") -> Likelihood:
    """The rows of all parts, in order."""
    return Likelihood(
        log_density=torch.cat([p.log_density for p in parts]),
        surprise=torch.cat([p.surprise for p in parts]),
        error=torch.cat([p.error for p in parts]),
        places=parts[0].places,
        steps=max(p.steps for p in parts),
    )
