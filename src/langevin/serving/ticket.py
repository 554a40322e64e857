"""The state of a request, from `Engine.submit` to its result, as its owner sees it."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from langevin.diffusion.sampler import State
from langevin.diffusion.shape import tree_map
from langevin.modalities.modality import Plan, Samples
from langevin.run.begin import Prefix
from langevin.run.generate import RunModel

Status = Literal["queued", "running", "done", "failed", "cancelled"]


class Cancelled(Exception):
    """The request was cancelled."""


class DeadlineExceeded(Exception):
    """The request's deadline passed before it was done."""


class QueueFull(Exception):
    """The engine takes no more requests now.

    Args:
        retry_after: seconds after which there may be room.
    """

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Function evaluations made so far, and in all as far as they are known, summed over the samples."""

    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Preview:
    """A sample on its way: the denoiser's estimate of the clean data, decoded.

    Args:
        index: of the sample among those of the current draw.
        number: of the preview, from 0.
    """

    index: int
    number: int
    samples: Samples


Event = Progress | Preview


@dataclass(eq=False, kw_only=True)
class Ticket:
    """A submitted request.

    Args:
        id: names it.
        plan: yields its requests; only the engine advances it.
        model: that draws, unless a request names another.
        order: its place in the order of arrival.
        arrived: the engine's time of its arrival, in seconds.
        priority: requests of a higher one go first.
        deadline: the engine's time after which it fails; None for none.
        reproducible: whether its bytes must not depend on what else is served.
        previews: previews wanted of each sample.
        facts: of finished samples, what they were made from, for their files.
        listen: called with each event, from the engine's threads; it must return at once.
    """

    id: str
    plan: Plan
    model: RunModel
    order: int
    arrived: float
    priority: int = 0
    deadline: float | None = None
    reproducible: bool = False
    previews: int = 0
    facts: Callable[[Samples], Mapping[str, Any]] = lambda samples: {}
    listen: Callable[[Event], None] = lambda event: None
    status: Status = "queued"
    paused: bool = False
    evaluations: int = 0  # made, summed over samples
    expected: int = 0  # of the draws so far, summed over samples
    work: int = 0  # inputs times positions left of the current request
    results: list[Any] = field(default_factory=list)  # of the plan's requests so far
    drawn: dict[int, State] = field(default_factory=dict)  # finished samples of the current draw, by index
    prefixes: dict[str, Prefix] = field(default_factory=dict)  # by model
    shown: dict[int, int] = field(default_factory=dict)  # previews so far, by sample
    wake: Callable[[], None] = lambda: None
    weights: str = ""  # names those that it is made by
    most: int | None = None  # function evaluations that it may take
    resume: Any = None  # what was made of it before, until it is taken up
    decide: Any = None  # what its owner asks before the samples are given out
    _result: "Future[Samples]" = field(default_factory=lambda: Future[Samples]())
    _lock: Any = field(default_factory=threading.Lock)

    @property
    def ended(self) -> bool:
        """Whether it is done, failed or cancelled."""
        return self.status in ("done", "failed", "cancelled")

    @property
    def error(self) -> BaseException | None:
        """Why it failed; None if it did not, or has not ended."""
        return self._result.exception() if self._result.done() else None

    def result(self, timeout: float | None = None) -> Samples:
        """Wait for the samples.

        Raises:
            Cancelled, DeadlineExceeded: it ended without.
            TimeoutError: it has not ended after `timeout` seconds.
            ValueError: the request cannot be fulfilled, or the model's output was not finite."""
        return self._result.result(timeout)

    def when_ended(self, function: Callable[["Ticket"], object]) -> None:
        """Call a function when it has ended, from one of the engine's threads, or now."""
        self._result.add_done_callback(lambda _: function(self))

    def cancel(self) -> None:
        """End it: no further step of it begins."""
        self.end("cancelled", Cancelled(f"request {self.id} was cancelled"))

    def pause(self) -> None:
        """Make no further step until `unpause`."""
        self.paused = True

    def unpause(self) -> None:
        """Go on after `pause`."""
        self.paused = False
        self.wake()

    def end(self, status: Status, outcome: Samples | BaseException) -> None:
        """Set the result, unless it has ended."""
        with self._lock:
            if self.ended:
                return
            self.status = status
        if isinstance(outcome, BaseException):
            self._result.set_exception(outcome)
        else:
            self._result.set_result(outcome)
        self.wake()

    def collect(self) -> Any:
        """The finished samples of the current draw in their order, (b, ...)."""
        drawn, self.drawn = self.drawn, {}
        states = [drawn[i] for i in range(len(drawn))]
        return tree_map(lambda *parts: torch.cat(parts).cpu(), states[0].x, *(state.x for state in states[1:]))

    def evaluated(self, positions: int, count: int = 1) -> None:
        """Note function evaluations, of so many inputs times positions."""
        self.status = "running" if self.status == "queued" else self.status
        self.evaluations += count
        self.work -= positions
