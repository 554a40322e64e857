"""What every request passes, as plain ASGI, which does not hide that a client has left: ids, keys, size, measure, log."""

import json
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from langevin.server import errors
from langevin.server.errors import Refused
from langevin.server.keys import CLIENT, Keys
from langevin.server.metrics import Measures

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
LOG = logging.getLogger("langevin.access")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
PROBES = ("/healthz", "/readyz")
OPEN = (*PROBES, "/")  # paths that need no key, as the files of the page
ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Lets requests through to an app.

    Args:
        body: bytes that a request may have.
    """

    app: App
    keys: Keys
    measures: Measures
    body: int

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        given = headers.get("x-request-id", "")
        state = _State(id=given if ID.fullmatch(given) else f"req_{uuid.uuid4().hex}", begun=time.perf_counter())

        async def sending(message: Message) -> None:
            if state.refused is not None and not state.status:  # the app's own words for a body that broke off
                return
            if message["type"] == "http.response.start":
                state.status = message["status"]
                extra = [(b"x-request-id", state.id.encode()), (b"x-content-type-options", b"nosniff")]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        try:
            if scope["path"] not in OPEN and not scope["path"].startswith("/page/"):
                self._require_own(headers)
                state.key = scope[CLIENT] = self.keys.admit(headers.get("authorization"))
            length = headers.get("content-length", "0")
            if not length.isdigit() or int(length) > self.body:
                raise too_large(self.body)
            await self.app(scope, self._limited(receive, state), sending)
            if state.refused is not None and not state.status:
                raise state.refused
        except Refused as error:
            if state.status:
                raise
            state.refused = None
            answer = errors.response(
                error.message, status=error.status, code=error.code, param=error.param, headers=error.headers
            )  # fmt: skip
            await answer(scope, receive, sending)  # type: ignore[arg-type]
        finally:
            self._note(scope, state)

    def _require_own(self, headers: dict[str, str]) -> None:
        """Without keys, refuse what a page of another site sends, be it by a name that it lets point to this machine."""
        if self.keys.digests:
            return
        host, origin = headers.get("host", ""), headers.get("origin")
        name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
        if name.strip("[]") not in LOOPBACK or (origin is not None and origin.partition("://")[2] != host):
            raise Refused(
                "this server answers its own machine only; for others it needs --keys", status=403, code="not_own"
            )

    def _limited(self, receive: Receive, state: "_State") -> Receive:
        """Counts the body as it comes in, whatever the length that was announced."""
        taken = 0

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self.body:
                state.refused = too_large(self.body)
                raise state.refused
            return message

        return limited

    def _note(self, scope: Message, state: "_State") -> None:
        seconds, route = time.perf_counter() - state.begun, getattr(scope.get("route"), "path", "other")
        self.measures.requests.labels(route, str(state.status or 499)).inc()
        self.measures.seconds.labels(route).observe(seconds)
        if scope["path"] not in PROBES:
            line = {"id": state.id, "method": scope["method"], "path": scope["path"], "status": state.status or 499,
                    "seconds": round(seconds, 4), "key": state.key}  # fmt: skip
            LOG.info(json.dumps(line))


@dataclass(kw_only=True)
class _State:
    id: str
    begun: float
    status: int = 0
    refused: Refused | None = None
    key: str = ""


def too_large(most: int) -> Refused:
    """The error of a body that is too large."""
    return Refused(f"a request has at most {most:,} bytes", status=413, code="too_large")
