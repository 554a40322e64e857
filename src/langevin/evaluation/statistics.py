"""Intervals: a mean over seeds by Student's t.

    mean +- t_{(1 + level)/2, n - 1} s / sqrt(n)

Evaluations use few seeds (three to ten), so the normal quantile 1.96 would be far too small: t is 4.30 for three seeds.
The quantile is found by bisection of the distribution function, which for integer degrees of freedom is a finite sum
("Handbook of Mathematical Functions", Abramowitz and Stegun, 1964, 26.7.3 and 26.7.4).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate from `n` values with its confidence interval; `low` and `high` are None for n = 1."""

    estimate: float
    low: float | None
    high: float | None
    level: float
    n: int

    @property
    def half_width(self) -> float | None:
        """Half the width of the interval; None for n = 1."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def mean_interval(values: Sequence[float], *, level: float = 0.95) -> Interval:
    """Mean of independent values, one per seed, with its t-interval; a single value has no interval."""
    _check(len(values), level, "mean_interval")
    mean = fmean(values)
    if len(values) == 1:
        return Interval(estimate=mean, low=None, high=None, level=level, n=1)
    half = student_quantile((1 + level) / 2, len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return Interval(estimate=mean, low=mean - half, high=mean + half, level=level, n=len(values))


def share_interval(count: int, n: int) -> tuple[float, float]:
    """The interval of a share of `count` in `n` >= 1 independent cases, at 95 % (Wilson's)."""
    z = 1.959964
    centre, spread = count / n + z * z / (2 * n), z * math.sqrt(count / n * (1 - count / n) / n + z * z / (4 * n * n))
    return (centre - spread) / (1 + z * z / n), (centre + spread) / (1 + z * z / n)


def student_quantile(probability: float, freedom: int) -> float:
    """The t with P(T <= t) = `probability` for integer degrees of freedom >= 1; exact to about 1e-12 relative."""
    if not 0 < probability < 1 or freedom < 1:
        raise ValueError(
            f"student_quantile needs a probability in (0, 1) and freedom >= 1, got {probability}, {freedom}"
        )
    if probability < 0.5:
        return -student_quantile(1 - probability, freedom)
    low, high = 0.0, math.pi / 2  # in theta = atan(t / sqrt(freedom)), a bounded variable
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < 2 * probability - 1 else (low, middle)
    return math.tan(low) * math.sqrt(freedom)


def _within(theta: float, freedom: int) -> float:
    """P(|T| <= t) at t = sqrt(freedom) tan(theta)."""
    odd = freedom % 2
    # odd: 2/pi (theta + sin (cos + 2/3 cos^3 + ...)), even: sin (1 + 1/2 cos^2 + 1*3/(2*4) cos^4 + ...)
    term, total = (math.cos(theta) if odd else 1.0), 0.0
    for j in range(1 + odd, freedom, 2):
        total += term
        term *= math.cos(theta) ** 2 * j / (j + 1)
    return 2 / math.pi * (theta + math.sin(theta) * total) if odd else math.sin(theta) * total


def _check(n: int, level: float, where: str) -> None:
    if n == 0 or not 0 < level < 1:
        raise ValueError(f"{where} needs at least one value and a level in (0, 1), got {n} values and level {level}")
