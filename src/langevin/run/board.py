"""What the ranks of a cluster tell the command that waits for them. Nothing here imports torch: its process starts fast."""

from typing import Any


class Board:
    """What ranks tell the command that waits for them, as an actor of the cluster; it outlives them."""

    def __init__(self) -> None:
        self.lines, self.starts = list[str](), 0
        self.progress: dict[str, Any] = {}
        self.run, self.error, self.stopped = "", "", ("", 0)

    def say(self, line: str) -> None:
        self.lines.append(line)

    def put(self, name: str, value: Any) -> None:
        """Set one of run, error, stopped, starts and progress; the first error stays."""
        if name != "error" or not self.error:
            setattr(self, name, value)

    def read(self, since: int = 0) -> dict[str, Any]:
        """All of it, with the lines from `since` on."""
        return {
            "lines": self.lines[since:], "progress": self.progress, "starts": self.starts, "run": self.run,
            "error": self.error, "stopped": self.stopped,
        }  # fmt: skip
