"""References of a run to other runs: the autoencoder whose latents it draws, its vocoder, its teacher.

A recipe names such a run by its path and by the hash of its weights. Runs may be moved together: where the recorded path
does not have those weights, the run of the same name beside the one that refers to it is looked at, and the hash decides.

The hash of a published reference is HASH/PUBLISHED, where PUBLISHED is the SHA-256 of the file of weights that a push of
that run uploads. A pulled run has that file, and so is taken in its place. What a run says of itself is never believed.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from langevin.training import checkpoint

HASH = "sha256"  # the key of the hash, beside that of the path
PATHS = ("path", "teacher")  # keys of paths of runs


def at_hand(tree: Any, file: Path) -> Any:
    """A recipe's tree, or a part of it, in which the runs that it refers to are where they are now.

    Args:
        file: the recipe, in the directory of its run."""
    if isinstance(tree, list):
        return [at_hand(part, file) for part in tree]
    if not isinstance(tree, Mapping):
        return tree
    found = {key: _found(path, sha256, file) for key, path, sha256 in _of_section(tree)}
    return {key: found.get(key) or at_hand(part, file) for key, part in tree.items()}


def referred(tree: Any) -> Iterator[str]:
    """The paths of the runs that a recipe's tree, or a part of it, refers to."""
    if isinstance(tree, list | tuple):
        for part in tree:
            yield from referred(part)
    if isinstance(tree, Mapping):
        yield from (path for _, path, _ in _of_section(tree))
        for part in tree.values():
            yield from referred(part)


def named_references(tree: Any) -> Iterator[tuple[str, str]]:
    """The names of the runs that a recipe's tree refers to, each with the hash of its weights."""
    for part in tree.values() if isinstance(tree, Mapping) else tree if isinstance(tree, list | tuple) else ():
        yield from named_references(part)
    if isinstance(tree, Mapping):
        yield from ((Path(path).name, sha256) for _, path, sha256 in _of_section(tree))


def _of_section(tree: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The key, path and hash of each reference in a section."""
    sha256 = tree.get(HASH)
    for key in PATHS:
        path = tree.get(key)
        if isinstance(path, str) and isinstance(sha256, str) and path and sha256:
            yield key, path, sha256


def _found(path: str, sha256: str, file: Path) -> str:
    """The path, or that beside the run of a recipe if the weights are there and not at the path."""
    beside = str(file.absolute().parent.parent / Path(path).name)
    if beside == path or not agrees(beside, sha256) or agrees(path, sha256):
        return path
    return beside


def require_weights(what: str, path: str, sha256: str) -> None:
    """Check that a run has the weights of a hash.

    Args:
        what: the part that it has in the run that refers to it.

    Raises:
        ValueError: it does not, with the places that were looked at."""
    if not agrees(path, sha256):
        there = "is no trained run" if _weights(path) is None else "is one with other weights"
        raise ValueError(
            f"the {what} that this run was trained with is neither at {path}, where there {there}, nor beside this run as "
            f"{Path(path).name}: put it at one of these places, or train this run again"
        )


def agrees(path: str, sha256: str) -> bool:
    """Whether the weights of a run are those of a reference's hash."""
    own, _, public = sha256.partition("/")
    if _weights(path) == own:
        return True
    try:
        return bool(public) and checkpoint.published(Path(path) / "checkpoints") == public
    except (OSError, ValueError):
        return False


def with_published(tree: Any, published: Callable[[str], str]) -> Any:
    """A recipe's tree, in which each reference to a run that is at hand has the hash of its published weights too.

    Args:
        published: the SHA-256 of the file of weights that a push of the run at a path uploads."""
    if isinstance(tree, list | tuple):
        return [with_published(part, published) for part in tree]
    if not isinstance(tree, Mapping):
        return tree
    made = {key: with_published(part, published) for key, part in tree.items()}
    for _, path, sha256 in _of_section(tree):
        if "/" not in sha256 and agrees(path, sha256):
            made[HASH] = f"{sha256}/{published(path)}"
    return made


def _weights(path: str) -> str | None:
    """The hash of a run's weights; None where there are none."""
    try:
        return checkpoint.identity(Path(path) / "checkpoints")
    except (OSError, ValueError):
        return None
