"""The order of data, a pure function of (seed, epoch, position): resuming needs a step number and nothing else."""

import torch
from torch import Tensor

from langevin.diffusion.noise import RowNoise, mix


def permutation(count: int, *, seed: int, epoch: int) -> Tensor:
    """A random order of `count` items, int64: sorted by 64 counter-based bits each (ties have no say: they are ~never)."""
    name = mix(torch.tensor([seed]), 0x0DE8)
    return RowNoise(seeds=name, steps=torch.tensor([epoch])).bits(count)[0].argsort(stable=True)


class Order:
    """Which items the rows of each step's global batch are.

    Args:
        count: items in the data; at least 1.
        batch: rows of a global batch; it may hold more rows than the data has items.
        seed: names the order.
    """

    def __init__(self, *, count: int, batch: int, seed: int) -> None:
        if count < 1 or batch < 1:
            raise ValueError(f"there must be data and a batch size, got {count} items and batches of {batch}")
        self.count, self.batch, self.seed = count, batch, seed
        self._epochs: dict[int, Tensor] = {}

    def _epoch(self, epoch: int) -> Tensor:
        if epoch not in self._epochs:
            self._epochs = {e: p for e, p in self._epochs.items() if e >= epoch - 1}
            self._epochs[epoch] = permutation(self.count, seed=self.seed, epoch=epoch)
        return self._epochs[epoch]

    def items(self, step: int, rows: Tensor) -> Tensor:
        """The items at `rows` (b,) int64 of step `step`'s global batch: every item once an epoch."""
        position = step * self.batch + rows
        epoch = position.div(self.count, rounding_mode="floor")
        index = torch.empty_like(rows)
        for e in epoch.unique().tolist():
            at = epoch == e
            index[at] = self._epoch(e)[position[at] - e * self.count]
        return index
