"""How far two clouds of points are apart: the sliced 1-Wasserstein distance, beside what chance alone makes of it.

Along a direction the distance between two laws on the line is the mean distance between their quantiles; it is averaged
over the axes (up to 16) and as many random directions ("Sliced and Radon Wasserstein Barycenters of Measures", 2015).
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch does not say the types of norms, splits, triangular solves and Fourier transforms)

from dataclasses import dataclass

import torch
from torch import Tensor


def sliced(a: Tensor, b: Tensor, *, directions: int = 16, seed: int = 0) -> float:
    """Mean W1 of clouds (n, ...) and (m, ...) along directions, in the units of the data; unequal counts are allowed."""
    x, y = a.double().flatten(1), b.double().flatten(1)
    if x.shape[1] != y.shape[1] or min(len(x), len(y)) < 1:
        raise ValueError(
            f"a distance needs two clouds of points of one width, got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    d = x.shape[1]
    generator = torch.Generator().manual_seed(seed)
    way = torch.eye(d, dtype=torch.float64)[:directions]
    if d > 1:
        more = torch.randn(directions, d, dtype=torch.float64, generator=generator)
        way = torch.cat([way, more / more.norm(dim=1, keepdim=True)])
    n = max(len(x), len(y))
    levels = (torch.arange(n, dtype=torch.float64) + 0.5) / n

    def quantiles(cloud: Tensor) -> Tensor:
        ordered = (cloud @ way.T).sort(0).values
        return ordered[(levels * len(cloud)).long()]

    return float((quantiles(x) - quantiles(y)).abs().mean())


@dataclass(frozen=True, kw_only=True)
class Gap:
    """The distance between the simulated end law and the prior that sampling starts from.

    Args:
        distance: sliced W1 between them.
        floor: the same between two halves of the simulated end points: what chance makes of no difference.
        spread: root mean square of the end points, to read both against.
    """

    distance: float
    floor: float
    spread: float

    @property
    def fits(self) -> bool:
        """Whether the difference is what chance makes, or small beside the spread."""
        return self.distance < max(2 * self.floor, 0.08 * self.spread)

    def __str__(self) -> str:
        verdict = "the prior fits" if self.fits else (
            "the prior does not fit: run the equation longer (horizon), or blend it into a Gaussian end"
        )  # fmt: skip
        return (
            f"end of the simulation against the prior: W1 {self.distance:.4g}, two halves of the simulation "
            f"{self.floor:.4g}, spread {self.spread:.3g}: {verdict}"
        )

    @classmethod
    def of(cls, ends: Tensor, prior: Tensor, *, splits: int = 4) -> "Gap":
        """Of simulated end points and draws of the prior, (n, ...) each, n >= 2; means over halves taken at random."""
        half, generator = len(ends) // 2, torch.Generator().manual_seed(0)
        if half < 1 or len(prior) < half:
            raise ValueError(f"a gap needs two or more end points and as many draws, got {len(ends)} and {len(prior)}")
        orders = [torch.randperm(len(ends), generator=generator) for _ in range(splits)]
        far = [
            sliced(ends[order[:half]], prior[i % 2 * (len(prior) - half) :][:half]) for i, order in enumerate(orders)
        ]
        near = [sliced(ends[order[:half]], ends[order[half : 2 * half]]) for order in orders]
        return cls(
            distance=sum(far) / splits, floor=sum(near) / splits, spread=float(ends.double().square().mean().sqrt())
        )
