"""The influence of examples on a function of trained weights, by gradients.

Weights theta are the least of sum_i L_i(theta). Left out example i, they move by H^-1 grad L_i to first order, with H the
Hessian of the sum, and a function f of them changes by

    f(theta without i) - f(theta) = grad f^T H^-1 grad L_i

H is approximated by sum_j r_j r_j^T + lambda, whose rows r_j are gradients: of the losses themselves (the empirical Fisher
matrix), or of losses whose targets are drawn from the model (the Gauss-Newton matrix, which for a linear model and squared
errors is H). All gradients are projected to `size` numbers: the inner products of projected gradients are, in expectation,
those of the gradients, and their variance falls as 1 / size.

"TRAK: Attributing Model Behavior at Scale" (2023, arXiv 2303.14186); "Influence Functions for Scalable Data Attribution in
Diffusion Models" (2024, arXiv 2410.13850); "Feature Hashing for Large Scale Multitask Learning" (2009, arXiv 0902.2206).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


class CountSketch:
    """A random projection of vectors: every number is added to one of `size` others, chosen at random, with a random sign.

    It takes a time in proportion to the vector's length, whatever the size.

    Args:
        length: of the vectors.
        size: of the results; None is no projection.
        seed: of the choice.

    Raises:
        ValueError: a length or a size below 1."""

    def __init__(self, *, length: int, size: int | None, seed: int = 0) -> None:
        if length < 1 or (size is not None and size < 1):
            raise ValueError(f"a projection is of at least one number to at least one, got {length} and {size}")
        self.length, self.size = length, length if size is None else size
        self._at = self._sign = None
        if size is not None:
            generator = torch.Generator().manual_seed(seed)
            self._at = torch.randint(size, (length,), generator=generator)
            self._sign = torch.randint(2, (length,), generator=generator).mul_(2).sub_(1).float()

    def __call__(self, vector: Tensor) -> Tensor:
        """The projection of a vector (length,), (size,) on the CPU."""
        vector = vector.cpu()
        if self._at is None or self._sign is None:
            return vector.clone()
        return vector.new_zeros(self.size).index_add_(0, self._at, vector * self._sign.to(vector))


@dataclass(frozen=True, kw_only=True, eq=False)
class Curvature:
    """R^T R + lambda, with lambda a share of the mean square of what R^T R stretches.

    Args:
        root: R (m, k), a row for each gradient.
        damping: lambda over trace(R^T R) / min(m, k); at least 0, and positive where m < k.

    Raises:
        ValueError: another damping, or rows that are not finite."""

    root: Tensor
    damping: float

    def __post_init__(self) -> None:
        m, k = self.root.shape
        if not 0 <= self.damping < math.inf or (self.damping == 0 and m < k):
            raise ValueError(
                f"damping is at least 0, and positive with fewer rows than columns, got {self.damping} with {m} rows of {k}"
            )
        if not bool(self.root.isfinite().all()):
            raise ValueError("gradients are not finite: the weights are damaged, train the run again")

    @property
    def lam(self) -> float:
        return self.damping * float(self.root.double().square().sum()) / min(self.root.shape)

    def solve(self, gradients: Tensor) -> Tensor:
        """(R^T R + lambda)^-1 of gradients (b, k), float64, by the smaller of two systems of equations."""
        r, g, lam = self.root.double(), gradients.double(), self.lam
        m, k = r.shape
        if m >= k:
            return torch.linalg.solve(r.T @ r + lam * torch.eye(k, dtype=r.dtype), g.T).T
        # (R^T R + lambda)^-1 = (1 - R^T (R R^T + lambda)^-1 R) / lambda
        inner = torch.linalg.solve(r @ r.T + lam * torch.eye(m, dtype=r.dtype), r @ g.T)
        return (g - (r.T @ inner).T) / lam


def influence(functions: Tensor, examples: Tensor, curvature: Curvature) -> Tensor:
    """How much functions (b, k) grow if each of n examples (n, k) is left out, (b, n) float64, to first order.

    Args:
        functions, examples: gradients, of the functions and of the losses."""
    return curvature.solve(functions) @ examples.double().T
