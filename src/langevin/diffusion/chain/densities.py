"""Example densities for chains, given as formulas: ln p(x) (b,) at x (b, d)."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """p(x) = sum_k w_k N(x; m_k, s_k^2 I).

    Args:
        means: m_k, points of d coordinates.
        stds, weights: s_k and w_k.
    """

    means: tuple[tuple[float, ...], ...]
    stds: tuple[float, ...]
    weights: tuple[float, ...]

    def log_density(self, x: Tensor) -> Tensor:
        """ln p (n,) float64 at x (n, d)."""
        m, s, w = (torch.tensor(v, dtype=torch.float64) for v in (self.means, self.stds, self.weights))
        far = (x.double()[:, None] - m).square().sum(-1) / (s * s)
        return (w.log() - 0.5 * far - x.shape[1] * (s.log() + 0.5 * math.log(2 * math.pi))).logsumexp(1)


THREE_BUMPS = Mixture(means=((-1.5, 0.9), (1.4, 1.1), (0.2, -1.4)), stds=(0.3, 0.4, 0.25), weights=(0.3, 0.4, 0.3))


@dataclass(frozen=True, kw_only=True)
class Ridge:
    """p(x1, x2) = exp(-(x1 - x2)^2 / 2) / (2 pi): x1 - x2 is N(0, 1); p is constant along (1, 1) and so improper."""

    kind: Literal["ridge"] = "ridge"

    def __call__(self, x: Tensor) -> Tensor:
        return -0.5 * (x[:, 0] - x[:, 1]).square() - math.log(2 * math.pi)


@dataclass(frozen=True, kw_only=True)
class Bumps:
    """Three separate modes in the plane: a chain stays at the mode where it starts; annealing from a Gaussian finds all."""

    kind: Literal["bumps"] = "bumps"

    def __call__(self, x: Tensor) -> Tensor:
        return THREE_BUMPS.log_density(x)


AnyDensity = Ridge | Bumps
