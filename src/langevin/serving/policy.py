"""Which samples take part in the next network call: scheduling policies, a typed union.

A policy is asked before every call, and chooses among the samples that are ready. All of them share the engine, so they
compare at equal cost.
"""

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from langevin.serving.cost import Cost
from langevin.serving.trajectory import Item

CostOf = Callable[[Item], Cost]


class Policy(Protocol):
    """A frozen dataclass of its own parameters."""

    @property
    def kind(self) -> str:
        """Its name in options."""
        ...

    def choose(self, ready: Sequence[Item], running: Sequence[Item], cost: CostOf, now: float) -> Sequence[Item]:
        """The items of the next call, all of one key.

        Args:
            ready: all items that may be evaluated, not empty, in the order of their arrival.
            running: those among them that took part in the last call.
            cost: that of the network calls of an item's model.
            now: the engine's time in seconds.
        """
        ...


def fill(first: Item, others: Sequence[Item], cost: CostOf) -> list[Item]:
    """`first`, then those of `others` that have its key, in their order, while there is room in the call."""
    chosen, room = [first], cost(first).batch_size(first.size) - first.inputs
    for item in others:
        if item is first or item.key != first.key:
            continue
        if item.inputs > room:
            break
        chosen.append(item)
        room -= item.inputs
    return chosen


@dataclass(frozen=True, kw_only=True)
class ShortestRemaining:
    """Samples with the least time left, in full calls, go first, less a credit for their age, and pre-empt others between
    two steps. Calls count and not inputs: samples of a call are evaluated together, so guidance makes none longer.

    Args:
        ageing: seconds left that a second of age makes up for; 0 lets long requests wait for as long as short ones come.
    """

    kind: Literal["shortest_remaining"] = "shortest_remaining"
    ageing: float = 0.05

    def choose(self, ready: Sequence[Item], running: Sequence[Item], cost: CostOf, now: float) -> Sequence[Item]:
        calls = dict[tuple[int, int], float]()  # seconds of a full call, by model and size

        def rank(item: Item) -> tuple[int, float, int]:
            ticket, kind = item.ticket, (id(item.model), item.size)
            if kind not in calls:
                own = cost(item)
                calls[kind] = own.seconds(own.batch_size(item.size) * item.size)
            left = calls[kind] * item.left
            return (-ticket.priority, left - self.ageing * (now - ticket.arrived), ticket.order)

        first = min(ready, key=rank)
        alike = [item for item in ready if item.key == first.key]
        return fill(first, heapq.nsmallest(cost(first).batch_size(first.size), alike, key=rank), cost)


@dataclass(frozen=True, kw_only=True)
class FirstInFirstOut:
    """One request at a time, in the order of arrival."""

    kind: Literal["fifo"] = "fifo"

    def choose(self, ready: Sequence[Item], running: Sequence[Item], cost: CostOf, now: float) -> Sequence[Item]:
        first = min(ready, key=lambda item: (-item.ticket.priority, item.ticket.order))
        return fill(first, [item for item in ready if item.ticket is first.ticket], cost)


@dataclass(frozen=True, kw_only=True)
class WholeRequests:
    """Requests with equal samplers, steps and guidance that wait together run together, from their first step to their
    last; the next ones start when these are done."""

    kind: Literal["whole_requests"] = "whole_requests"

    def choose(self, ready: Sequence[Item], running: Sequence[Item], cost: CostOf, now: float) -> Sequence[Item]:
        if running:
            return running
        first = min(ready, key=lambda item: (-item.ticket.priority, item.ticket.order))
        return fill(first, [item for item in ready if item.alike == first.alike and item.left == first.left], cost)


@dataclass(frozen=True, kw_only=True)
class StepBatching:
    """Requests join and leave the batch at any step, in the order of arrival and without pre-emption; one whose sampler or
    guidance is not that of the batch waits until the batch is done, and so do those behind it. This is how servers batch
    the steps of diffusion in 2026."""

    kind: Literal["step_batching"] = "step_batching"

    def choose(self, ready: Sequence[Item], running: Sequence[Item], cost: CostOf, now: float) -> Sequence[Item]:
        first = running[0] if running else min(ready, key=lambda item: (-item.ticket.priority, item.ticket.order))
        seated = {id(item) for item in running}
        waiting = [item for item in ready if id(item) not in seated]
        joining = itertools.takewhile(lambda item: item.alike == first.alike, waiting)
        return fill(first, [*running, *joining], cost)


@dataclass(frozen=True, kw_only=True)
class ContinuousBatching:
    """Requests of any sampler, guidance and number of steps join the batch at any step, in the order of arrival."""

    kind: Literal["continuous"] = "continuous"

    def choose(self, ready: Sequence[Item], running: Sequence[Item], cost: CostOf, now: float) -> Sequence[Item]:
        first = min(ready, key=lambda item: (-item.ticket.priority, item.ticket.order))
        return fill(first, ready, cost)


AnyPolicy = ShortestRemaining | FirstInFirstOut | WholeRequests | StepBatching | ContinuousBatching
