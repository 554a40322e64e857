"""The time of a network call as a + b n, for n = inputs times positions, fitted to the calls as they are made."""

from dataclasses import dataclass, field
from typing import Any

FORGET = 0.98  # weight of a call relative to the next one: about 50 calls count


@dataclass(kw_only=True)
class Cost:
    """A least-squares fit in which old calls fade.

    Args:
        overhead: the share of a call that may be spent on a, from which the size of batches follows.
        most: inputs per call at most.
    """

    overhead: float = 0.15
    most: int = 32
    sums: list[float] = field(default_factory=lambda: [0.0] * 5)  # of 1, n, n^2, seconds, n seconds

    def observe(self, n: int, seconds: float) -> None:
        """Take in a call of n inputs times positions."""
        new = (1.0, float(n), float(n) * n, seconds, n * seconds)
        self.sums = [FORGET * old + value for old, value in zip(self.sums, new, strict=True)]

    def fit(self) -> tuple[float, float]:
        """(a, b), neither negative; (0, mean) as long as all calls had one size."""
        one, n, nn, s, ns = self.sums
        if not one:
            return 0.0, 0.0
        spread = nn - n * n / one
        if spread <= 1e-9 * nn:
            return 0.0, s / n
        b = max((ns - n * s / one) / spread, 0.0)
        a = (s - b * n) / one
        return (a, b) if a > 0 else (0.0, s / n)

    def seconds(self, n: int) -> float:
        """The expected time of a call of n inputs times positions."""
        a, b = self.fit()
        return a + b * n

    def batch_size(self, size: int) -> int:
        """How many inputs of `size` positions to put into a call: as few as keep a within its share of the call."""
        a, b = self.fit()
        if not self.sums[0] or (a == 0 and b > 0 and self.sums[2] * self.sums[0] <= self.sums[1] ** 2 * (1 + 1e-9)):
            return self.most  # nothing is known yet, or only calls of one size were seen
        if b == 0:
            return self.most
        wanted = a * (1 - self.overhead) / (self.overhead * b * size)
        return max(1, min(self.most, round(wanted)))

    def remaining(self, work: int, size: int) -> float:
        """The expected seconds of `work` inputs times positions in full calls of inputs of `size` positions."""
        full = self.batch_size(size) * size
        return work / full * self.seconds(full)


@dataclass(eq=False, kw_only=True)
class Costs:
    """The costs of the network calls of several models."""

    max_batch: int
    by_model: dict[int, Cost] = field(default_factory=dict)

    def of(self, item: Any) -> Cost:
        """That of an item's model."""
        return self.by_model.setdefault(id(item.model.built), Cost(most=self.max_batch))

    def remaining(self, item: Any) -> float:
        """The expected seconds of an item's work."""
        return self.of(item).remaining(item.work, item.size)
