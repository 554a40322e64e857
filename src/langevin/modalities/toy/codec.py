"""Coordinates: the affine map between points and the numbers that are diffused."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Coordinates:
    """x = raw * scale + offset; the points themselves by default, as an equation of one's own speaks of them."""

    kind: Literal["coordinates"] = "coordinates"
    scale: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"the scale of coordinates must be positive, got {self.scale}")

    def encode(self, raw: Tensor) -> Tensor:
        """(b, d) to float32."""
        return raw.to(torch.float32) * self.scale + self.offset

    def decode(self, x: Tensor) -> Tensor:
        """float to float32.

        Raises:
            ValueError: x holds something that is not a number."""
        if not bool(torch.isfinite(x).all()):
            raise ValueError("the generated points are not all finite; the model diverged, or took too few steps")
        return (x.float() - self.offset) / self.scale
