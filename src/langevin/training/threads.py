"""The number of CPU threads, chosen by measured step times.

The threads of one operation wait for each other by spinning. Two jobs that spin on the same cores waste each other's CPU
time, and a step can take fifty times as long as before. A single thread waits for no other and keeps most of its speed. So
when steps suddenly become several times slower, fewer threads are tried; later more are tried again, as the other job may
have ended. A job that starts next to a busy one sees no sudden change: it tries fewer threads if they get too little CPU
time.

The number of threads changes the order of sums, and with it the last bits of the weights (docs/training.md).
"""

import math
import statistics
from collections import deque
from dataclasses import dataclass, field

COLLAPSED = 4.0  # a step is this much slower than usual, twice in a row: fewer threads are tried
SLOW = 1.7  # the median of the last five steps is this much slower than usual: fewer threads are tried
STARVED = 0.7  # the threads got less than this fraction of the CPU time they could use: fewer threads are tried
TRIAL = 3  # steps of a trial
GAIN = 0.92  # a trial is won if its median step takes less than this fraction of the time before
FIRST_WAIT, LONGEST_WAIT = 20.0, 600.0  # seconds before the next trial
RISK = 5.0  # after a switch to fewer threads, more are not tried for at least this many of the slow steps
WORTH = 20.0  # a lost trial is not repeated before this many times its cost has passed


def counts_below(most: int) -> tuple[int, ...]:
    """The candidate counts: `most`, its half, its quarter, ..., 1."""
    return tuple(dict.fromkeys(max(1, most >> i) for i in range(most.bit_length())))


@dataclass
class _Trial:
    home: int  # index of the count to return to if the trial is lost
    before: float  # seconds per step with that count
    times: list[float] = field(default_factory=list)


class ThreadPolicy:
    """Chooses the thread count of the next step from the times of the steps so far.

    Args:
        counts: candidates in falling order; a single one is never changed.
        start: the initial count; default the largest.
    """

    def __init__(self, counts: tuple[int, ...], *, start: int | None = None) -> None:
        if not counts or min(counts) < 1 or list(counts) != sorted(set(counts), reverse=True):
            raise ValueError(f"thread counts must fall and be at least 1, got {counts}")
        self.counts = counts
        self._at = counts.index(start) if start in counts else 0
        self._usual: dict[int, float] = {}  # smallest median step time with each count
        self._recent: deque[float] = deque(maxlen=5)
        self._shares: deque[float] = deque(maxlen=2)
        self._trial: _Trial | None = None
        self._now = 0.0  # seconds spent in steps so far
        self._down_after, self._down_wait = 0.0, FIRST_WAIT
        self._up_after, self._up_wait, self._raised = FIRST_WAIT, FIRST_WAIT, -math.inf

    @property
    def count(self) -> int:
        """Number of threads for the next step."""
        return self.counts[self._at]

    @property
    def trying(self) -> bool:
        """Whether the current count is on trial."""
        return self._trial is not None

    def observe(self, seconds: float, *, cpu: float | None = None) -> int:
        """Record the time of a step with the current count; returns the count for the next step.

        Args:
            seconds: wall time of the step.
            cpu: CPU time of the whole process during it; None if unknown.
        """
        self._now += seconds
        self._recent.append(seconds)
        self._shares.append(1.0 if cpu is None else cpu / max(seconds * self.count, 1e-9))
        if self._trial is not None:
            self._judge(self._trial, seconds)
        elif len(self._recent) >= 2:
            self._consider()
        return self.count

    def _consider(self) -> None:
        last, median = list(self._recent)[-2:], statistics.median(self._recent)
        usual = self._usual.get(self.count, math.inf)
        collapsed = min(last) > COLLAPSED * usual
        slow = len(self._recent) == 5 and median > SLOW * usual
        starved = self.count not in self._usual and max(self._shares) < STARVED
        if len(self._recent) >= TRIAL:
            self._usual[self.count] = min(usual, median)
        lower, upper = self._at + 1 < len(self.counts), self._at > 0
        if lower and (collapsed or slow or starved) and self._now >= self._down_after:
            self._try(self._at + 1, before=min(last) if collapsed else median)
        elif upper and self._now >= self._up_after:
            self._try(self._at - 1, before=median)

    def _try(self, index: int, *, before: float) -> None:
        self._trial = _Trial(home=self._at, before=before)
        self._move(index)

    def _move(self, index: int) -> None:
        self._at = index
        self._recent.clear()
        self._shares.clear()

    def _judge(self, trial: _Trial, seconds: float) -> None:
        trial.times.append(seconds)
        lost = seconds > COLLAPSED * trial.before
        if not lost and len(trial.times) < TRIAL:
            return
        self._trial = None
        won = not lost and statistics.median(trial.times) < GAIN * trial.before
        (self._won if won else self._lost)(trial)

    def _won(self, trial: _Trial) -> None:
        if self._at < trial.home:
            self._raised, self._down_after, self._down_wait = self._now, self._now, FIRST_WAIT
        else:  # each relapse soon after a rise doubles the wait before the next rise
            calm = self._now - self._raised > 10 * self._up_wait
            self._up_wait = FIRST_WAIT if calm else min(2 * self._up_wait, LONGEST_WAIT)
        self._up_after = self._now + max(self._up_wait, RISK * trial.before)

    def _lost(self, trial: _Trial) -> None:
        cost = WORTH * sum(trial.times)
        if self._at < trial.home:
            self._up_wait = max(min(2 * self._up_wait, LONGEST_WAIT), cost)
            self._up_after = self._now + self._up_wait
        else:
            self._usual[self.counts[trial.home]] = trial.before  # steps are slow for another reason: the new usual
            self._down_wait = max(min(2 * self._down_wait, LONGEST_WAIT), cost)
            self._down_after = self._now + self._down_wait
        self._move(trial.home)
