"""The block of the transformer over tokens."""

import torch
from torch import Tensor, nn

from langevin.networks.attention import Attention, Rotary
from langevin.networks.fused import Dropout, rms_norm, squared_relu

KeysValues = tuple[Tensor, Tensor]  # of one layer, (b, heads, n, head_dim) each


class Block(nn.Module):
    """Pre-norm attention, then a squared-ReLU MLP; tokens are (b, n, width). Starts as the identity."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float, *, modulated: bool) -> None:
        super().__init__()
        self.attention = Attention(width, heads=heads)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dropout = Dropout(dropout)
        self.modulation = nn.Linear(width, 4 * width) if modulated else None
        zeroed = [self.attention.out, self.down, *([self.modulation] if self.modulation is not None else [])]
        for layer in zeroed:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, x: Tensor, vector: Tensor | None, rotary: Rotary, mask: Tensor | None,
        past: KeysValues | None, valid: Tensor | None, at: Tensor | None = None,
    ) -> tuple[Tensor, KeysValues]:  # fmt: skip
        """Args:
            x: (b, n, width), or (m, width) of the m positions where `valid` holds.
            vector: (b, width), what modulates the norms; None without modulation.
            past: keys and values that are attended to before those of x.
            valid: (b, n) bool, False at padding; None where nothing is padded.
            at: (b, n) bool, the positions to output; None for all.

        Returns:
            the tokens, (b, n, width), or (m, width) of the m positions in `valid` or `at`; and the keys and values of x."""
        modulation_1 = modulation_2 = None
        if self.modulation is not None and vector is not None:
            shift_1, scale_1, shift_2, scale_2 = self.modulation(vector)[:, None].chunk(4, -1)
            modulation_1 = _at_positions((shift_1, 1 + scale_1), valid)
            modulation_2 = _at_positions((shift_2, 1 + scale_2), valid if at is None else at)
        q, k, v = self.attention.project(_modulated_norm(x, modulation_1), rotary, valid)
        new = (k, v)
        if past is not None:
            k, v = torch.cat([past[0].to(k.dtype), k], 2), torch.cat([past[1].to(v.dtype), v], 2)
        if at is not None:
            x = x[at if valid is None else at[valid]]
        x = x + self.dropout(self.attention.mix(q, k, v, mask, valid if at is None else at))
        return x + self.dropout(self.down(squared_relu(self.up(_modulated_norm(x, modulation_2))))), new


def _at_positions(modulation: tuple[Tensor, Tensor], at: Tensor | None) -> tuple[Tensor, Tensor]:
    """Per-sample modulation (b, 1, width) at each of the m positions where `at` (b, n) holds, (m, width)."""
    if at is None:
        return modulation
    shift, scale = (part.expand(*at.shape, -1)[at] for part in modulation)
    return shift, scale


def _modulated_norm(x: Tensor, modulation: tuple[Tensor, Tensor] | None) -> Tensor:
    """norm(x) scale + shift."""
    h = rms_norm(x)
    return h if modulation is None else torch.addcmul(modulation[0], h, modulation[1])
