"""What all ranks of a run must have in common, compared before the first step."""

import hashlib
import importlib.metadata
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch

import langevin
from langevin.training.distributed import World


@cache
def code() -> str:
    """The version of this package, and a hash of its source."""
    root = Path(langevin.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(f"{file.relative_to(root).as_posix()}\0".encode())
        digest.update(file.read_bytes())
    return f"langevin {importlib.metadata.version('langevin')}, source {digest.hexdigest()[:12]}"


def require_agreement(world: World, facts: Mapping[str, str]) -> None:
    """Check that all ranks have the same code, and the same of what else is named.

    Raises:
        ValueError: on every rank: which rank has other what."""
    own = {"code": code(), "torch": torch.__version__, **facts}
    everyone = world.gathered(own)
    for name in own:
        values = [facts.get(name, "nothing") for facts in everyone]
        usual = Counter(values).most_common(1)[0][0]
        others = [rank for rank, value in enumerate(values) if value != usual]
        if others:
            ranks = f"rank {others[0]}" if len(others) == 1 else f"ranks {', '.join(map(str, others[:8]))}"
            raise ValueError(
                f"{ranks} of {world.size} {'has' if len(others) == 1 else 'have'} another {name} than the rest: "
                f"{values[others[0]]}, and not {usual}. All ranks of a run need the same code, data and recipe"
            )
