"""Webhooks: events of a training as JSON, posted to addresses of the user's, from a thread of their own.

    {"type": "training.status", "status": "started", "run": "photos", "step": 0, "time": "2026-03-01T09:00:00+00:00"}

Types are training.status (started, completed, stopped, failed with `error`), lifecycle.stage (checkpoint_save) and
evaluation (`figures`). With a secret in LANGEVIN_WEBHOOK_SECRET a header X-Langevin-Signature has the HMAC of the body, as
sha256=HEX. An event that is not taken is sent again, later each time, and then dropped; training neither waits nor fails.
"""

import hashlib
import hmac
import http.client
import json
import os
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

URLS, SECRET = "LANGEVIN_WEBHOOK", "LANGEVIN_WEBHOOK_SECRET"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
WAITING = 256  # events
TIMEOUT = 10.0  # seconds of a request
PAUSES = (1.0, 4.0, 16.0)  # seconds before an event is sent again
LAST = 15.0  # seconds that the end of a training waits for events to be sent


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def addresses(given: Sequence[str], *, insecure: bool = False) -> tuple[str, ...]:
    """The addresses of a command, and those in LANGEVIN_WEBHOOK, between which are spaces.

    Args:
        insecure: whether http to other machines is allowed, which anyone on the way can read.

    Raises:
        ValueError: one is no address of https or of this machine. The message has no more of it than its host."""
    found = tuple(dict.fromkeys([*given, *os.environ.get(URLS, "").split()]))
    for url in found:
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host = None
        if not host or parts.scheme not in ("http", "https") or any(ord(c) <= 32 or ord(c) > 126 for c in url):
            raise ValueError("--webhook is an address that begins with https://, or http://127.0.0.1 for this machine")
        if parts.username or parts.password:
            raise ValueError(f"the webhook at {host} has a password in its address: sign by {SECRET} in its place")
        if parts.scheme == "http" and host not in LOOPBACK and not insecure:
            raise ValueError(
                f"the webhook at {host} is not https, and anyone on the way could read it: --webhook-insecure"
            )
    return found


def secret_of(given: str | None) -> str:
    """The secret that signs events: one that was given, else that of LANGEVIN_WEBHOOK_SECRET; empty without one."""
    return os.environ.get(SECRET, "") if given is None else given


class Webhooks:
    """Sends events of a run to addresses. Without any it does nothing.

    Args:
        name: of the run, which every event has.
        say: told once for each address that takes no events, by its host.
        secret: as of `secret_of`.
    """

    def __init__(
        self, urls: Sequence[str], *, name: str, say: Callable[[str], None] = lambda line: None,
        pauses: Sequence[float] = PAUSES, timeout: float = TIMEOUT, secret: str | None = None,
    ) -> None:  # fmt: skip
        self.name, self.say, self.pauses, self.timeout = name, say, pauses, timeout
        self.secret = secret_of(secret).encode()
        self.queues = {url: queue.Queue[bytes | None](WAITING) for url in urls}
        self.ending, self.lost = threading.Event(), set[str]()
        self.opener = urllib.request.build_opener(_NoRedirect)
        self.threads = [
            threading.Thread(target=self._post_all, args=(url, waiting), daemon=True, name="webhook")
            for url, waiting in self.queues.items()
        ]
        for thread in self.threads:
            thread.start()

    def send(self, kind: str, **values: Any) -> None:
        """Queue an event. Where too many wait already, it is dropped."""
        event = {"type": kind, "run": self.name, "time": datetime.now(UTC).isoformat(timespec="seconds"), **values}
        for url, waiting in self.queues.items():
            try:
                waiting.put_nowait(json.dumps(event).encode())
            except queue.Full:
                self._missed(url, "too many events wait")

    def close(self, *, wait: float = LAST) -> None:
        """Wait a moment until what is queued was sent, and end the threads."""
        until = time.monotonic() + wait
        for waiting in self.queues.values():
            try:
                waiting.put(None, timeout=max(0.0, until - time.monotonic()))
            except queue.Full:
                continue
        for thread in self.threads:
            thread.join(max(0.0, until - time.monotonic()))
        self.ending.set()

    def _post_all(self, url: str, waiting: "queue.Queue[bytes | None]") -> None:
        while not self.ending.is_set() and (body := waiting.get()) is not None:
            for pause in (*self.pauses, None):
                reason, again = self._post(url, body)
                if reason is None:
                    break
                if pause is None or not again or self.ending.wait(pause):
                    self._missed(url, reason)
                    break

    def _post(self, url: str, body: bytes) -> tuple[str | None, bool]:
        """Why an event was not taken, None if it was; and whether it may be taken later."""
        headers = {"Content-Type": "application/json", "User-Agent": "langevin"}
        if self.secret:
            headers["X-Langevin-Signature"] = "sha256=" + hmac.new(self.secret, body, hashlib.sha256).hexdigest()
        request = urllib.request.Request(url, data=body, headers=headers, method="POST")
        try:
            with self.opener.open(request, timeout=self.timeout):
                return None, False
        except urllib.error.HTTPError as error:
            error.close()
            return f"it answered {error.code}", error.code in (408, 425, 429) or error.code >= 500
        except (OSError, ValueError, http.client.HTTPException) as error:
            return type(error).__name__, True

    def _missed(self, url: str, reason: str) -> None:
        if url not in self.lost:
            self.lost.add(url)
            self.say(f"the webhook at {urlsplit(url).hostname} takes no events ({reason}): training goes on")
