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


def join(parts: "list[Likelihood]") -> Likelihood:
    """The rows of all parts, in order."""
    return Likelihood(
        log_density=torch.cat([p.log_density for p in parts]),
        surprise=torch.cat([p.surprise for p in parts]),
        error=torch.cat([p.error for p in parts]),
        places=parts[0].places,
        steps=max(p.steps for p in parts),
    )
