"""The map between clips and x."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

STD = 0.5  # of encoded clips


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """x = (raw - mean) scale, of mean 0 and standard deviation 1/2 on the training clips. Lossless.

    Args:
        mean, scale: fitted to the data; None until then.
    """

    kind: Literal["pixels"] = "pixels"
    mean: float | None = None
    scale: float | None = None

    def __post_init__(self) -> None:
        if self.scale is not None and not 0 < self.scale < math.inf:
            raise ValueError(f"data.codec.scale is positive and finite, got {self.scale}")

    def fitted(self, frames: Tensor) -> "Pixels":
        """Fitted to frames uint8 (n, channels, side, side). Raises `ValueError` if all look the same."""
        if self.scale is not None:
            return self
        values = frames.double()
        mean, std = float(values.mean()), float(values.std())
        if std < 0.5:
            raise ValueError("all frames look the same: there is nothing to learn")
        return replace(self, mean=round(mean, 3), scale=float(f"{STD / std:.5g}"))

    @property
    def _known(self) -> tuple[float, float]:
        if self.mean is None or self.scale is None:
            raise ValueError("the codec is not fitted: data.codec.mean and data.codec.scale are missing")
        return self.mean, self.scale

    def encode(self, raw: Tensor) -> Tensor:
        """Clips uint8 (b, frames, channels, side, side) to x, float32 (b, channels, frames, side, side)."""
        mean, scale = self._known
        return ((raw.float() - mean) * scale).transpose(1, 2).contiguous()

    def decode(self, x: Tensor) -> Tensor:
        """The inverse of `encode`, rounded and clipped. Raises `ValueError` if x is not finite."""
        mean, scale = self._known
        if not bool(torch.isfinite(x).all()):
            raise ValueError("the generated data holds numbers that are not finite: the model or its guidance diverged")
        return (x.float() / scale + mean).round().clamp(0, 255).to(torch.uint8).transpose(1, 2)
