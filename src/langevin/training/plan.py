"""The number of steps of a run, planned once, or revised while it trains.

A run of `training.steps` steps has one plan. A run of `training.minutes` is planned from a calibration, and again when its
speed has changed. Each decision (after which step, how many steps in total) is part of the training state: a run that is
stopped and resumed follows the decisions made before it stopped.

The run's progress p rises from 0 to 1 and is linear in the step between two decisions:

    p(step) = p_j + (1 - p_j) (step - step_j) / (total_j - step_j)   after decision j, p_j = p(step_j) of the one before

It does not jump at a decision, and neither do the learning rate, evaluations and snapshots, which follow p. The EMAs of
the weights are weighted by steps and not by p: their lengths are fractions of the steps that were made.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

RESERVE = 0.93  # fraction of a time budget for steps; the rest is for previews, evaluations and checkpoints
LATE, EARLY = 0.05, 0.10  # fractions of the budget: a run expected to end this much late or early is planned again
RECENT = 15  # number of last steps whose mean time is the current speed
FEWEST = 5  # step times from which a speed is computed
OUTLIER = 10.0  # a step time counts as at most this multiple of their median
CHECKS = 100  # a plan is checked after every hundredth of its steps


@dataclass(frozen=True, kw_only=True)
class StepPlan:
    """The decisions on a run's number of steps.

    Args:
        decisions: pairs (step of the decision, steps of the whole run), oldest first; the first one at step 0.
    """

    decisions: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        steps = [step for step, _ in self.decisions]
        if steps[:1] != [0] or steps != sorted(steps) or any(total <= step for step, total in self.decisions):
            raise ValueError(
                f"decisions on a run's steps must start at 0, rise, and each leave a step to make, got {self.decisions}"
            )

    @classmethod
    def of(cls, total: int) -> "StepPlan":
        """A run of `total` steps."""
        return cls(decisions=((0, total),))

    @property
    def total(self) -> int:
        """Steps of the whole run, as last decided."""
        return self.decisions[-1][1]

    @cached_property
    def _starts(self) -> tuple[Fraction, ...]:
        """p_j for each decision."""
        starts = [Fraction(0)]
        for (step, total), (later, _) in zip(self.decisions, self.decisions[1:]):
            starts.append(starts[-1] + (1 - starts[-1]) * Fraction(later - step, total - step))
        return tuple(starts)

    def progress(self, step: int) -> Fraction:
        """p in [0, 1] after `step` steps, exact; `step` must not precede the last decision."""
        since, total = self.decisions[-1]
        start = self._starts[-1]
        return start + (1 - start) * Fraction(step - since, total - since)

    def position(self, step: int) -> float:
        """p times the total, at which the learning rate is read; the step itself if there was one decision."""
        return float(self.progress(step) * self.total)

    def steps_at(self, count: int) -> set[int]:
        """The steps at which p first reaches 1 / count, 2 / count, ..., 1, by the decisions so far."""
        steps: set[int] = set()
        ends = (*self._starts[1:], Fraction(1))
        for (since, total), start, end in zip(self.decisions, self._starts, ends, strict=True):
            for i in range(math.floor(start * count) + 1, math.floor(end * count) + 1):
                steps.add(since + math.ceil((total - since) * (Fraction(i, count) - start) / (1 - start)))
        return steps

    def to_check(self, step: int) -> bool:
        """Whether the plan is checked after `step` steps; a function of the decisions alone."""
        since, total = self.decisions[-1]
        return step > since and (step - since) % max(1, (total - since) // CHECKS) == 0

    def decided(self, step: int, total: int) -> "StepPlan":
        """The plan with one more decision."""
        return StepPlan(decisions=(*self.decisions, (step, total)))


def pace(recent: Sequence[float]) -> float:
    """Seconds per step: the mean of the last step times, with outliers clipped."""
    longest = OUTLIER * statistics.median(recent)
    return max(statistics.fmean(min(seconds, longest) for seconds in recent), 1e-9)


def steps_within(seconds: float, each: float) -> int:
    """How many steps of `each` seconds fit into a budget of `seconds`; at least 1."""
    return max(1, int(RESERVE * seconds / each))


def replanned(plan: StepPlan, *, step: int, budget: float, elapsed: float, recent: Sequence[float]) -> StepPlan | None:
    """A new plan after `step` steps, or None if the current one keeps the budget.

    Args:
        budget: seconds for the whole run.
        elapsed: seconds since the run began, in and between steps.
        recent: seconds of each of the last steps.
    """
    if len(recent) < FEWEST or step >= plan.total:
        return None
    each = pace(recent)
    end = elapsed + (plan.total - step) * each / RESERVE
    if -EARLY * budget <= end - budget <= LATE * budget:
        return None
    total = step + steps_within(max(0.0, budget - elapsed), each)
    return None if total == plan.total else plan.decided(step, total)
