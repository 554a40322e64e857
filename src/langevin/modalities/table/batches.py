"""Samples of a table as training examples, with some of their cells given."""

from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch
from langevin.diffusion.noise import SampleNoise
from langevin.modalities.table.codec import TOKENS, TableCodec
from langevin.modalities.table.data import TableSet
from langevin.training.ahead import copied


@dataclass(frozen=True, kw_only=True)
class TableBatches:
    """Encoded samples by index. With noise, values are drawn within their intervals, and some cells are known.

    Args:
        context: probability that cells of a sample are known: a random number of its columns, and in half of the cases also
            which of the others are missing, so that holes can be filled.
    """

    dataset: TableSet
    codec: TableCodec
    context: float
    device: torch.device = torch.device("cpu")
    remarks: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of columns for the network."""
        return (sum(size[0] for size in self.codec.shape.values()),)

    def __len__(self) -> int:
        return len(self.dataset)

    def __call__(self, items: Tensor, noise: SampleNoise | None = None) -> Batch:
        """The samples at `items` (b,) int64."""
        x = self.codec.encode(self.dataset, items, noise)
        known = None if noise is None or not self.context else self._known(x, noise.fork(3))
        move = {name: copied(part, self.device) for name, part in x.items()}
        return Batch(x=move, known=None if known is None else {n: part.to(self.device) for n, part in known.items()})

    def _known(self, x: dict[str, Tensor], noise: SampleNoise) -> dict[str, Tensor]:
        """Which elements are given, by part."""
        codec = self.codec
        modelled = [i for i, column in enumerate(codec.columns) if column.modelled]
        count = len(next(iter(x.values())))
        u = noise.uniform(torch.empty(count, len(modelled) + 3, dtype=torch.float64))
        some, share, holes, order = u[:, :1] < self.context, u[:, 1:2], u[:, 2] < 0.5, u[:, 3:]
        given = some & (order < share)
        known = {name: torch.zeros_like(part, dtype=torch.bool) for name, part in x.items()}
        for position, i in enumerate(modelled):
            (part, at), hole = codec.positions(i)
            there = given[:, position]
            if hole is not None:
                known[hole[0]][:, hole[1]] = there | (some[:, 0] & holes)
                there = there & (x[TOKENS][:, hole[1]] == 1)  # the value of a missing cell says nothing
            known[part][:, at] = there
        return known
