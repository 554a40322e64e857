"""Embeddings of the symbols beside a place, a table for each distance: weights that are looked up and cost no products.

A masked place shows nothing of its own, so what it holds is first told by what stands beside it: from the first step on
this is a log-bilinear model of language ("Three new graphical models for statistical language modelling", 2007), which
the layers above need not learn to fetch.
"""

import torch
from torch import Tensor, nn


class Neighbours(nn.Module):
    """(b, n) symbols to the sum (b, n, width) of what the neighbours of each place say of it; nothing at the start.

    Args:
        symbols: number of them, padding included.
        width: channels.
        offsets: of the neighbours, in places.
        padding: the symbol of neighbours that are none.
    """

    def __init__(self, *, symbols: int, width: int, offsets: tuple[int, ...], padding: int) -> None:
        super().__init__()
        self.symbols, self.offsets, self.padding = symbols, offsets, padding
        self.table = nn.Embedding(len(offsets) * symbols, width)
        nn.init.zeros_(self.table.weight)

    def forward(self, x: Tensor, places: Tensor | None = None, block: int | None = None) -> Tensor:
        """`places` (n,) or (b, n) says where the symbols stand (0 .. n - 1), as a row may be several stretches; with
        `block`, only neighbours of the same block are any."""
        n, reach = x.shape[1], max(map(abs, self.offsets))
        where = torch.arange(n, device=x.device) if places is None else places
        symbols, stand = (
            nn.functional.pad(row, (reach, reach), value=fill) for row, fill in ((x, self.padding), (where, -reach - 1))
        )
        entries: list[Tensor] = []
        for number, offset in enumerate(self.offsets):
            at, there = slice(reach + offset, reach + offset + n), where + offset
            beside = stand[..., at] == there
            if block is not None:
                beside &= there // block == where // block
            entries.append(torch.where(beside, symbols[:, at], self.padding) + number * self.symbols)
        return self.table(torch.stack(entries)).sum(0)
