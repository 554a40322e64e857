"""A ticket's events as an asynchronous stream. A slow reader holds up nobody: what it does not read in time is left out."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from fastapi.responses import StreamingResponse

from langevin.serving.ticket import Preview, Progress, Ticket

KEPT, LONGEST = 64, 1 << 20  # previews, and characters of text, that wait for a reader


@dataclass(eq=False, kw_only=True)
class Events:
    """Collects events from the engine's threads for one reader in the event loop.

    Progress replaces progress that was not read, texts are joined, and of previews the oldest are left out.
    """

    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    waiting: list[Any] = field(default_factory=list)
    some: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self, event: Any) -> None:
        """Take in an event, on any thread."""
        self.loop.call_soon_threadsafe(self._put, event)

    def _put(self, event: Any) -> None:
        if isinstance(event, Progress):
            self.waiting = [other for other in self.waiting if not isinstance(other, Progress)]
        if isinstance(event, str) and self.waiting and isinstance(self.waiting[-1], str):
            event = (self.waiting.pop() + event)[-LONGEST:]
        previews = [i for i, other in enumerate(self.waiting) if isinstance(other, Preview)]
        if len(previews) >= KEPT:
            del self.waiting[previews[0]]
        self.waiting.append(event)
        self.some.set()

    async def take(self, *, seconds: float) -> AsyncIterator[Any]:
        """The events of the next `seconds`, or less if some come earlier."""
        if not self.waiting:
            self.some.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.some.wait(), seconds)
        while self.waiting:
            yield self.waiting.pop(0)

    async def until(self, ticket: Ticket, gone: Callable[[], Any], *, idle: float = 10.0) -> AsyncIterator[Any]:
        """The events, None after `idle` seconds without any, and in the end the ticket.

        The ticket is cancelled if `gone` (async) says that the reader has left."""
        ticket.when_ended(self)
        try:
            async for event in self._all(ticket, gone, idle):
                yield event
        finally:  # the reader may have left while it was written to
            if not ticket.ended:
                ticket.cancel()

    async def _all(self, ticket: Ticket, gone: Callable[[], Any], idle: float) -> AsyncIterator[Any]:
        quiet = 0.0
        while True:
            while self.waiting:
                event = self.waiting.pop(0)
                yield event
                if event is ticket:
                    return
                quiet = 0.0
            self.some.clear()
            try:
                await asyncio.wait_for(self.some.wait(), 0.25)
            except TimeoutError:
                quiet += 0.25
                if await gone():
                    ticket.cancel()
                if quiet >= idle:
                    quiet = 0.0
                    yield None


def events(source: AsyncIterator[str]) -> StreamingResponse:
    """Server-sent events."""
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(source, media_type="text/event-stream", headers=headers)
