"""Where long work reports its progress: nowhere, on a terminal, in a notebook."""

from collections.abc import Callable
from dataclasses import dataclass

from langevin.modalities.modality import Progress as Done
from langevin.training.session import Progress as Training


@dataclass(frozen=True, kw_only=True)
class Display:
    """The functions that show messages and progress.

    Args:
        say: shows a line that stays.
        progress: the name of a task -> a function of (done, total) that shows its progress.
        training: shows the progress of a training run, after every step.
        close: ends the display of the last task.
    """

    say: Callable[[str], None] = lambda line: None
    progress: Callable[[str], Done] = lambda what: lambda done, total: None
    training: Callable[[Training], None] = lambda progress: None
    close: Callable[[], None] = lambda: None


QUIET = Display()


def duration(seconds: float) -> str:
    """4 s, 3 min 20 s, 2 h 5 min."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
