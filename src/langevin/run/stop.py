"""Stopping a training run: the first Ctrl-C or SIGTERM ends it after the current step, a second one at once."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """Work was stopped by a signal; the message says what was saved, and how to go on.

    Args:
        signal: its number.
    """

    def __init__(self, message: str, *, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


@contextmanager
def stop_requests(say: Callable[[str], None]) -> Iterator[Callable[[], int]]:
    """A function that returns the number of the signal that has asked to stop, 0 as long as there was none.

    Signals reach the main thread only; in another thread nothing can be requested. A signal that is ignored, as in a job
    that a shell runs in the background, stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0
        return
    received = 0
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: handler for number, handler in handlers.items() if handler is not signal.SIG_IGN}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def request(number: int, frame: Any) -> None:
        nonlocal received
        received = number
        restore()
        with suppress(RuntimeError, OSError):  # the signal came while a line was being printed
            say("stopping after this step or evaluation; a second signal leaves at once")

    for number in before:
        signal.signal(number, request)
    try:
        yield lambda: received
    finally:
        restore()
