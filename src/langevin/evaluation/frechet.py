"""Fréchet distance between two sets of features, and its extrapolation to infinitely many samples.

The distance is the squared 2-Wasserstein distance of the Gaussians with the means and covariances of the two sets,

    FD = |mu_a - mu_b|^2 + tr(C_a + C_b - 2 (C_a^1/2 C_b C_a^1/2)^1/2).

The estimate from N samples is biased upwards by about b/N, and b depends on the model, so two models compared at one N
may be ranked wrongly. FD_infinity fits FD_N = FD_inf + b/N over subsets of several sizes and reports the intercept.
Values are comparable only within one feature space.

Papers: "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium" (2017, arXiv 1706.08500),
"Effectively Unbiased FID and Inception Score and where to find them" (2020, arXiv 1911.07023).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

SHARES = (0.5, 0.625, 0.75, 0.875, 1.0)
"""Subset sizes of `frechet_infinity`, as fractions of the pools."""
WINDOWS = 4  # subsets of each size
FOLDS = 8  # groups of the jackknife


@dataclass(frozen=True, kw_only=True, eq=False)
class Moments:
    """Mean `(d,)`, covariance `(d, d)` (divided by n - 1; zero for n = 1) and number of samples, in float64."""

    mean: Tensor
    covariance: Tensor
    n: int

    @classmethod
    def of(cls, features: Tensor) -> Moments:
        """Moments of features `(n, d)`; ValueError unless they are a finite, non-empty matrix."""
        if features.ndim != 2 or len(features) == 0:
            raise ValueError(f"Moments needs features of shape (n, d) with n >= 1, got {tuple(features.shape)}")
        x = features.detach().to(torch.float64)
        mean = x.mean(0)
        if not mean.isfinite().all():
            raise ValueError("Moments got features that are not finite: check the samples and the feature network")
        centred = x - mean
        return cls(mean=mean, covariance=centred.T @ centred / max(len(x) - 1, 1), n=len(x))


def frechet_distance(a: Moments, b: Moments) -> float:
    """Squared 2-Wasserstein distance of the Gaussians with these moments; symmetric, >= 0, in squared feature units.

    ValueError for fewer than two samples in a set, or feature spaces of different dimension.
    """
    _same_width(a, b)
    if min(a.n, b.n) < 2:
        raise ValueError(f"frechet_distance needs at least 2 samples in each set, got {a.n} and {b.n}")
    root = _root(a.covariance)
    # tr (C_a^1/2 C_b C_a^1/2)^1/2; eigenvalues below zero are rounding
    cross = torch.linalg.eigvalsh(root @ b.covariance @ root).clamp(min=0).sqrt().sum()
    distance = (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace() - 2 * cross
    return max(distance.item(), 0.0)


def frechet_infinity(real: Tensor, fake: Tensor, *, seed: int, sizes: Sequence[float] = SHARES) -> tuple[float, float]:
    """Intercept of FD_N = FD_inf + b/N and its standard error, from features `(n, d)` and `(m, d)`.

    `sizes` are at least five fractions of the pools in (0, 1]. Both pools shrink together, which removes the bias of
    both. Subsets are overlapping windows of a shuffled pool. The standard error is a jackknife over 8 groups of
    samples, so it covers the sampling of the pools. The intercept may be slightly negative. The line fits FD_N well
    once N is well above d. ValueError for fewer than five fractions, or pools too small to halve.
    """
    if len(set(sizes)) < 5 or not all(0 < share <= 1 for share in sizes):
        raise ValueError(
            f"frechet_infinity needs at least 5 different fractions in (0, 1] to fit a line, got {tuple(sizes)}"
        )
    smallest = math.floor(min(sizes) * min(len(real), len(fake)) * (1 - 1 / FOLDS))
    if smallest < 2:
        raise ValueError(
            f"frechet_infinity cannot divide pools of {len(real)} and {len(fake)} samples: "
            "use frechet_distance or more samples"
        )
    generator = torch.Generator().manual_seed(seed)
    real = real[torch.randperm(len(real), generator=generator).to(real.device)]
    fake = fake[torch.randperm(len(fake), generator=generator).to(fake.device)]
    with _one_thread():
        intercept = _intercept(real, fake, sizes)
        left_out = [_intercept(_without(real, i), _without(fake, i), sizes) for i in range(FOLDS)]
    # jackknife: var = (g - 1)/g sum_i (theta_i - mean theta)^2 = (g - 1) var_i(theta_i)
    variance = (FOLDS - 1) * torch.tensor(left_out, dtype=torch.float64).var(correction=0)
    return intercept, variance.sqrt().item()


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread, for hundreds of small matrices: more threads only wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _intercept(real: Tensor, fake: Tensor, sizes: Sequence[float]) -> float:
    inverse = torch.tensor([1 / share for share in sizes], dtype=torch.float64)
    distances = torch.tensor([_mean_distance(real, fake, share) for share in sizes], dtype=torch.float64)
    centred = inverse - inverse.mean()
    slope = (centred * distances).sum() / centred.square().sum()
    return (distances.mean() - slope * inverse.mean()).item()


def _mean_distance(real: Tensor, fake: Tensor, share: float) -> float:
    windows = 1 if share == 1 else WINDOWS
    pairs = ((Moments.of(_window(real, share, i)), Moments.of(_window(fake, share, i))) for i in range(windows))
    return sum(frechet_distance(a, b) for a, b in pairs) / windows


def _window(pool: Tensor, share: float, number: int) -> Tensor:
    start = number * len(pool) // WINDOWS
    return pool.roll(-start, 0)[: round(share * len(pool))]


def _without(pool: Tensor, fold: int) -> Tensor:
    return pool[torch.arange(len(pool), device=pool.device) % FOLDS != fold]


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def _same_width(a: Moments, b: Moments) -> None:
    if a.mean.shape != b.mean.shape:
        raise ValueError(
            f"Moments of features of dimension {len(a.mean)} and {len(b.mean)}: use one feature network for both sets"
        )
