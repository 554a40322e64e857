"""Requests to the process that trains a run, as files RUN/requests/ACTION. Whoever can write in the run can make one, also
from another machine that shares the directory: `touch RUN/requests/save`."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from langevin.files import own_folder

Action = Literal["save", "sample", "stop"]  # write a checkpoint; draw a preview; save and end the training
FOLDER = "requests"
EVERY = 0.2  # seconds between two looks


def request(run: Path, action: Action) -> None:
    """Ask the process that trains a run for something, which it does after the step that it is at."""
    (own_folder(run, FOLDER) / action).touch()


@dataclass(eq=False, kw_only=True)
class Requests:
    """The requests to this process, which trains a run.

    Args:
        forget: whether those made before, to another process, are forgotten. Of several ranks the first does so.
    """

    run: Path
    forget: bool = True
    clock: Callable[[], float] = time.monotonic
    stop: bool = False
    _looked: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        if self.forget:
            self._taken()

    def take(self) -> set[Action]:
        """The requests since the last call, looked for every `EVERY` seconds; `stop` also stays, as an attribute."""
        now = self.clock()
        if now - self._looked < EVERY:
            return set()
        self._looked = now
        found = self._taken()
        self.stop = self.stop or "stop" in found
        return found

    def _taken(self) -> set[Action]:
        """The requests that are there, and could be removed: else they would be met for ever."""
        found = set[Action]()
        for action in get_args(Action):
            with suppress(OSError):
                (self.run / FOLDER / action).unlink()
                found.add(action)
        return found
