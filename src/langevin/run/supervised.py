"""A rank that a supervisor has started (`run/ranks.py`): what it tells it, and what it keeps from its own processes."""

import json
import os
from pathlib import Path

FOLDER = "LANGEVIN_RANKS"  # of what ranks tell their supervisor
OF_A_RANK = ("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE",
             "ROLE_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", FOLDER)  # fmt: skip
BROKEN = ("gloo/transport", "closed by peer", "reset by peer", "ncclRemoteError")  # in messages of transfers


def environment() -> dict[str, str]:
    """Environment of a process that a rank starts, and that is none itself."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in OF_A_RANK and not name.startswith("TORCHELASTIC_")
    }


def broken_by_another(error: Exception) -> bool:
    """Whether an error is a transfer that broke because another rank has ended."""
    return isinstance(error, RuntimeError) and any(words in str(error) for words in BROKEN)


def note_run(path: Path) -> None:
    """Tell the supervisor, if there is one, which run is trained."""
    if folder := os.environ.get(FOLDER):
        (Path(folder) / "run").write_text(str(path.absolute()))


def note_error(error: Exception, message: str | None) -> None:
    """Tell the supervisor, if there is one, what a rank ends with; `message` is None for an error that was not foreseen."""
    if folder := os.environ.get(FOLDER):
        text = message or f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
        said = {"foreseen": message is not None, "message": text, "broken": broken_by_another(error)}
        (Path(folder) / f"end-{os.environ.get('RANK', '0')}.json").write_text(json.dumps(said))
