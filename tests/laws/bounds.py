"""What chance allows: bounds that a correct law breaks with probability at most `CHANCE`, from non-asymptotic theory.

The draws are seeded, so a test that holds once holds always; a failing one means a wrong law, not bad luck.
"""

import math

import torch
from torch import Tensor

CHANCE = 1e-7


def kolmogorov(sample: Tensor, cdf) -> float:
    """sup |empirical distribution function - cdf| of a sample (n,)."""
    x = sample.double().sort().values
    f, i = cdf(x), torch.arange(len(x) + 1, dtype=torch.float64) / len(x)
    return max(float((i[1:] - f).max()), float((f - i[:-1]).max()))


def kolmogorov_bound(n: int) -> float:
    """P(D > e) <= 2 exp(-2 n e^2) (Dvoretzky, Kiefer, Wolfowitz; Massart 1990)."""
    return math.sqrt(math.log(2 / CHANCE) / (2 * n))


def normal_bound(n: int, std: float = 1.0) -> float:
    """The mean of n values of standard deviation `std` strays less than this from its expectation (normal tail)."""
    return math.sqrt(2 * math.log(2 / CHANCE)) * std / math.sqrt(n)


def chi_square(counts: Tensor, p: Tensor) -> float:
    """Pearson's statistic of counts (k,) against probabilities p (k,)."""
    expected = p * counts.sum()
    return float(((counts - expected) ** 2 / expected).sum())


def chi_square_bound(freedom: int) -> float:
    """P(X > k + 2 sqrt(k y) + 2 y) <= e^-y (Laurent and Massart, 2000)."""
    y = math.log(1 / CHANCE)
    return freedom + 2 * math.sqrt(freedom * y) + 2 * y


def variation(counts: Tensor, p: Tensor) -> float:
    """Total-variation distance of frequencies from p."""
    return 0.5 * float((counts / counts.sum() - p).abs().sum())


def variation_bound(n: int, p: Tensor) -> float:
    """E TV <= sum_k sqrt(p (1 - p) / n) / 2; each draw moves it by at most 1 / n (McDiarmid)."""
    return 0.5 * float((p * (1 - p) / n).sqrt().sum()) + math.sqrt(math.log(1 / CHANCE) / (2 * n))


def slope(counts: Tensor, errors: Tensor) -> float:
    """Order of convergence: minus the least-squares slope of ln error against ln count."""
    x, y = counts.double().log(), errors.double().log()
    x = x - x.mean()
    return -float((x * (y - y.mean())).sum() / (x * x).sum())
