"""What a network computed for each sample at its evaluations before, which travels with the sample's condition."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor


@dataclass(eq=False, slots=True)
class Entry:
    """What the deep layers computed for one input of the network.

    Args:
        deep: without the batch; None before the first evaluation.
        level: the noise level that it was computed at, (1,), or one per position.
        shape: of the input.
        age: evaluations since.
    """

    deep: Tensor | None = None
    level: Tensor | None = None
    shape: tuple[int, ...] = ()
    age: int = 0


@dataclass(eq=False)
class Slot:
    """The entries of one sample, or of one tile of it: of the inputs that a call of the network has for it, in order."""

    entries: dict[int, Entry] = field(default_factory=dict[int, Entry])
    tiles: dict[int, "Slot"] = field(default_factory=dict[int, "Slot"])

    @cached_property
    def reference(self) -> "Slot":
        """Those of the sample without its condition, to which guidance compares it."""
        return Slot()


@dataclass(frozen=True, eq=False)
class Features:
    """The slots of b samples, or None for a sample whose features are not kept."""

    slots: tuple[Slot | None, ...]

    @classmethod
    def of(cls, count: int) -> "Features":
        """Empty slots of new samples."""
        return cls(tuple(Slot() for _ in range(count)))

    def map(self, function: Callable[[Tensor], Tensor]) -> "Features":
        """The slots where `function` of (b, ...) tensors, here on the CPU, takes their indices."""
        index: list[int] = function(torch.arange(len(self.slots))).tolist()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return Features(tuple(self.slots[i] for i in index))

    def reference(self) -> "Features":
        """The slots of the same samples without their condition."""
        return Features(tuple(slot and slot.reference for slot in self.slots))

    def tiled(self, tiles: Sequence[int]) -> "Features":
        """The slots of one tile of each sample, by its number; the same ones in any split of the tiles into calls."""
        return Features(
            tuple(slot and slot.tiles.setdefault(tile, Slot()) for slot, tile in zip(self.slots, tiles, strict=True))
        )

    def entries(self) -> list[Entry]:
        """The entry of each input; several inputs of a sample have one each, in their order."""
        seen, found = Counter[int](), list[Entry]()
        for slot in self.slots:
            if slot is None:
                found.append(Entry())
            else:
                found.append(slot.entries.setdefault(seen[id(slot)], Entry()))
                seen[id(slot)] += 1
        return found


def join_features(parts: Sequence[Features | None], counts: Sequence[int]) -> Features | None:
    """The slots of all samples in order, None for those without; None without any."""
    if all(part is None for part in parts):
        return None
    slots = [(None,) * n if part is None else part.slots for part, n in zip(parts, counts, strict=True)]
    return Features(tuple(slot for several in slots for slot in several))
