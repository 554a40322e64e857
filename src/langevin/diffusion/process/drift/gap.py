"""How far two clouds of points are apart: the sliced 1-Wasserstein distance, beside what chance alone makes of it.

Along a direction the distance between two laws on the line is the mean distance between their quantiles; it is averaged
over the axes (up to 16) and as many random directions ("Sliced and Radon Wasserstein Barycenters of Measures", 2015).
"""

from dataclasses import dataclass

import torch
from torch import Tensor


def sliced(a: Tensor, b: Tensor, *, directions: int = 16, seed: int = 0) -> float:
    """Mean W1 of clouds (n, ...) and (m, ...) along directions, in the units of the data; unequal counts are allowed."""
    x, y = a.double().flatten(1), b.double().flatten(1)
    if x.shape[1] != y.shape[1] or min(len(x), len(y)) < 1:
        raise ValueError(f"a distance needs two clouds of points of one width, got {tuple(a.shape)} and {tuple(b.shape)}")
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

    def __str__(self) -> str:
        verdict = "the prior fits" if self.distance < max(2 * self.floor, 0.05 * self.spread) else (
            "the prior does not fit: run the equation longer (horizon), or blend it into a Gaussian end"
        )  # fmt: skip
        return (
            f"end of the simulation against the prior: W1 {self.distance:.4g}, two halves of the simulation {self.floor:.4g}, "
            f"spread {self.spread:.3g}: {verdict}"
        )

    @classmethod
    def of(cls, ends: Tensor, prior: Tensor) -> "Gap":
        """Of simulated end points and draws of the prior, (n, ...) each; as many of both, an even number."""
        half = len(ends) // 2
        return cls(
            distance=sliced(ends[:half], prior[:half]),
            floor=sliced(ends[:half], ends[half : 2 * half]),
            spread=float(ends.double().square().mean().sqrt()),
        )
