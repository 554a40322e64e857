"""Runs the plans of requests, on threads of their own, from one network request to the next."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import Any, assert_never

import torch

from langevin.diffusion.tiled import tiles_of
from langevin.modalities.modality import Draw, Predict, Request, Samples
from langevin.recipe.build import guided
from langevin.run.begin import Prefix, begin, extended, windowed
from langevin.run.generate import RunModel
from langevin.serving.suspend import Suspended, restored
from langevin.serving.ticket import Preview, Ticket
from langevin.serving.trajectory import Item, Trajectory, scoring, trajectories


@dataclass(eq=False, kw_only=True)
class Plans:
    """Advances plans, and collects what they request.

    Args:
        executor: runs them.
        wake: called when something was requested, or a plan ended.
        arrivals: what was requested, for the engine to take.
    """

    executor: Executor
    wake: Callable[[], None]
    arrivals: deque[Item] = field(default_factory=lambda: deque[Item]())

    def begin(self, ticket: Ticket) -> None:
        """Start a plan on a thread, or go on where it was suspended."""
        self.executor.submit(self._guarded, self._begun, ticket)

    def advance(self, ticket: Ticket, result: Any) -> None:
        """Send a plan the result of its last request, on a thread."""
        ticket.results.append(result)
        self.executor.submit(self._guarded, self._advance, ticket, result)

    def show(self, one: Trajectory, x: Any) -> None:
        """Decode a preview and hand it on, on a thread."""
        self.executor.submit(_show, one, x)

    def _guarded(self, function: Callable[..., None], ticket: Ticket, *arguments: Any) -> None:
        """Call a function; whatever it raises is the failure of its request alone."""
        try:
            function(ticket, *arguments)
        except Exception as error:
            ticket.end("failed", error)
            self.wake()

    def _begun(self, ticket: Ticket) -> None:
        suspended = ticket.resume
        last = None
        ticket.evaluations = 0 if suspended is None else suspended.evaluations
        for result in () if suspended is None else suspended.results:
            request = self._send(ticket, last)
            if request is None:
                return
            if isinstance(request, Draw) and request.prefix is not None and request.prefix.shape[1]:
                self._keep(
                    ticket,
                    request,
                    extended(self._model(ticket, request).built, request.prefix, self._kept(ticket, request)),
                )
            ticket.results.append(last := result)
        self._advance(ticket, last)

    def _advance(self, ticket: Ticket, result: Any) -> None:
        """Run a plan up to its next request, and queue what it requests."""
        request = self._send(ticket, result)
        if request is not None:
            self.arrivals.extend(self._items(ticket, request, ticket.resume))
            ticket.resume = None
        self.wake()

    def _send(self, ticket: Ticket, result: Any) -> Request | None:
        """The plan's next request; None if the plan ended, and the ticket with it."""
        if ticket.ended:
            return None
        try:
            return ticket.plan.send(result)
        except StopIteration as done:
            samples = replace(done.value, nfe=round(ticket.evaluations / max(1, len(done.value))))
            ticket.end("done", replace(samples, facts=ticket.facts(samples)))
        return None

    def _items(self, ticket: Ticket, request: Request, suspended: Suspended | None) -> Sequence[Item]:
        model = self._model(ticket, request)
        match request:
            case Predict():
                self._require_within(ticket, len(request.x_t))
                item = scoring(ticket, model, request)
                ticket.work = item.work
                return [item]
            case Draw():
                tiles = tiles_of(request.shape, request.tile)
                self._require_within(ticket, len(request.seeds) * request.sampling.steps * tiles)
                windowed(
                    guided(model.built, request.sampling, model.parts.denoiser), request
                )  # raises for what does not fit
                begun = begin(model.built, request, torch.arange(len(request.seeds)), self._kept(ticket, request))
                self._require_within(ticket, int(begun.state.num_calls.sum()) * tiles)  # some samplers make more
                self._keep(ticket, request, begun.prefix)
                items = trajectories(ticket, model, request, begun)
                ticket.expected += sum(item.left for item in items)
                if suspended is not None:
                    restored(items, suspended)
                ticket.work = sum(item.work for item in items)
                return items
            case _:
                assert_never(request)

    @staticmethod
    def _require_within(ticket: Ticket, more: int) -> None:
        """Raises `ValueError` if a request takes more than it may, before anything is allocated for it."""
        if ticket.most is not None and ticket.evaluations + more > ticket.most:
            wanted = ticket.evaluations + more
            raise ValueError(
                f"the request takes {wanted:,} function evaluations or more, and {ticket.most:,} are allowed"
            )

    @staticmethod
    def _model(ticket: Ticket, request: Request) -> RunModel:
        return ticket.model if request.model == "run" else ticket.model.others[request.model]

    @staticmethod
    def _kept(ticket: Ticket, request: Draw) -> Prefix | None:
        return ticket.prefixes.get(request.model)

    @staticmethod
    def _keep(ticket: Ticket, request: Draw, prefix: Prefix | None) -> None:
        if prefix is not None:
            ticket.prefixes[request.model] = prefix


def _show(one: Trajectory, x: Any) -> None:
    """Decode a preview, and hand it on; one that cannot be decoded is left out."""
    ticket, modality = one.ticket, one.model.modality
    try:
        samples = Samples(modality=modality, values=modality.decode(x))
    except ValueError:
        return
    number = ticket.shown[one.index] = ticket.shown.get(one.index, -1) + 1
    ticket.listen(Preview(index=one.index, number=number, samples=samples))
