"""The affine map between points and x."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Coordinates:
    """x = raw * scale + offset. By default x is the point itself, so a user's SDE is in the units of the data."""

    kind: Literal["coordinates"] = "coordinates"
    scale: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.scale < math.inf or not math.isfinite(self.offset):
            raise ValueError(
                "the scale of coordinates must be positive and finite and the offset finite, "
                f"got {self.scale} and {self.offset}"
            )

    def encode(self, raw: Tensor) -> Tensor:
        """Points (b, d) to x, float32."""
        return raw.to(torch.float32) * self.scale + self.offset

    def decode(self, x: Tensor) -> Tensor:
        """x (b, d) to points, float32.

        Raises:
            ValueError: x is not finite."""
        if not bool(torch.isfinite(x).all()):
            raise ValueError("the generated points are not all finite: the model diverged, or took too few steps")
        return (x.float() - self.offset) / self.scale
