"""Pixels: the affine map between uint8 images and the numbers that are diffused.

The map is recorded with the run: likelihoods need its scale to be stated in bits."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from langevin.diffusion.likelihood.levels import Levels


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """x = raw * scale + offset, [0, 255] to [-1, 1] by default. Its round trip is exact."""

    kind: Literal["pixels"] = "pixels"
    scale: float = 1 / 127.5
    offset: float = -1.0

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"the scale of pixels must be positive, got {self.scale}")

    @property
    def levels(self) -> Levels:
        """What the map makes of 0..255: the unit of likelihoods."""
        return Levels(scale=self.scale, offset=self.offset, count=256)

    def encode(self, raw: Tensor) -> Tensor:
        """uint8 (b, c, h, w) to float32 of the same shape."""
        return raw.to(torch.float32).mul_(self.scale).add_(self.offset)

    def decode(self, x: Tensor) -> Tensor:
        """float to uint8, rounded and cut to [0, 255].

        Raises:
            ValueError: x holds something that is not a number."""
        if not bool(torch.isfinite(x).all()):
            raise ValueError("the generated data holds numbers that are not finite; the model or its guidance diverged")
        return x.float().sub(self.offset).div(self.scale).round().clamp(0, 255).to(torch.uint8)
