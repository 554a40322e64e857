"""Embeddings of the symbols around a place, hashed into one table: weights that are looked up and cost no products.

What a few symbols say of the one beside them is what n-grams know. Attention takes hundreds of steps to find neighbours and
has no weights for their pairs; a table has both from the first step ("Hash Embeddings", 2017; for language models
"Over-Tokenized Transformer", 2025). `AROUND` leaves out the place itself, which a masked row does not show. `WITHIN` is of
a row told beside, characters with gaps between them: spans of two to seven, by which "Enriching Word Vectors with Subword
Information" (2017) knows words.
"""

import torch
from torch import Tensor, nn

AROUND = ((-1, 1), (-2, -1), (1, 2))  # offsets of the symbols of a context; each context has its own entry
BEFORE = ((-1, 0), (-2, -1, 0))  # of a row moved on by one place, as an autoregressive network reads it
WITHIN = tuple(
    tuple(range(first, last + 1)) for first, last in ((-2, 2), (-4, 4), (-6, 6), (-8, 0), (0, 8))
)  # of a row told
MULTIPLIER, MODULUS = 69_069, 2**31 - 1


class Neighbours(nn.Module):
    """(b, n) symbols to the sum (b, n, width) of the entries of each place's contexts; zero at the start.

    Contexts that fall on one entry share it. Places beyond the row are `padding`, as those behind its end are.

    Args:
        rows: entries of the table.
        width: channels.
        contexts: offsets of each context's symbols.
        padding: the symbol of places that are none.
    """

    def __init__(self, rows: int, width: int, *, contexts: tuple[tuple[int, ...], ...], padding: int) -> None:
        super().__init__()
        self.contexts, self.padding = contexts, padding
        self.table = nn.Embedding(rows, width)
        nn.init.zeros_(self.table.weight)

    def forward(self, x: Tensor) -> Tensor:
        n, reach = x.shape[1], max(abs(offset) for context in self.contexts for offset in context)
        wide = torch.nn.functional.pad(x, (reach, reach), value=self.padding)
        entries: list[Tensor] = []
        for number, context in enumerate(self.contexts, 1):
            code = torch.full_like(x, number)
            for offset in context:
                code = (code * MULTIPLIER + wide[:, reach + offset : reach + offset + n]) % MODULUS
            entries.append(code * MULTIPLIER % MODULUS % self.table.num_embeddings)
        return self.table(torch.stack(entries)).sum(0)
