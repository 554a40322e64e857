"""Classes of new data for a run that knows some already: new ones follow those, whose indices stay."""

from collections.abc import Sequence

import torch
from torch import Tensor


def joined(known: Sequence[str], found: Sequence[str], *, same: bool, where: str) -> tuple[str, ...]:
    """The classes that a run knows, followed by those of new data that it does not.

    Args:
        same: whether classes of one name are the same; only then data may bring new ones and have others of a known name.
        where: the new data, for errors.

    Raises:
        ValueError: only one of both has classes, or names are used for old classes beside new ones."""
    if bool(known) != bool(found):
        has, lacks = ("the run", where) if known else (where, "the run")
        remedy = f"sort {where} into a folder per class" if known else f"put all of {where} into one folder"
        raise ValueError(f"{has} has classes, and {lacks} has none: {remedy}")
    new = [name for name in found if name not in known]
    old = [name for name in found if name in known]
    if new and old and not same:
        raise ValueError(
            f"{where} has the new classes {', '.join(new[:5])}, and also {', '.join(old[:5])}, which the run knows: give "
            "--same-classes if these are the same as there, else rename them"
        )
    return (*known, *new)


def renumbered(labels: Tensor, own: Sequence[str], classes: Sequence[str]) -> Tensor:
    """Labels (n,) int64 of `own` class names as indices into `classes`, which has all of them."""
    return torch.tensor([classes.index(name) for name in own])[labels]
