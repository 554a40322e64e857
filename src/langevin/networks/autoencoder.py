"""An autoencoder with a latent on a coarser grid, normal or of codes (`quantizer`), in one to three dimensions.

Residual blocks of convolutions, halved in space from level to level by the encoder and doubled by the decoder. A causal
one has time as its first dimension, which it does not shorten: a frame of the latent, and a decoded frame, depend on that
frame and those before it only, so a clip's beginning is encoded and decoded without what follows. "Auto-Encoding
Variational Bayes" (2013, arXiv 1312.6114); "Taming Transformers for High-Resolution Image Synthesis" (2020, arXiv
2012.09841) for the layout.

As a network of a run it is a generator: the latent is taken from noise shaped like x, whose first numbers of each place
it is. Codes are made of them uniformly. That is their prior in the bound, and not how codes of data are distributed, which
a model of these codes would have to learn.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from langevin.diffusion.condition import Condition
from langevin.diffusion.noise import Noise
from langevin.networks.convolution import CONVOLUTIONS
from langevin.networks.embedding import ConditioningConfig, require_bounded, require_input
from langevin.networks.patches import patchify, unpatchify
from langevin.networks.quantizer import KL, AnyQuantizer, Latent, Quantizer
from langevin.networks.sizes import DataSizes, Reads, require_space

_CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


class Norm(nn.Module):
    """Each position over the root mean square of its channels, times a learned scale: x (b, c, *space)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        size = x.float().square().mean(1, keepdim=True).add(1e-6).rsqrt()
        return (x * size * self.scale.view(-1, *(1,) * (x.ndim - 2))).to(x.dtype)


class Convolution(nn.Module):
    """A convolution of side 3 that keeps the size, or halves it in space. A causal one is of space, and then of each frame
    with the two before it."""

    def __init__(self, inputs: int, outputs: int, dimensions: int, *, causal: bool, stride: int = 1) -> None:
        super().__init__()
        sides = (1 if causal else 3,) + (3,) * (dimensions - 1)
        strides = (1 if causal else stride,) + (stride,) * (dimensions - 1)
        padding = tuple(side // 2 for side in sides)
        self.space = CONVOLUTIONS[dimensions](inputs, outputs, sides, stride=strides, padding=padding)
        self.time = nn.Conv1d(outputs, outputs, 3) if causal else None
        if self.time is not None:
            nn.init.dirac_(self.time.weight)
            self.time.weight.data = self.time.weight.data.roll(1, 2)  # the frame itself, the last of three
            nn.init.zeros_(self.time.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        h = self.space(x)
        if self.time is None:
            return h
        weight = self.time.weight.view(*self.time.weight.shape, *(1,) * (h.ndim - 3))  # over (b, c, frames, *space)
        return _CONVOLVE[h.ndim - 2](F.pad(h, (0, 0) * (h.ndim - 3) + (2, 0)), weight, self.time.bias)


class Residual(nn.Module):
    """x + two convolutions of x, each after a norm."""

    def __init__(self, inputs: int, outputs: int, dimensions: int, *, causal: bool) -> None:
        super().__init__()
        self.norms = nn.ModuleList([Norm(inputs), Norm(outputs)])
        self.first = Convolution(inputs, outputs, dimensions, causal=causal)
        self.second = Convolution(outputs, outputs, dimensions, causal=causal)
        nn.init.zeros_(self.second.space.weight)
        nn.init.zeros_(self.second.space.bias)  # type: ignore[arg-type]
        self.skip = CONVOLUTIONS[dimensions](inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(F.silu(self.norms[0](x)))
        return self.skip(x) + self.second(F.silu(self.norms[1](h)))


class Up(nn.Module):
    """Twice the size in space: every number is repeated, then a convolution."""

    def __init__(self, channels: int, dimensions: int, *, causal: bool) -> None:
        super().__init__()
        self.factor = tuple(1.0 if causal and i == 0 else 2.0 for i in range(dimensions))
        self.convolution = Convolution(channels, channels, dimensions, causal=causal)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(F.interpolate(x, scale_factor=self.factor, mode="nearest"))


class Autoencoder(nn.Module):
    """x (b, channels, *space) to a latent (b, latent_channels, *places), and back."""

    non_hidden = ("conv_in", "conv_out", "latent_in", "latent_out", "norms", "norm_in", "norm_out", "quantizer")
    head = ("norm_out", "conv_out")

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Args:
        dimensions: of the data, 1 to 3.
        width: channels at the finest level.
        patch: side of the patches that the finest level reads, in space.
        channel_mult: channels of each level over `width`; a level more halves space once more.
        blocks: residual blocks of a level.
        latent_channels: of the latent.
        quantizer: what the latent is: normal (kl), or codes (fsq, vq).
        causal: whether the first dimension is time, which is not shortened and along which nothing looks ahead.
        channels: of the data; taken from it.
        """

        kind: Literal["autoencoder"] = "autoencoder"
        reads: ClassVar[Reads] = "grids"
        dimensions: int = 2
        width: int = 64
        patch: int = 2
        channel_mult: tuple[int, ...] = (1, 2)
        blocks: int = 1
        latent_channels: int = 4
        quantizer: AnyQuantizer = KL()
        causal: bool = False
        channels: int | None = None
        conditioning: ConditioningConfig = ConditioningConfig()

        def __post_init__(self) -> None:
            require_bounded(self)
            if not 1 <= self.dimensions <= 3:
                raise ValueError(f"network.dimensions is 1 to 3, got {self.dimensions}")
            if (
                min(
                    self.width,
                    self.patch,
                    self.blocks,
                    self.latent_channels,
                    *self.channel_mult,
                    len(self.channel_mult),
                )
                < 1
            ):
                raise ValueError(f"an autoencoder's sizes are positive: {self}")
            if len(self.channel_mult) > 8:
                raise ValueError(f"network.channel_mult has 1 to 8 levels, got {len(self.channel_mult)}")
            self.quantizer.require(self.latent_channels)
            self.conditioning.require("an autoencoder", (), cross_attends=False)

        @property
        def codes(self) -> int | None:
            """Number of codes of a place of the latent; None for a normal one."""
            return self.quantizer.codes

        @property
        def strides(self) -> tuple[int, ...]:
            """How many positions of the data a position of the latent stands for, along each dimension."""
            factor = 2 ** (len(self.channel_mult) - 1)
            return tuple(side * (1 if self.causal and i == 0 else factor) for i, side in enumerate(self.patches))

        @property
        def patches(self) -> tuple[int, ...]:
            """The side of a patch along each dimension."""
            return tuple(1 if self.causal and i == 0 else self.patch for i in range(self.dimensions))

        def fitted(self, sizes: DataSizes) -> "Autoencoder.Config":
            """For data of these sizes. Raises `ValueError` if they do not halve so often, or a latent that is larger."""
            require_space(self.dimensions, sizes, self.strides, f"{len(self.channel_mult)} levels of an autoencoder")
            most = (sizes.channels or 1) * math.prod(self.strides)
            if self.latent_channels > most:
                raise ValueError(
                    f"network.latent_channels {self.latent_channels} is more than the {most} numbers of the data that a "
                    "position stands for"
                )
            return replace(self, channels=sizes.channels)

        def build(self) -> "Autoencoder":
            return Autoencoder(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        if not config.channels:
            raise ValueError("an autoencoder needs network.channels before it is built")
        self.config, d, causal = config, config.dimensions, config.causal
        widths = [config.width * m for m in config.channel_mult]
        inputs = config.channels * math.prod(config.patches)
        self.conv_in = Convolution(inputs, widths[0], d, causal=causal)
        self.down = nn.Sequential(*halving(config))
        up = list[nn.Module]()
        for level, width in reversed(list(enumerate(widths))):
            before = widths[min(level + 1, len(widths) - 1)]
            up += [Residual(before if i == 0 else width, width, d, causal=causal) for i in range(config.blocks)]
            up += [Up(width, d, causal=causal)] if level else []
        self.up = nn.Sequential(*up)
        self.norm_in, self.norm_out = Norm(widths[-1]), Norm(widths[0])
        self.quantizer: Quantizer = config.quantizer.build(config.latent_channels)
        self.latent_out = CONVOLUTIONS[d](widths[-1], self.quantizer.outputs(config.latent_channels), 1)
        self.latent_in = Convolution(config.latent_channels, widths[-1], d, causal=causal)
        self.conv_out = Convolution(widths[0], inputs, d, causal=causal)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latent of x (b, channels, *space); of codes their vectors and the least variance."""
        return self.quantizer.encode(self._encoded(x))

    def latent(self, x: Tensor, noise: Noise) -> Latent:
        """The latent of x (b, channels, *space) as it is trained, and its cost; drawn by the noise if it is normal."""
        return self.quantizer.draw(self._encoded(x), noise)

    def tokens(self, x: Tensor) -> Tensor:
        """The codes of x (b, channels, *space): int64 (b, *places), from 0 to `config.codes` - 1.

        Raises:
            ValueError: the latent is normal."""
        return self.quantizer.tokens(self.encode(x)[0])

    def decode_tokens(self, tokens: Tensor) -> Tensor:
        """x of codes int64 (b, *places). Raises `ValueError` if the latent is normal."""
        return self.decode(self.quantizer.embed(tokens).to(self.latent_out.weight))

    def decode(self, z: Tensor) -> Tensor:
        """x of a latent (b, latent_channels, *space)."""
        return unpatchify(self.conv_out(F.silu(self.norm_out(self.up(self.latent_in(z))))), self.config.patches)

    def latent_of(self, noise: Tensor) -> Tensor:
        """A latent from its prior, normal or of uniform codes, of noise shaped like x: the first numbers of each place."""
        return self.quantizer.prior(patchify(noise, self.config.strides)[:, : self.config.latent_channels])

    def _encoded(self, x: Tensor) -> Tensor:
        h = self.down(self.conv_in(patchify(x, self.config.patches)))
        return self.latent_out(F.silu(self.norm_in(h))).to(x.dtype)

    def forward(self, x: Tensor, c_time: Tensor, condition: Condition | None = None) -> Tensor:
        require_input(x, c_time, channels=self.config.channels or 0, dimensions=self.config.dimensions)
        return self.decode(self.latent_of(x))


def halving(config: Autoencoder.Config) -> list[nn.Module]:
    """The levels of an encoder of these sizes, after its first convolution."""
    widths, d, causal = [config.width * m for m in config.channel_mult], config.dimensions, config.causal
    layers = list[nn.Module]()
    for level, width in enumerate(widths):
        before = widths[max(0, level - 1)]
        layers += [Convolution(before, before, d, causal=causal, stride=2)] if level else []
        layers += [Residual(before if i == 0 else width, width, d, causal=causal) for i in range(config.blocks)]
    return layers
