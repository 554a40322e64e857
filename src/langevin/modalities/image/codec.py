"""Codecs of images: maps between uint8 images and x.

A codec is part of the recipe: a likelihood in bits of the recorded levels depends on its scale."""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import pydantic
import torch
from torch import Tensor

from langevin.diffusion.likelihood.levels import Levels
from langevin.modalities import latents
from langevin.networks.autoencoder import Autoencoder
from langevin.training.checkpoint import identity

STD = 0.5  # of encoded images
GREY = 128  # of what is masked


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

    def fitted(self, images: Tensor) -> "Pixels":
        """Itself: nothing depends on the data."""
        return self

    def shape(self, pixels: tuple[int, int, int]) -> tuple[int, int, int]:
        """The shape of x for images (channels, height, width)."""
        return pixels

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


@dataclass(frozen=True, kw_only=True)
class Latents:
    """The latents of an autoencoder, which is a run of its own: x = (latent - mean) scale.

    "High-Resolution Image Synthesis with Latent Diffusion Models" (2021, arXiv 2112.10752).

    Args:
        path: of the run, of images of the same size.
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

    def fitted(self, images: Tensor) -> "Latents":
        """Read from its run and fitted to the latents of images uint8 (n, c, h, w).

        Raises:
            ValueError: it is no run of an autoencoder for such images, or its latents are all the same or not finite."""
        if self.scale is not None:
            return self
        path, sha256, pixels = read_autoencoder(self.path, tuple(images.shape[1:3]))
        found = replace(self, path=path, sha256=sha256, pixels=pixels, scale=1.0)
        z = found.encode(images)
        std = float(z.std())
        if not 0 < std < math.inf:
            raise ValueError(
                f"the latents of data.codec.path={self.path} have the standard deviation {std:g} on this data, so there is "
                "nothing to learn from them: train the autoencoder for longer, or on this data"
            )
        return replace(found, mean=float(f"{float(z.mean()):.4g}"), scale=float(f"{STD / std:.5g}"))

    @property
    def network(self) -> Autoencoder:
        """The autoencoder. Raises `ValueError` if its weights are not those of the fit."""
        return latents.autoencoder(self.path, self.sha256)

    def shape(self, pixels: tuple[int, int, int]) -> tuple[int, int, int]:
        """The shape of x for images (channels, height, width)."""
        config = self.network.config
        height, width = config.strides
        return (config.latent_channels, pixels[1] // height, pixels[2] // width)

    def scaled(self, z: Tensor) -> Tensor:
        """x of latents."""
        return (z - self.mean) * (self.scale or 1.0)

    def latent(self, raw: Tensor) -> Tensor:
        """The latents of images (b, c, h, w) uint8."""
        return latents.encoded(self.network, self.pixels.encode(raw.cpu()))

    def encode(self, raw: Tensor) -> Tensor:
        """Images (b, c, h, w) uint8 to x (b, latent channels, places, places)."""
        return self.scaled(self.latent(raw)).to(raw.device)

    def decode(self, x: Tensor) -> Tensor:
        """Images of x, on the CPU. Raises `ValueError` if x is not finite."""
        z = x.float().cpu() / (self.scale or 1.0) + self.mean
        return self.pixels.decode(latents.decoded(self.network, z))

    def through(self, raw: Tensor) -> Tensor:
        """Images as the autoencoder gives them back: no sample is expected to be nearer to real ones."""
        return self.decode(self.encode(raw))

    def kept(
        self, fingerprint: str, count: int, pixels: tuple[int, int, int], *, mirrored: bool
    ) -> latents.Kept | None:
        """The latents of a part of the data that are kept; None if they are too many."""
        return _kept(self.path, self.sha256, fingerprint, count, self.shape(pixels), mirrored)


@dataclass(frozen=True, kw_only=True)
class Codes:
    """The codes of a quantised autoencoder, which is a run of its own: x is a sequence of tokens, row by row.

    "MaskGIT: Masked Generative Image Transformer" (2022, arXiv 2202.04200) draws such tokens.

    Args:
        path: of the run, of images of the same size.
        sha256: of its weights; fitted when the run is first read, and required from then on.
        pixels: its own codec; fitted.
    """

    kind: Literal["codes"] = "codes"
    path: str
    sha256: str = ""
    pixels: Pixels = Pixels()

    def fitted(self, images: Tensor) -> "Codes":
        """Read from its run, for images uint8 (n, c, h, w).

        Raises:
            ValueError: it is no run of a quantised autoencoder for such images."""
        if self.sha256:
            return self
        path, sha256, pixels = read_autoencoder(self.path, tuple(images.shape[1:3]))
        found = replace(self, path=path, sha256=sha256, pixels=pixels)
        if found.network.config.codes is None:
            raise ValueError(
                f"data.codec.path={self.path} has a normal latent: take data.codec.kind=latents, or train an autoencoder "
                "with network.quantizer.kind=fsq"
            )
        return found

    @property
    def network(self) -> Autoencoder:
        """The autoencoder. Raises `ValueError` if its weights are not those of the fit."""
        return latents.autoencoder(self.path, self.sha256)

    @property
    def count(self) -> int:
        """Number of codes."""
        found = self.network.config.codes
        assert found is not None, "the codec is fitted"
        return found

    def sides(self, pixels: tuple[int, int, int]) -> tuple[int, int]:
        """Rows and columns of codes for images (channels, height, width)."""
        height, width = self.network.config.strides
        return pixels[1] // height, pixels[2] // width

    def shape(self, pixels: tuple[int, int, int]) -> tuple[int]:
        """The shape of x for images (channels, height, width)."""
        return (math.prod(self.sides(pixels)),)

    def scaled(self, z: Tensor) -> Tensor:
        """x of codes."""
        return z.long()

    def latent(self, raw: Tensor) -> Tensor:
        """The codes of images (b, c, h, w) uint8, row by row."""
        return latents.tokens(self.network, self.pixels.encode(raw.cpu())).flatten(1)

    def encode(self, raw: Tensor) -> Tensor:
        """Images (b, c, h, w) uint8 to x (b, places) int64."""
        return self.latent(raw).to(raw.device)

    def decode(self, x: Tensor) -> Tensor:
        """Images of x (b, places), which are square, on the CPU; grey where x is masked, as on the way to a sample.

        Raises:
            ValueError: x holds something that is no code."""
        x, side = x.cpu(), math.isqrt(x.shape[1])
        masked = x == self.count
        x = x.masked_fill(masked, 0)
        if side * side != x.shape[1] or not 0 <= int(x.min()) <= int(x.max()) < self.count:
            raise ValueError(
                f"codes are 0 to {self.count - 1} on a square of places, and these are of shape {tuple(x.shape)}"
            )
        images = self.pixels.decode(latents.decoded_tokens(self.network, x.view(-1, side, side)))
        height, width = self.network.config.strides
        hidden = masked.view(-1, 1, side, side).repeat_interleave(height, 2).repeat_interleave(width, 3)
        return images.masked_fill(hidden, GREY)

    def through(self, raw: Tensor) -> Tensor:
        """Images as the autoencoder gives them back: no sample is expected to be nearer to real ones."""
        return self.decode(self.encode(raw))

    def kept(
        self, fingerprint: str, count: int, pixels: tuple[int, int, int], *, mirrored: bool
    ) -> latents.Kept | None:
        """The codes of a part of the data that are kept; None if they are too many."""
        return _kept(self.path, self.sha256, fingerprint, count, self.shape(pixels), mirrored)


def stride_of(path: str) -> int:
    """How many pixels, along a side, a place of an autoencoder's latent stands for. Raises `ValueError` if it is none."""
    return max(latents.config_of(latents.recipe_of(str(Path(path).expanduser()))).strides)


def read_autoencoder(path: str, size: tuple[int, ...]) -> tuple[str, str, Pixels]:
    """The absolute path, the hash of the weights and the codec of an autoencoder of images of `size` (channels, side).

    Raises:
        ValueError: it is none."""
    path = str(Path(path).expanduser())
    data = latents.recipe_of(path)["data"]
    if data.get("kind") != "image" or (data.get("channels"), data.get("size")) != size:
        raise ValueError(
            f"data.codec.path={path} is no autoencoder of images of {size[0]} channels and {size[1]} pixels: its data is "
            f"{data.get('kind')} of {data.get('channels')} channels and {data.get('size')} pixels"
        )
    pixels = pydantic.TypeAdapter(Pixels).validate_python(data["codec"])
    return str(Path(path).absolute()), identity(Path(path) / "checkpoints"), pixels


@lru_cache(maxsize=64)  # of each part of the data, way and bucket
def _kept(
    path: str, sha256: str, fingerprint: str, count: int, shape: tuple[int, ...], mirrored: bool
) -> latents.Kept | None:
    way = "mirrored" if mirrored else ""
    return latents.Kept.of(path, sha256, fingerprint, way, "codes" * (len(shape) == 1), count=count, shape=shape)


AnyCodec = Pixels | Latents | Codes


def require_pixels(codec: AnyCodec, what: str) -> Pixels:
    """The codec of a run that draws pixels. Raises `ValueError` for one that draws latents: `what` is not of these."""
    if not isinstance(codec, Pixels):
        raise ValueError(f"{what} is measured in pixels, and this run draws the {codec.kind} of {codec.path}")
    return codec
