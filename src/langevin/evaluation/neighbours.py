"""Density and coverage, precision and recall, from k-nearest-neighbour balls.

R_k(x) is the distance from x to its k-th neighbour in its own set, B(x, R_k) the closed ball. For N real x, M fake y,

    density   = 1/(k M) sum_j sum_i 1[y_j in B(x_i, R_k)]      fidelity: 1 for equal distributions, more near modes
    coverage  = 1/N sum_i 1[some y_j in B(x_i, R_k)]           diversity: falls when modes are dropped
    precision = 1/M sum_j 1[y_j in some B(x_i, R_k)]           inflated by real outliers, whose balls are large
    recall    = 1/N sum_i 1[x_i in some B(y_j, R_k)]           inflated by fake outliers

For equal distributions the expected coverage is not 1 but the probability that the k nearest of the N - 1 + M others
are not all real: 1 - prod_{j=1..k} (N - j)/(N + M - j), about 1 - 2^-k at N = M. Prefer density and coverage.

Papers: "Reliable Fidelity and Diversity Metrics for Generative Models" (2020, arXiv 2002.09797),
"Improved Precision and Recall Metric for Assessing Generative Models" (2019, arXiv 1904.06991).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

CLOSED = 1 + 1e-9  # balls are closed: slack for the rounding of a squared distance computed twice


@dataclass(frozen=True, kw_only=True)
class DensityCoverage:
    """The four metrics: `density` in [0, inf), the others in [0, 1]; `n` real and `m` fake samples, `k` neighbours."""

    density: float
    coverage: float
    precision: float
    recall: float
    k: int
    n: int
    m: int


def density_coverage(real: Tensor, fake: Tensor, *, k: int = 5, chunk: int = 1024) -> DensityCoverage:
    """Density, coverage, precision and recall of fake features `(m, d)` against real ones `(n, d)`.

    Distances are exact, in float64, `chunk` samples at a time: memory is O(chunk * max(n, m)).
    ValueError for features of different dimension, or fewer than k + 1 samples in a set.
    """
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise ValueError(f"density_coverage needs (n, d) and (m, d), got {tuple(real.shape)} and {tuple(fake.shape)}")
    if min(len(real), len(fake)) <= k or k < 1:
        raise ValueError(
            f"density_coverage needs more than k = {k} >= 1 samples in each set, got {len(real)} and {len(fake)}: "
            "give more samples or a smaller k"
        )
    centre = real.double().mean(0)
    x, y = real.double() - centre, fake.double() - centre
    radius_x, radius_y = radii(x, k=k, chunk=chunk), radii(y, k=k, chunk=chunk)
    covered = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    recalled = torch.zeros_like(covered)
    pairs = precise = 0
    for rows, radius in zip(y.split(chunk), radius_y.split(chunk)):
        distance = _squared(rows, x)
        inside = distance <= radius_x
        pairs += int(inside.sum())
        precise += int(inside.any(1).sum())
        covered |= inside.any(0)
        recalled |= (distance <= radius[:, None]).any(0)
    return DensityCoverage(
        density=pairs / (k * len(y)),
        coverage=covered.double().mean().item(),
        precision=precise / len(y),
        recall=recalled.double().mean().item(),
        k=k,
        n=len(x),
        m=len(y),
    )


def expected_coverage(n: int, m: int, k: int) -> float:
    """Expected coverage of n real by m fake samples of equal distribution: 1 - prod_{j=1..k} (n - j)/(n + m - j)."""
    if n <= k or m < 1 or k < 1:
        raise ValueError(f"expected_coverage needs n > k >= 1 and m >= 1, got n = {n}, m = {m}, k = {k}")
    missed = 1.0
    for j in range(1, k + 1):
        missed *= (n - j) / (n + m - j)
    return 1 - missed


def radii(x: Tensor, *, k: int, chunk: int = 1024) -> Tensor:
    """Squared distance `(n,)` of each sample to its k-th neighbour among the others (R_k^2, float64)."""
    nearest = []
    for start, rows in zip(range(0, len(x), chunk), x.split(chunk)):
        distance = _squared(rows, x)
        own = torch.arange(len(rows), device=x.device)
        distance[own, own + start] = torch.inf  # by index, not by value: duplicates are neighbours
        nearest.append(distance.topk(k, dim=1, largest=False).values[:, -1])
    return torch.cat(nearest) * CLOSED


def _squared(a: Tensor, b: Tensor) -> Tensor:
    product = a @ b.T
    return (
        product.mul_(-2).add_(a.square().sum(1)[:, None]).add_(b.square().sum(1)).clamp_(min=0)
    )  # |a|^2 - 2ab + |b|^2
