"""A denoiser of one size for larger images: the mean of its predictions for overlapping tiles ("MultiDiffusion: Fusing
Diffusion Paths for Controlled Image Generation", 2023, arXiv:2302.08113).

Neighbouring tiles agree where they overlap, at every step. What is further apart than a tile is independent.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint  # pyright: ignore[reportUnknownVariableType]

from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.posterior import Point, Prediction

TOGETHER = 64  # tiles in one call of the network


@dataclass(frozen=True, kw_only=True)
class Tiled:
    """`denoiser`, of images of `side` x `side`, for x_t (b, c, height, width) of any larger size.

    Args:
        side: of a tile; tiles overlap by half of it or more, and count less towards their borders.

    Raises:
        ValueError: (when called) an image smaller than a tile, times per position, or a prediction that is not a mean.
    """

    denoiser: Denoiser[Prediction]
    side: int

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Point:
        b, _, height, width = x_t.shape
        if min(height, width) < self.side or t.ndim > 1:
            raise ValueError(f"tiles of {self.side} pixels do not cover {height} x {width}, or times are per position")
        corners = [(i, j) for i in starts(height, self.side) for j in starts(width, self.side)]
        tiles = torch.cat([x_t[..., i : i + self.side, j : j + self.side] for i, j in corners])
        index = torch.arange(b, device=x_t.device).repeat(len(corners))
        numbers = [number for number in range(len(corners)) for _ in range(b)]
        parts = [slice(i, i + TOGETHER) for i in range(0, len(tiles), TOGETHER)]
        again = torch.is_grad_enabled() and tiles.requires_grad and len(tiles) > TOGETHER
        means = torch.cat([
            self._means(tiles[part], t, index[part], numbers[part], condition, again=again) for part in parts
        ])  # fmt: skip
        window = bump(self.side).to(x_t)
        window = window[:, None] * window
        total, weight = torch.zeros_like(x_t), x_t.new_zeros(height, width)
        for (i, j), mean in zip(corners, means.reshape(-1, *x_t.shape[:2], self.side, self.side), strict=True):
            total[..., i : i + self.side, j : j + self.side] += window * mean
            weight[i : i + self.side, j : j + self.side] += window
        return Point(total / weight)

    def _means(
        self,
        tiles: Tensor,
        t: Tensor,
        index: Tensor,
        numbers: Sequence[int],
        condition: Condition | None,
        *,
        again: bool,
    ) -> Tensor:
        """The means of some tiles, of the samples `index` and numbered in each by `numbers`; what a gradient needs is kept,
        or computed again."""
        chosen = None if condition is None else condition.select(index)
        if chosen is not None and chosen.features is not None:
            chosen = replace(chosen, features=chosen.features.tiled(numbers))

        def mean(part: Tensor) -> Tensor:
            q = self.denoiser(part, t[index], chosen)
            if not isinstance(q, Point):
                raise ValueError("tiles are of continuous data, whose prediction is a mean")
            return q.mean

        if not again:
            return mean(tiles)
        return checkpoint(mean, tiles, use_reentrant=False)  # pyright: ignore[reportUnknownVariableType]


def tiles_of(shape: tuple[int, ...], side: int | None) -> int:
    """The number of tiles of a sample of this shape, (c, height, width); 1 for a sample that is drawn whole."""
    return 1 if side is None else len(starts(shape[-2], side)) * len(starts(shape[-1], side))


def starts(length: int, side: int) -> list[int]:
    """Where tiles begin: evenly spaced, half a tile apart or less, the last one at the end."""
    gaps = -(-(length - side) // max(1, side // 2))
    return [round(k * (length - side) / max(1, gaps)) for k in range(gaps + 1)]


def bump(side: int) -> Tensor:
    """(side,) positive weights that are largest in the middle."""
    return torch.sin(torch.pi * (torch.arange(side, dtype=torch.float64) + 0.5) / side).square()
