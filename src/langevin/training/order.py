"""The order of the data, a pure function of (seed, epoch, position): a resumed run needs only its step number."""

import torch
from torch import Tensor

from langevin.diffusion.noise import SampleNoise, mix

POOL = 4  # batches among which items are grouped by length


def permutation(count: int, *, seed: int, epoch: int) -> Tensor:
    """A random permutation of `count` items, (count,) int64: items sorted by 64 counter-based random bits each."""
    order_seed = mix(torch.tensor([seed]), 0x0DE8)
    return SampleNoise(seeds=order_seed, steps=torch.tensor([epoch])).bits(count)[0].argsort(stable=True)


def by_length(order: Tensor, lengths: Tensor, batch: int, bits: Tensor, pool: int = POOL) -> Tensor:
    """A permutation (n,) regrouped so that batches hold items of similar length.

    Among each `pool` batches in turn, items are cut into batches by length; the batches are put into the order of `bits`
    (n,), and keep the order of their items.
    """
    parts = [order[:0]]
    for chunk in order.split(pool * batch):
        rank = torch.empty_like(chunk)
        rank[lengths[chunk].argsort(stable=True)] = torch.arange(len(chunk))
        number = rank // batch  # of the batch that an item belongs to
        whole = len(chunk) // batch  # the last batch may be a part of one, and stays last
        place = torch.arange(whole + 1)
        place[:whole] = bits[:whole].argsort().argsort()
        parts.append(chunk[place[number].argsort(stable=True)])
        bits = bits[whole:]
    return torch.cat(parts)


def in_windows(shards: Tensor, window: int, *, seed: int, epoch: int) -> Tensor:
    """A permutation (n,) int64 of items that are read shard by shard: the shards are permuted, then the items that follow
    each other are shuffled in windows of `window`, from the beginning of the epoch on.

    So what is read at a time is in as few shards as hold a window, and one more.

    Args:
        shards: (n,) int64, the shard of each item.
    """
    numbers, shard = shards.unique(return_inverse=True)
    rank = permutation(len(numbers), seed=seed, epoch=epoch).argsort()
    order = rank[shard].argsort(stable=True)
    name = mix(torch.tensor([seed]), 0x3D0F)
    within = SampleNoise(seeds=name, steps=torch.tensor([epoch])).bits(len(shards))[0].argsort(stable=True)
    return order[within[within.div(window, rounding_mode="floor").argsort(stable=True)]]


class DataOrder:
    """Maps the samples of each step's global batch to items of the data; an epoch is a permutation.

    Args:
        count: number of items in the data; at least 1.
        batch: samples per global batch; it may exceed `count`.
        seed: of the permutations.
        lengths: (count,) of the items, by which they are grouped into batches; None does not group them.
        buckets: (count,) int64 in place of lengths: a batch holds items of one bucket, or what is left of neighbours.
            Without a window there are fewer of the latter in an epoch than buckets, as each epoch ends with the bucket that
            the next one begins with; with one, about as many in each window.
        shards: (count,) int64, where each item is stored, with `window`.
        window: items among which an epoch is shuffled, see `in_windows`; None shuffles all. Lengths and buckets are then
            grouped within as many items.
    """

    def __init__(
        self, *, count: int, batch: int, seed: int, lengths: Tensor | None = None, buckets: Tensor | None = None,
        shards: Tensor | None = None, window: int | None = None,
    ) -> None:  # fmt: skip
        if count < 1 or batch < 1:
            raise ValueError(f"data and batch must have at least 1 item, got {count} items and batches of {batch}")
        for name, given in (("lengths", lengths), ("buckets", buckets), ("shards", shards)):
            if given is not None and len(given) != count:
                raise ValueError(f"{count} items have {count} {name}, got {len(given)}")
        if window is not None and (shards is None or window < 1):
            raise ValueError(f"a window is of 1 item or more, of data in shards, got {window}")
        self.count, self.batch, self.seed, self.lengths, self.buckets = count, batch, seed, lengths, buckets
        self.shards, self.window = shards, window
        self._epochs: dict[int, Tensor] = {}

    def _epoch(self, epoch: int) -> Tensor:
        if epoch not in self._epochs:
            self._epochs = {e: p for e, p in self._epochs.items() if e >= epoch - 1}
            if self.window is None or self.shards is None:
                order = permutation(self.count, seed=self.seed, epoch=epoch)
            else:
                order = in_windows(self.shards, self.window, seed=self.seed, epoch=epoch)
            lengths, pool = self.lengths, POOL
            if self.buckets is not None and self.window is not None:
                lengths, pool = self.buckets * (-1) ** epoch, max(1, self.window // self.batch)
            elif self.buckets is not None:
                lengths, pool = self.buckets * (-1) ** epoch, self.count  # of all batches of the epoch
                order = order[lengths[order].argsort(stable=True)]
            if lengths is not None:
                name = mix(torch.tensor([self.seed]), 0x1E46)
                bits = SampleNoise(seeds=name, steps=torch.tensor([epoch])).bits(self.count)[0]
                begun = min(self.count, -epoch * self.count % self.batch)  # items of the last epoch's last batch
                grouped = by_length(order[begun:], lengths, self.batch, bits, pool)
                order = torch.cat([order[:begun], grouped])
            self._epochs[epoch] = order
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
