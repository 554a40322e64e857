"""Talking to a terminal: one live line, plain lines where there is none."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from langevin.training.session import Progress


def duration(seconds: float) -> str:
    """4 s, 3 min 20 s, 2 h 5 min."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class LiveLine:
    """One line that is rewritten on a terminal; elsewhere a plain line every `quiet` seconds."""

    def __init__(self, *, quiet: float = 30.0) -> None:
        self.terminal, self.quiet = sys.stderr.isatty(), quiet
        self.shown, self.width = 0.0, 0

    def update(self, text: str, *, last: bool = False) -> None:
        now = time.monotonic()
        if not last and now - self.shown < (0.2 if self.terminal else self.quiet):
            return
        self.shown = now
        if self.terminal:
            print("\r" + text.ljust(self.width), end="", file=sys.stderr, flush=True)
            self.width = len(text)
        else:
            print(text, file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """A line that stays."""
        if self.terminal and self.width:
            print("\r" + " " * self.width + "\r", end="", file=sys.stderr)
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.terminal and self.width:
            print(file=sys.stderr)
            self.width = 0

    def training(self, progress: Progress) -> None:
        """The line of a training run."""
        skipped = f", {progress.skipped} skipped" if progress.skipped else ""
        self.update(
            f"step {progress.step}/{progress.total}  loss {progress.loss:.4f}  "
            f"{progress.images_per_second:.0f} samples/s  {duration(progress.seconds_left)} left{skipped}",
            last=progress.step == progress.total,
        )


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """A function (done, total) that shows progress in one line."""
    line = LiveLine(quiet=15.0)
    line.shown = time.monotonic() - (0 if not line.terminal else 1)

    def show(done: int, total: int) -> None:
        line.update(f"{what} {done}/{total}")

    try:
        yield show
    finally:
        line.close()
