"""What is shown: progress on standard error, one live line on a terminal, else occasional plain lines; and results.

No control character reaches a terminal: names, captions and texts come from files and recipes of anyone.
"""

import io
import os
import sys
import time
import unicodedata
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langevin.run.display import Display
    from langevin.training.session import Progress

BIDI = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}  # characters that reorder those around them


def printable(text: str) -> str:
    r"""The text with control characters, and those that reorder others, as escapes (\x1b); \n and \t are kept."""
    if text.isprintable():
        return text
    return "".join(
        c.encode("unicode_escape").decode()
        if c not in "\n\t" and (unicodedata.category(c) in ("Cc", "Cs") or ord(c) in BIDI)
        else c
        for c in text.replace("\r\n", "\n")
    )


def output(text: str) -> None:
    """Print a line of a report to standard output."""
    print(printable(text))


COLOURS = {"-": "31", "+": "32", "@": "36"}  # by the first character of a line of a diff


def write(text: str, *, diff: bool = False) -> None:
    """Write generated text to standard output: to a terminal as `printable`, a diff in colours; elsewhere unchanged."""
    if sys.stdout.isatty():
        text = printable(text)
        if diff and "NO_COLOR" not in os.environ:
            lines = ((line, COLOURS.get(line[:1])) for line in text.split("\n"))
            text = "\n".join(f"\x1b[{c}m{line}\x1b[0m" if c else line for line, c in lines)
    sys.stdout.write(text)
    sys.stdout.flush()


class _Closed(io.TextIOBase):
    """Stands for a standard output that was closed."""

    def write(self, text: str) -> int:
        raise ValueError("standard output is closed, so nothing can be printed: open it, or give --out")


def prepare_streams() -> None:
    """Make the standard streams usable: closed ones, and those that cannot encode every character.

    Their descriptors are taken, so that no file of a run is opened as standard output, where libraries print."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    if sys.stdin is None:
        sys.stdin = io.StringIO()
    if sys.stdout is None:
        sys.stdout = _Closed()
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")


def finish_output() -> None:
    """Write out what standard output still holds, so that a failure is an error and not noise when Python ends.

    Raises:
        BrokenPipeError: its reader has closed it.
        ValueError: it cannot be written, such as on a full disk."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        raise ValueError(f"standard output could not be written: {error.strerror or error}") from error


class LiveLine:
    """A line that is rewritten in place on a terminal; elsewhere a plain line every `quiet` seconds."""

    def __init__(self, *, quiet: float = 30.0) -> None:
        self.terminal, self.quiet = sys.stderr.isatty(), quiet
        self.shown, self.width = 0.0, 0

    def update(self, text: str, *, last: bool = False) -> None:
        """Show `text` in place of the last one, unless that is too recent; `last` shows it in any case."""
        text, now = printable(text), time.monotonic()
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
        print(printable(text), file=sys.stderr, flush=True)

    def close(self) -> None:
        """End the live line, so that it stays."""
        if self.terminal and self.width:
            print(file=sys.stderr)
            self.width = 0

    def training(self, progress: "Progress") -> None:
        """Show the progress of a training run; after its last step it is evaluated once more, which may take a while."""
        from langevin.run.display import duration

        last = progress.step == progress.total
        left = "trained, now evaluating" if last else f"{duration(progress.seconds_left)} left"
        skipped = f", {progress.skipped} skipped" if progress.skipped else ""
        self.update(
            f"step {progress.step}/{progress.total}  loss {progress.loss:.4f}  "
            f"{progress.samples_per_second:.0f} samples/s  {left}{skipped}",
            last=last,
        )

    def display(self) -> "Display":
        """This line as the `Display` of long work."""
        from langevin.run.display import Display

        return Display(say=self.say, progress=self.progress, training=self.training, close=self.close)

    def progress(self, what: str) -> Callable[[int, int], None]:
        """A function that shows (done, total) of `what`; off a terminal the first line waits, as most work is short."""
        self.close()
        self.shown = time.monotonic() - (0 if not self.terminal else 1)
        return lambda done, total: self.update(f"{what} {done}/{total}")
