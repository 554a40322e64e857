"""N-gram embeddings: a table of token embeddings for each offset of a context window.

A masked position carries no token of its own. Summing embeddings of the tokens around it gives the first layer a
log-bilinear language model, which attention need not learn ("Three new graphical models for statistical language
modelling", 2007, doi 10.1145/1273496.1273577). The tables count as weights but cost no matrix products.
"""

import torch
from torch import Tensor, nn


class NgramEmbedding(nn.Module):
    """(b, n) tokens -> (b, n, width): at each position the sum over `offsets` of an embedding of the token there.

    Starts at zero.

    Args:
        vocab_size: number of token indices, mask and padding included.
        width: channels.
        offsets: positions of the context tokens, relative to the position itself; none is 0.
        padding: token index that stands for a context position that does not exist.
    """

    def __init__(self, *, vocab_size: int, width: int, offsets: tuple[int, ...], padding: int) -> None:
        super().__init__()
        self.vocab_size, self.offsets, self.padding = vocab_size, offsets, padding
        self.table = nn.Embedding(len(offsets) * vocab_size, width)
        nn.init.zeros_(self.table.weight)

    def forward(self, x: Tensor, positions: Tensor | None = None, block_size: int | None = None) -> Tensor:
        """Args:
        positions: (n,) or (b, n), of the tokens in the text; default 0 .. n - 1. x may hold several segments of text, and
            tokens of different segments are no context of each other.
        block_size: restricts the context to tokens of the same block.
        """
        n, reach = x.shape[1], max(map(abs, self.offsets))
        positions = torch.arange(n, device=x.device) if positions is None else positions
        tokens = nn.functional.pad(x, (reach, reach), value=self.padding)
        token_positions = nn.functional.pad(positions, (reach, reach), value=-reach - 1)
        indices: list[Tensor] = []
        for table, offset in enumerate(self.offsets):
            window, wanted = slice(reach + offset, reach + offset + n), positions + offset
            exists = token_positions[..., window] == wanted
            if block_size is not None:
                exists &= wanted // block_size == positions // block_size
            indices.append(torch.where(exists, tokens[:, window], self.padding) + table * self.vocab_size)
        return self.table(torch.stack(indices)).sum(0)  # (offsets, b, n, width) -> (b, n, width)
