"""A training run over time: its loss, its best, and whether it has risen for good; faults, and whether one lasts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

SMOOTHING = 0.02  # weight of a step in the exponential moving average: about 50 steps
FACTOR = 10.0  # how many times the loss that training started from counts as a rise
MOST = 0.9  # share of a batch's samples that have to be in a fault
FEWEST = 100  # steps that a fault lasts, at least: at the beginning of a run some are got over in a few dozen


@dataclass
class LossTrend:
    """The trend of a loss, a function of the losses alone, so that a resumed run has the same.

    Args:
        smooth: exponential moving average over about 50 steps; nan before the first step.
        best: the least `smooth` so far.
        scale: absolute value of the first loss.
        high: steps that the loss has been far above its best, less twice the steps since.
    """

    smooth: float = math.nan
    best: float = math.nan
    scale: float = math.nan
    high: int = 0

    def add(self, loss: float) -> None:
        """Take in the loss of a step; one that is not finite changes nothing."""
        if not math.isfinite(loss):
            return
        if math.isnan(self.smooth):
            self.smooth, self.best, self.scale = loss, loss, abs(loss)
        self.high = self.high + 1 if loss > self._limit else max(0, self.high - 2)
        self.smooth += SMOOTHING * (loss - self.smooth)
        self.best = min(self.best, self.smooth)

    @property
    def is_far(self) -> bool:
        """Whether the smoothed loss is far above its best."""
        return self.smooth > self._limit

    @property
    def _limit(self) -> float:
        return self.best + FACTOR * max(self.scale, abs(self.best))

    def has_risen(self, steps: int) -> bool:
        """Whether the loss has stayed far above its best for a twentieth of a run of `steps`, 10 to 100 steps."""
        return self.high >= max(10, min(100, steps // 20))

    def to_json(self) -> list[float | None]:
        return [None if math.isnan(value) else value for value in (self.smooth, self.best, self.scale, self.high)]

    @classmethod
    def from_json(cls, values: Sequence[float | None]) -> "LossTrend":
        smooth, best, scale, high = (math.nan if value is None else value for value in values)
        return cls(smooth=smooth, best=best, scale=scale, high=int(high))


@dataclass
class Faults:
    """For how long the faults that a method reports have lasted (`Report.faults`), a function of its reports alone.

    Args:
        high: by fault, the steps in which it held for most of the batch, less twice the steps since.
    """

    high: dict[str, int] = field(default_factory=dict)

    def add(self, shares: Mapping[str, float]) -> None:
        """Take in the shares of a step's samples that are in each fault; others are left as they are."""
        for fault, share in shares.items():
            high = self.high.get(fault, 0)
            self.high[fault] = high + 1 if share >= MOST else max(0, high - 2)

    def lasting(self, steps: int) -> str | None:
        """The fault that has lasted for a tenth of a run of `steps`, at least `FEWEST` steps; None if there is none."""
        return next((fault for fault, high in self.high.items() if high >= max(FEWEST, steps // 10)), None)
