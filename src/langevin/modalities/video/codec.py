"""Codecs of video: maps between clips and x."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pydantic
import torch
from torch import Tensor

from langevin.modalities import latents
from langevin.networks.autoencoder import Autoencoder
from langevin.training.checkpoint import identity

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

    def fitted(self, clips: Tensor) -> "Pixels":
        """Fitted to clips uint8 (n, frames, channels, side, side). Raises `ValueError` if all frames look the same."""
        if self.scale is not None:
            return self
        values = clips.double()
        mean, std = float(values.mean()), float(values.std())
        if std < 0.5:
            raise ValueError("all frames look the same: there is nothing to learn")
        return replace(self, mean=round(mean, 3), scale=float(f"{STD / std:.5g}"))

    def frame_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The channels and sides of x for frames (channels, side, side)."""
        return shape

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


@dataclass(frozen=True, kw_only=True)
class Latents:
    """The latents of a causal autoencoder, which is a run of its own: x = (latent - mean) scale, frame by frame.

    Args:
        path: of the run, of clips of the same size.
        sha256: of its weights; fitted when the run is first read, and required from then on.
        pixels: its own codec; fitted.
        mean, scale: fitted to the latents of the data.
    """

    kind: Literal["latents"] = "latents"
    path: str
    sha256: str = ""
    pixels: Pixels = Pixels()
    mean: float = 0.0
    scale: float | None = None

    def fitted(self, clips: Tensor) -> "Latents":
        """Read from its run and fitted to the latents of clips uint8 (n, frames, channels, side, side).

        Raises:
            ValueError: it is no run of an autoencoder for such clips."""
        if self.scale is not None:
            return self
        tree, size = latents.recipe_of(self.path), (clips.shape[2], clips.shape[3])
        data, config = tree["data"], latents.config_of(tree)
        if data.get("kind") != "video" or (data.get("channels"), data.get("size")) != size or not config.causal:
            raise ValueError(
                f"data.codec.path={self.path} is no causal autoencoder (network.causal=true) of clips of {size[0]} "
                f"channels and {size[1]} pixels: it has {data.get('channels')} and {data.get('size')}, and network.causal="
                f"{config.causal}"
            )
        pixels = pydantic.TypeAdapter(Pixels).validate_python(data["codec"])
        path, sha256 = str(Path(self.path).absolute()), identity(Path(self.path) / "checkpoints")
        found = replace(self, path=path, sha256=sha256, pixels=pixels, scale=1.0)
        z = found.encode(clips)
        return replace(found, mean=round(float(z.mean()), 4), scale=float(f"{STD / float(z.std()):.5g}"))

    @property
    def network(self) -> Autoencoder:
        """The autoencoder. Raises `ValueError` if its weights are not those of the fit."""
        return latents.autoencoder(self.path, self.sha256)

    def frame_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The channels and sides of x for frames (channels, side, side)."""
        _, height, width = self.network.config.strides
        return self.network.config.latent_channels, shape[1] // height, shape[2] // width

    def encode(self, raw: Tensor) -> Tensor:
        """Clips uint8 (b, frames, channels, side, side) to x (b, latent channels, frames, places, places)."""
        return (latents.encoded(self.network, self.pixels.encode(raw)) - self.mean) * (self.scale or 1.0)

    def decode(self, x: Tensor) -> Tensor:
        """Clips of x. Raises `ValueError` if x is not finite."""
        return self.pixels.decode(latents.decoded(self.network, x.float() / (self.scale or 1.0) + self.mean))


AnyCodec = Pixels | Latents
