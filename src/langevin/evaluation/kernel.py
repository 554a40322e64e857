"""Kernel distance (KID): the unbiased squared maximum mean discrepancy under a cubic polynomial kernel.

    k(x, y) = (x.y / d + 1)^3
    KID = sum_{i != j} k(x_i, x_j) / (m (m - 1)) + sum_{i != j} k(y_i, y_j) / (n (n - 1)) - 2 mean_ij k(x_i, y_j)

Its expectation is exactly zero when both sets have the same distribution, at any sample size. So it is the metric to
trust for a few thousand samples, where the Fréchet distance is mostly bias. The features are not normalised: the value
depends on their scale.

Paper: "Demystifying MMD GANs" (2018, arXiv 1801.01401).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

UNEQUAL = 4  # beyond which more samples of one set alone hardly lower the error


def kernel_distance(real: Tensor, fake: Tensor, *, block: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Mean over blocks of the unbiased KID between features `(m, d)` and `(n, d)`, and its standard error.

    Samples are shuffled by `seed` and split into blocks of at least `block` samples of the smaller set (one block if it
    has fewer), with at most `UNEQUAL` times `block` of the other, so memory is O(block^2). The standard error is a
    jackknife over samples, NaN for fewer than three in a block. ValueError for fewer than two samples, or features of
    different dimension.
    """
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise ValueError(f"kernel_distance needs (m, d) and (n, d), got {tuple(real.shape)} and {tuple(fake.shape)}")
    if min(len(real), len(fake)) < 2:
        raise ValueError(f"kernel_distance needs at least 2 samples in each set, got {len(real)} and {len(fake)}")
    if block < 2:
        raise ValueError(f"kernel_distance needs block >= 2, got {block}")
    generator = torch.Generator().manual_seed(seed)
    blocks = max(min(len(real), len(fake)) // block, 1)
    x = torch.randperm(len(real), generator=generator).tensor_split(blocks)
    y = torch.randperm(len(fake), generator=generator).tensor_split(blocks)
    parts = [
        _block(real[i[: UNEQUAL * block].to(real.device)].double(), fake[j[: UNEQUAL * block].to(fake.device)].double())
        for i, j in zip(x, y)
    ]
    mean = sum(value for value, _ in parts) / blocks
    return mean, math.sqrt(sum(variance for _, variance in parts)) / blocks


def _block(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Unbiased estimate and its jackknife variance; the leave-one-out values follow from row sums of the kernels."""
    m, n = len(x), len(y)
    within_x, within_y, between = _kernel(x, x), _kernel(y, y), _kernel(x, y)
    rows_x = within_x.sum(1) - within_x.diagonal()
    rows_y = within_y.sum(1) - within_y.diagonal()
    mean_x, mean_y = rows_x.sum() / (m * (m - 1)), rows_y.sum() / (n * (n - 1))
    value = mean_x + mean_y - 2 * between.mean()
    if min(m, n) < 3:
        return value.item(), math.nan
    total = between.sum()
    # without x_i: (S - 2 r_i) / ((m - 1)(m - 2)) + mean_y - 2 (T - t_i) / ((m - 1) n), and the same for y_j
    without_x = (rows_x.sum() - 2 * rows_x) / ((m - 1) * (m - 2)) - 2 * (total - between.sum(1)) / ((m - 1) * n)
    without_y = (rows_y.sum() - 2 * rows_y) / ((n - 1) * (n - 2)) - 2 * (total - between.sum(0)) / ((n - 1) * m)
    variance = (m - 1) * without_x.var(correction=0) + (n - 1) * without_y.var(correction=0)
    return value.item(), variance.item()


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    base = (x @ y.T).div_(x.shape[1]).add_(1)
    return base.square().mul_(base)  # k(x, y) = (x.y / d + 1)^3
