"""The sliced 1-Wasserstein distance of two sets of points, and the prior mismatch of an SDE.

In one dimension W1 is the mean distance between quantiles. It is averaged over the axes (up to 16) and random directions
("Sliced and Radon Wasserstein Barycenters of Measures", 2015).
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch does not say the types of norms, splits, triangular solves and Fourier transforms)

from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.diffusion.float64 import to_float64


def sliced(a: Tensor, b: Tensor, *, directions: int = 16, seed: int = 0) -> float:
    """Sliced W1 of points (n, ...) and (m, ...), in the units of the data; n and m may differ."""
    x, y = (to_float64(points).flatten(1).cpu() for points in (a, b))
    if x.shape[1] != y.shape[1] or min(len(x), len(y)) < 1:
        raise ValueError(
            f"a distance needs two non-empty sets of points of one dimension, got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    d = x.shape[1]
    generator = torch.Generator().manual_seed(seed)
    units = torch.eye(d, dtype=torch.float64)[:directions]
    if d > 1:
        random = torch.randn(directions, d, dtype=torch.float64, generator=generator)
        units = torch.cat([units, random / random.norm(dim=1, keepdim=True)])
    n = max(len(x), len(y))
    levels = (torch.arange(n, dtype=torch.float64) + 0.5) / n

    def quantiles(points: Tensor) -> Tensor:
        ordered = (points @ units.T).sort(0).values
        return ordered[(levels * len(points)).long()]

    return float((quantiles(x) - quantiles(y)).abs().mean())


@dataclass(frozen=True, kw_only=True)
class PriorMismatch:
    """The distance between the simulated distribution at t = 1 and the prior that sampling starts from.

    Args:
        distance: sliced W1 between them.
        floor: sliced W1 between two halves of the simulated end points, the level of sampling noise.
        rms: root mean square of the end points, the scale of both.
    """

    distance: float
    floor: float
    rms: float

    @property
    def fits(self) -> bool:
        """Whether the distance is within sampling noise, or small relative to the scale."""
        return self.distance < max(2 * self.floor, 0.08 * self.rms)

    def __str__(self) -> str:
        verdict = "the prior fits" if self.fits else (
            "the prior does not fit: run the equation longer (duration), or blend it into a Gaussian end"
        )  # fmt: skip
        return (
            f"end of the simulation against the prior: W1 {self.distance:.4g}, two halves of the simulation "
            f"{self.floor:.4g}, spread {self.rms:.3g}: {verdict}"
        )

    @classmethod
    def of(cls, ends: Tensor, prior: Tensor, *, splits: int = 4) -> "PriorMismatch":
        """From simulated end points and draws of the prior, (n, ...) each, n >= 2; averaged over random halves."""
        half, generator = len(ends) // 2, torch.Generator().manual_seed(0)
        if half < 1 or len(prior) < half:
            raise ValueError(
                f"a mismatch needs two or more end points and half as many draws, got {len(ends)} and {len(prior)}"
            )
        orders = [torch.randperm(len(ends), generator=generator) for _ in range(splits)]
        far = [
            sliced(ends[order[:half]], prior[i % 2 * (len(prior) - half) :][:half]) for i, order in enumerate(orders)
        ]
        near = [sliced(ends[order[:half]], ends[order[half : 2 * half]]) for order in orders]
        return cls(
            distance=sum(far) / splits, floor=sum(near) / splits, rms=float(to_float64(ends).square().mean().sqrt())
        )
