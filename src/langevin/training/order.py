"""The order of the data, a pure function of (seed, epoch, position): a resumed run needs only its step number."""

import torch
from torch import Tensor

from langevin.diffusion.noise import SampleNoise, mix


def permutation(count: int, *, seed: int, epoch: int) -> Tensor:
    """A random permutation of `count` items, (count,) int64: items sorted by 64 counter-based random bits each."""
    order_seed = mix(torch.tensor([seed]), 0x0DE8)
    return SampleNoise(seeds=order_seed, steps=torch.tensor([epoch])).bits(count)[0].argsort(stable=True)


class DataOrder:
    """Maps the samples of each step's global batch to items of the data; an epoch is a permutation.

    Args:
        count: number of items in the data; at least 1.
        batch: samples per global batch; it may exceed `count`.
        seed: of the permutations.
    """

    def __init__(self, *, count: int, batch: int, seed: int) -> None:
        if count < 1 or batch < 1:
            raise ValueError(f"data and batch must have at least 1 item, got {count} items and batches of {batch}")
        self.count, self.batch, self.seed = count, batch, seed
        self._epochs: dict[int, Tensor] = {}

    def _epoch(self, epoch: int) -> Tensor:
        if epoch not in self._epochs:
            self._epochs = {e: p for e, p in self._epochs.items() if e >= epoch - 1}
            self._epochs[epoch] = permutation(self.count, seed=self.seed, epoch=epoch)
        return self._epochs[epoch]

    def items(self, step: int, samples: Tensor) -> Tensor:
        """The items, (b,) int64, of the samples with indices `samples` (b,) int64 in the global batch of a step."""
        position = step * self.batch + samples
        epoch = position.div(self.count, rounding_mode="floor")
        index = torch.empty_like(samples)
        for e in epoch.unique().tolist():
            at = epoch == e
            index[at] = self._epoch(e)[position[at] - e * self.count]
        return index
