"""The version of run directories. Nothing here imports torch."""

import json
from pathlib import Path
from typing import Any

from langevin.files import read_regular

VERSION = 2


def read_environment(run: Path) -> dict[str, Any]:
    """The content of a run's environment.json.

    Raises:
        ValueError: it is missing or damaged, or of another version, with what to do."""
    try:
        facts = json.loads(read_regular(run / "environment.json", most=2**26))
        version = facts["version"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{run}/environment.json is missing or damaged ({type(error).__name__}: {error})") from error
    if version != VERSION:
        raise ValueError(
            f"{run} was written as version {version} of a run; this langevin reads version {VERSION}: train it again, or "
            "use the langevin that wrote it"
        )
    return facts
