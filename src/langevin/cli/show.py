"""Progress on standard error: one live line on a terminal, occasional plain lines elsewhere."""

import sys
import time
from collections.abc import Callable

from langevin.run.display import Display, duration
from langevin.training.session import Progress


class LiveLine:
    """A line that is rewritten in place on a terminal; elsewhere a plain line every `quiet` seconds."""

    def __init__(self, *, quiet: float = 30.0) -> None:
        self.terminal, self.quiet = sys.stderr.isatty(), quiet
        self.shown, self.width = 0.0, 0

    def update(self, text: str, *, last: bool = False) -> None:
        """Show `text` in place of the last one, unless that is too recent; `last` shows it in any case."""
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
        """Print a line that stays."""
        if self.terminal and self.width:
            print("\r" + " " * self.width + "\r", end="", file=sys.stderr)
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """End the live line, so that it stays."""
        if self.terminal and self.width:
            print(file=sys.stderr)
            self.width = 0

    def training(self, progress: Progress) -> None:
        """Show the progress of a training run."""
        skipped = f", {progress.skipped} skipped" if progress.skipped else ""
        self.update(
            f"step {progress.step}/{progress.total}  loss {progress.loss:.4f}  "
            f"{progress.samples_per_second:.0f} samples/s  {duration(progress.seconds_left)} left{skipped}",
            last=progress.step == progress.total,
        )

    def display(self) -> Display:
        """This line as the `Display` of long work."""
        return Display(say=self.say, progress=self.progress, training=self.training, close=self.close)

    def progress(self, what: str) -> Callable[[int, int], None]:
        """A function that shows (done, total) of `what`; off a terminal the first line waits, as most work is short."""
        self.close()
        self.shown = time.monotonic() - (0 if not self.terminal else 1)
        return lambda done, total: self.update(f"{what} {done}/{total}")
