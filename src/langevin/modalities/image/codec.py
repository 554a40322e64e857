"""The affine map between uint8 images and x.

It is part of the recipe: a likelihood in bits of the recorded levels depends on its scale."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from langevin.diffusion.likelihood.levels import Levels


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """x = raw * scale + offset, by default [0, 255] to [-1, 1]. Encoding and decoding is lossless."""

    kind: Literal["pixels"] = "pixels"
    scale: float = 1 / 127.5
    offset: float = -1.0

    def __post_init__(self) -> None:
        if not 0 < self.scale < math.inf or not math.isfinite(self.offset):
            raise ValueError(
                f"the scale of pixels must be positive and finite and the offset finite, got {self.scale} and {self.offset}"
            )

    @property
    def levels(self) -> Levels:
        """The values of x for 0..255, between which likelihoods count."""
        return Levels(scale=self.scale, offset=self.offset, count=256)

    def encode(self, raw: Tensor) -> Tensor:
        """Images (b, c, h, w) uint8 to x, float32."""
        return raw.to(torch.float32).mul_(self.scale).add_(self.offset)

    def decode(self, x: Tensor) -> Tensor:
        """x (b, c, h, w) to images, uint8, rounded and clipped to [0, 255].

        Raises:
            ValueError: x is not finite."""
        if not bool(torch.isfinite(x).all()):
            raise ValueError("the generated data holds numbers that are not finite: the model or its guidance diverged")
        return x.float().sub(self.offset).div(self.scale).round().clamp(0, 255).to(torch.uint8)
