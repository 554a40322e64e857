"""Tests for memorised training data: nearest neighbours, and the generalisation gap of the denoising loss.

Three statistics of the distances to the nearest training samples, in pixels or in features:

- C_T: the Mann-Whitney statistic of generated -> train distances against held-out -> train distances. With U the number
  of (generated, held-out) pairs in which the generated sample is farther from the training data,
  C_T = (U - mn/2) / sqrt(mn (m + n + 1)/12): standard normal for fresh samples, strongly negative for copies.
- AuthPct: the share of generated samples that are farther from their nearest training sample than that one is from its
  own nearest training sample. 0 for copies.
- The neighbour ratio d_1/d_2 of the distances to the nearest and second nearest training sample. Below 1/3 a sample is
  near a single training sample. The share of such samples is 1 for copies; on held-out data it measures duplicates.

The primary test needs the network but no sampling: the denoising loss on held-out data minus that on training data, at
each noise level. Memorisation shows first at medium noise.

Papers: "A Non-Parametric Test to Detect Data-Copying in Generative Models" (2020, arXiv 2004.05675; here one cell),
"How Faithful is your Synthetic Data?" (2022, arXiv 2102.08921; authenticity), "Diffusion Probabilistic Models
Generalize when They Fail to Memorize" (2023; the ratio), "Exposing flaws of generative model evaluation metrics and
their unfair treatment of diffusion models" (2023, arXiv 2306.04675; compares the three).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

RATIO = 1 / 3
EXTRA = 4  # candidates beyond k whose distances are recomputed without cancellation


@dataclass(frozen=True, kw_only=True)
class Memorisation:
    """Statistics of copying, with those of held-out data for comparison.

    `c_t` is in standard deviations, and `c_t_copycat` the least value it can take at these numbers of samples.
    `authentic` and `close_ratio` are shares in [0, 1]. The medians are L2 distances to the nearest training sample.
    """

    c_t: float
    c_t_copycat: float
    authentic: float
    authentic_held_out: float
    close_ratio: float
    close_ratio_held_out: float
    median_generated: float
    median_held_out: float
    n_train: int
    n_held_out: int
    n_generated: int


@dataclass(frozen=True, kw_only=True, eq=False)
class LossGap:
    """Held-out minus training denoising loss by noise level, its standard error and their ratio z, each `(levels,)`."""

    gap: Tensor
    standard_error: Tensor
    z: Tensor

    @property
    def worst(self) -> int:
        """Index of the level with the largest z."""
        return int(self.z.argmax())


def nearest(train: Tensor, queries: Tensor, *, k: int = 1, chunk: int = 2048) -> tuple[Tensor, Tensor]:
    """L2 distances `(q, k)` in float64, ascending, and indices `(q, k)` of the k nearest training samples of q queries.

    Samples of any shape and dtype are flattened. Candidates come from float64 matrix products, `chunk` x `chunk` at a
    time. Their distances are recomputed from the differences, so a copy is at exactly 0. Memory is
    O(chunk (chunk + features)).
    """
    if train.shape[1:] != queries.shape[1:] or len(queries) == 0:
        raise ValueError(
            f"nearest needs samples of one shape, got train {tuple(train.shape)}, queries {tuple(queries.shape)}"
        )
    if not 1 <= k <= len(train):
        raise ValueError(f"nearest needs 1 <= k <= {len(train)} training samples, got k = {k}")
    train, queries = train.flatten(1), queries.flatten(1)
    results = [_nearest(train, rows.double(), k, chunk) for rows in queries.split(chunk)]
    return torch.cat([distance for distance, _ in results]), torch.cat([index for _, index in results])


def memorisation(train: Tensor, held_out: Tensor, generated: Tensor, *, chunk: int = 2048) -> Memorisation:
    """Nearest-neighbour tests of generated against training samples, calibrated on held-out ones; shapes `(n, ...)`.

    Takes uint8 images, or features `(n, d)`. ValueError for fewer than 3 training, 2 held-out or 2 generated samples.
    """
    if len(train) < 3 or min(len(held_out), len(generated)) < 2:
        raise ValueError(
            "memorisation needs at least 3 training, 2 held-out and 2 generated samples, got "
            f"{len(train)}, {len(held_out)} and {len(generated)}"
        )
    far, far_index = nearest(train, held_out, k=2, chunk=chunk)
    near, near_index = nearest(train, generated, k=2, chunk=chunk)
    m, n = len(near), len(far)
    return Memorisation(
        c_t=mann_whitney(near[:, 0], far[:, 0]),
        c_t_copycat=-(m * n / 2) / math.sqrt(m * n * (m + n + 1) / 12),
        authentic=_authentic(train, near, near_index, chunk),
        authentic_held_out=_authentic(train, far, far_index, chunk),
        close_ratio=_close(near),
        close_ratio_held_out=_close(far),
        median_generated=near[:, 0].median().item(),
        median_held_out=far[:, 0].median().item(),
        n_train=len(train),
        n_held_out=n,
        n_generated=m,
    )


def mann_whitney(a: Tensor, b: Tensor) -> float:
    """Standardised number of pairs with a > b, ties counting one half; a `(m,)`, b `(n,)`."""
    m, n = len(a), len(b)
    a, ordered = a.contiguous(), b.sort().values
    below = torch.searchsorted(ordered, a, right=False) + torch.searchsorted(ordered, a, right=True)
    above = below.double().sum().item() / 2
    return (above - m * n / 2) / math.sqrt(m * n * (m + n + 1) / 12)  # (U - mn/2) / sqrt(mn (m + n + 1)/12)


def loss_gap(train_losses: Tensor, held_out_losses: Tensor) -> LossGap:
    """Held-out minus training denoising loss per noise level, from losses per sample `(levels, n)` and `(levels, m)`.

    Both need the same noise levels. More than about three standard errors above 0 at some level means that the network
    has memorised training data. ValueError for different numbers of levels, fewer than two samples, or losses that are
    not finite.
    """
    shapes = tuple(train_losses.shape), tuple(held_out_losses.shape)
    if (
        train_losses.ndim != 2
        or held_out_losses.ndim != 2
        or shapes[0][0] != shapes[1][0]
        or min(shapes[0][1], shapes[1][1]) < 2
    ):
        raise ValueError(f"loss_gap needs (levels, n) and (levels, m) with n, m >= 2, got {shapes[0]} and {shapes[1]}")
    a, b = train_losses.double(), held_out_losses.double()
    if not (a.isfinite().all() and b.isfinite().all()):
        raise ValueError("loss_gap got losses that are not finite: leave out the noise levels where the loss diverges")
    gap = b.mean(1) - a.mean(1)
    error = (a.var(1) / a.shape[1] + b.var(1) / b.shape[1]).sqrt()
    return LossGap(gap=gap, standard_error=error, z=gap / error.clamp(min=torch.finfo(torch.float64).tiny))


def _nearest(train: Tensor, queries: Tensor, k: int, chunk: int) -> tuple[Tensor, Tensor]:
    keep = min(k + EXTRA, len(train))
    values = torch.empty(len(queries), 0, dtype=torch.float64, device=queries.device)
    index = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
    for start, rows in zip(range(0, len(train), chunk), train.split(chunk)):
        rows = rows.double()
        part = rows.square().sum(1) - 2 * queries @ rows.T  # |q - t|^2 - |q|^2, which has the same order
        best = part.topk(min(keep, len(rows)), dim=1, largest=False)
        values, index = torch.cat([values, best.values], 1), torch.cat([index, best.indices + start], 1)
        order = values.topk(min(keep, values.shape[1]), dim=1, largest=False).indices
        values, index = values.gather(1, order), index.gather(1, order)
    exact = torch.stack([(queries - train[column].double()).square().sum(1).sqrt() for column in index.T], 1)
    exact, order = exact.sort(dim=1, stable=True)
    return exact[:, :k], index.gather(1, order)[:, :k]


def _authentic(train: Tensor, distance: Tensor, index: Tensor, chunk: int) -> float:
    """Share of samples with d(sample, nearest training sample) > d(that one, other training samples)."""
    hits, position = index[:, 0].unique(return_inverse=True)
    own, neighbour = nearest(train, train[hits], k=2, chunk=chunk)
    # skip the training sample itself, which duplicates can push to second position
    other = torch.where(neighbour[:, 0] == hits, own[:, 1], own[:, 0])
    return (distance[:, 0] > other[position]).double().mean().item()


def _close(distance: Tensor) -> float:
    return (distance[:, 0] < RATIO * distance[:, 1]).double().mean().item()
