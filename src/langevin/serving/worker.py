"""The thread that makes steps, and what others have it do between two of them."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import torch

from langevin.diffusion.denoiser import weights_cast_once

LOG = logging.getLogger("langevin.serving")
IDLE = 0.2  # seconds between two looks at deadlines when there is nothing to do


class Worker:
    """Calls `tick` again and again, on a thread of its own once it is started.

    Args:
        tick: makes a step; False if there was nothing to do.
        failed: called with what a step raised, after which the next one follows.
    """

    def __init__(self, tick: Callable[[], bool], failed: Callable[[Exception], None]) -> None:
        self.tick, self.failed = tick, failed
        self.work = threading.Event()
        self._calls = deque[Callable[[], None]]()
        self._thread: threading.Thread | None = None
        self._running = False

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Run on a thread until `stop`."""
        self._running = True
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread after its step."""
        self._running = False
        self.work.set()
        if self._thread is not None:
            self._thread.join()
        self.make_calls()

    def between_steps(self, function: Callable[[], Any]) -> Any:
        """What a function returns that is called between two steps, by the thread if it runs."""
        found = Future[Any]()
        self._calls.append(lambda: found.set_result(function()))
        if not self.alive:
            self.make_calls()
        self.work.set()
        return found.result(timeout=60)

    def make_calls(self) -> None:
        """Make the calls that wait; for `tick`, before its step."""
        while self._calls:
            self._calls.popleft()()

    def _run(self) -> None:
        with weights_cast_once(torch.device("cpu")):  # of all devices; whoever unloads a model clears the casts
            while self._running:
                self.work.clear()
                try:
                    worked = self.tick()
                except Exception as error:  # not foreseen
                    LOG.exception("a step failed")
                    self.failed(error)
                    worked = False
                if not worked:
                    self.work.wait(IDLE)
