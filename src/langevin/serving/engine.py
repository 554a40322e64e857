"""The engine: batches the steps of the samples of many requests.

A request is submitted as a plan and answered by a ticket. Its samples are trajectories. Before each network call the policy
chooses which trajectories take part, so requests join, overtake, pause and leave between any two steps. Plans run on
threads of their own, so reading and decoding do not hold up the network.
"""

import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch

from langevin.modalities.modality import Plan, Samples
from langevin.run.generate import RunModel
from langevin.serving.batch import Batch, estimate
from langevin.serving.cost import Costs
from langevin.serving.plans import Plans
from langevin.serving.policy import AnyPolicy, ShortestRemaining
from langevin.serving.suspend import Suspended, suspended
from langevin.serving.ticket import DeadlineExceeded, Event, Progress, QueueFull, Ticket
from langevin.serving.trajectory import Item, Scoring, Trajectory
from langevin.serving.worker import Worker


@dataclass(eq=False, kw_only=True)
class Engine:
    """Serves requests: `start` runs it on a thread of its own, `tick` makes one step.

    Args:
        policy: chooses what is evaluated next.
        pending: requests that may be waiting or under way, at most.
        max_batch: inputs per network call, at most.
        executor: runs plans; by default two threads.
        clock: the time in seconds.
    """

    policy: AnyPolicy = field(default_factory=ShortestRemaining)
    pending: int = 256
    max_batch: int = 32
    executor: Executor = field(default_factory=lambda: ThreadPoolExecutor(2, thread_name_prefix="plan"))
    clock: Callable[[], float] = time.monotonic
    tickets: dict[str, Ticket] = field(default_factory=dict)  # those that have not ended
    items: list[Item] = field(default_factory=list)  # in the order of arrival of their requests
    ticks: int = 0  # network calls so far
    evaluations: int = 0  # so far, summed over samples

    def __post_init__(self) -> None:
        self.costs = Costs(max_batch=self.max_batch)
        self._batch: Batch | None = None
        self._chosen: Sequence[Item] = ()
        self._order = 0
        self._lock = threading.Lock()  # of the tickets; never held during a step, which a submission must not wait for
        self._worker = Worker(self.tick, self._failed)
        self._plans = Plans(executor=self.executor, wake=self._worker.work.set)
        self._accepting = True

    def submit(
        self, plan: Plan, model: RunModel, *, id: str | None = None, priority: int = 0, timeout: float | None = None,
        reproducible: bool = False, previews: int = 0, resume: Suspended | None = None, most: int | None = None,
        facts: Callable[[Samples], Mapping[str, Any]] = lambda samples: {},
        listen: Callable[[Event], None] = lambda event: None,
    ) -> Ticket:  # fmt: skip
        """Take in a request; its plan begins at once, on another thread.

        Args:
            plan: made by the modality, and not begun.
            id: must be new; default a random one.
            priority: requests of a higher one go first.
            timeout: seconds after which it fails.
            reproducible: make the same bytes whatever else is served, by calls of a fixed batch size.
            previews: previews wanted of each sample.
            resume: what was made of the same request before.
            most: function evaluations that it may take, summed over samples; beyond, it fails.
            facts, listen: see `Ticket`.

        Raises:
            QueueFull: too many requests are pending, or this one could not be done in time.
            ValueError: there is a request of this id."""
        now, wait = self.clock(), self.backlog(priority)
        if timeout is not None and wait > timeout:
            message = f"{wait:.1f} s of work are waiting, and the request allows {timeout:g} s"
            raise QueueFull(message, retry_after=wait - timeout + 1)
        with self._lock:
            if not self._accepting or len(self.tickets) >= self.pending:
                raise QueueFull("the queue is full: try again later", retry_after=max(1.0, self.backlog()))
            if id in self.tickets:
                raise ValueError(f"there is a request {id} already")
            self._order += 1
            ticket = Ticket(
                id=id or uuid.uuid4().hex, plan=plan, model=model, order=self._order, arrived=now, priority=priority,
                deadline=None if timeout is None else now + timeout, reproducible=reproducible, previews=previews,
                facts=facts, listen=listen, wake=self._worker.work.set, resume=resume, most=most,
            )  # fmt: skip
            self.tickets[ticket.id] = ticket
        self._plans.begin(ticket)
        return ticket

    def backlog(self, priority: int | None = None) -> float:
        """Expected seconds of the work that is waiting, of requests of `priority` and more; of all for None.

        A plan may request more than it has so far."""
        return sum(self.costs.remaining(i) for i in self.items if priority is None or i.ticket.priority >= priority)

    def suspend(self, ticket: Ticket) -> Suspended:
        """What has been made of a request, which goes on."""

        def made() -> Suspended:
            self._unstack()
            return ticket.resume or suspended([item for item in self.items if item.ticket is ticket], ticket)

        return self._worker.between_steps(made)

    def start(self) -> "Engine":
        """Run on a thread until `stop`."""
        self._worker.start()
        return self

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._worker.alive

    def stop(self, grace: float = 0.0) -> dict[str, Suspended]:
        """Take in nothing more, and stop after `grace` seconds, or when everything is done.

        Returns:
            what was made of the requests that have not ended, by id."""
        self._accepting = False
        until = time.monotonic() + grace
        while any(not ticket.ended for ticket in list(self.tickets.values())) and time.monotonic() < until:
            time.sleep(0.02)
        self._worker.stop()
        self._take_in()
        return {name: self.suspend(ticket) for name, ticket in list(self.tickets.items()) if not ticket.ended}

    def _failed(self, error: Exception) -> None:
        """After an error that was not foreseen: those who took part fail, and the others go on."""
        self._batch = None
        for one in self._chosen:
            one.ticket.end("failed", error)

    def tick(self) -> bool:
        """Make one network call for the samples that the policy chooses; False if there are none."""
        self._worker.make_calls()
        self._take_in()
        ready = [item for item in self.items if not item.ticket.paused]
        if not ready:
            return False
        seated = self._batch.same if self._batch else frozenset[int]()
        running = [item for item in ready if id(item) in seated]
        chosen = self.policy.choose(ready, running, self.costs.of, self.clock())
        self.ticks, self._chosen = self.ticks + 1, chosen
        if isinstance(chosen[0], Scoring):
            self._score(chosen[0])
        else:
            self._step([item for item in chosen if isinstance(item, Trajectory)])
        return True

    def _take_in(self) -> None:
        """Add what arrived, and drop what ended or is too late."""
        now, arrivals = self.clock(), self._plans.arrivals
        for ticket in list(self.tickets.values()):
            if ticket.deadline is not None and now > ticket.deadline:
                ticket.end("failed", DeadlineExceeded(f"request {ticket.id} was not done in its time"))
            if ticket.ended:
                self.tickets.pop(ticket.id, None)
        arrived = [arrivals.popleft() for _ in range(len(arrivals))]
        if arrived or any(item.ticket.ended for item in self.items):
            self.items = sorted(
                (item for item in (*self.items, *arrived) if not item.ticket.ended), key=lambda item: item.ticket.order
            )
        for item in [item for item in self.items if isinstance(item, Trajectory) and item.left <= 0]:
            self._finish(item)

    def _step(self, chosen: list[Trajectory]) -> None:
        """One step of the chosen trajectories, in one batch."""
        begun = time.perf_counter()
        try:
            if self._batch is None or self._batch.same != frozenset(map(id, chosen)):
                self._unstack()
                self._batch = Batch(chosen)
            q = self._batch.step()
        except Exception as error:
            self._step_apart(chosen, error)
            return
        batch = self._batch
        self.costs.of(chosen[0]).observe(batch.positions, time.perf_counter() - begun)
        sound = batch.finite(q)
        for i, one in enumerate(batch.members):
            one.ticket.evaluated(one.inputs * one.size)
            self.evaluations += 1
            if not sound[i]:
                one.ticket.end("failed", ValueError("the model's output is not finite, as of a run that diverged"))
            elif one.left in one.previews:
                self._plans.show(one, estimate(one.model, batch.state_of(one), q.select(slice(i, i + 1))))
        for ticket in dict.fromkeys(one.ticket for one in batch.members):
            ticket.listen(Progress(done=ticket.evaluations, total=ticket.expected))
        if any(one.left <= 0 or one.ticket.ended for one in batch.members):
            self._unstack()
            for one in batch.members:
                if one.left <= 0:
                    self._finish(one)

    def _unstack(self) -> None:
        if self._batch is not None:
            self._batch.unstack()
            self._batch = None

    def _step_apart(self, chosen: list[Trajectory], error: Exception) -> None:
        """After an error: step each request alone, and fail the one that raises."""
        self._batch = None
        owners = list(dict.fromkeys(one.ticket for one in chosen))
        if len(owners) == 1:
            owners[0].end("failed", error)
            return
        for owner in owners:
            self._step([one for one in chosen if one.ticket is owner])

    def _finish(self, one: Trajectory) -> None:
        """Take a finished sample out, and go on with its plan if it was the last."""
        self.items = [item for item in self.items if item is not one]
        if not one.ticket.ended:
            one.ticket.drawn[one.index] = one.state
            if len(one.ticket.drawn) == len(one.request.seeds):
                self._plans.advance(one.ticket, one.ticket.collect())

    def _score(self, item: Scoring) -> None:
        """Evaluate some inputs of a `Predict` request."""
        begun = time.perf_counter()
        try:
            count = item.evaluate(self.costs.of(item).batch_size(item.size))
        except Exception as error:
            item.ticket.end("failed", error)
            return
        self.costs.of(item).observe(count * item.size, time.perf_counter() - begun)
        item.ticket.evaluated(count * item.size, count)
        self.evaluations += count
        if not item.inputs:
            self.items = [other for other in self.items if other is not item]
            self._plans.advance(item.ticket, torch.cat(item.parts))
