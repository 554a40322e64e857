"""Runs that a command names hub:OWNER/NAME: they are pulled to runs/NAME, and the command goes on with these."""

from langevin.cli.show import LiveLine
from langevin.run.hub import PREFIX
from langevin.run.hub import at_hand as pulled
from langevin.user_function import CodePermission


def at_hand(words: list[str]) -> list[str]:
    """The words of a command with the directories of the runs.

    Raises:
        ValueError: see `langevin.run.hub.at_hand`."""
    code = CodePermission.of((), allow="--allow-code" in words)
    return [str(pulled(w, code=code, say=LiveLine().say)) if w.startswith(PREFIX) else w for w in words]
