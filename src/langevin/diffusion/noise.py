"""Counter-based randomness: a draw is a function of (seed, step, position) alone.

With a stateful generator a sample depends on all earlier draws: on the batch, its order, the device. Here every sample
has a stream named by two integers, its seed and its step. The n-th number of the stream is a hash of (name, n):
SplitMix64 ("Fast Splittable Pseudorandom Number Generators", 2014), with a second key mixed in half-way so that streams
do not overlap. It uses wrapping 64-bit integer tensor operations and so gives the same integers on every device;
normals by Box-Muller agree to rounding. Numbers are laid out position by position, so a longer sample begins with the
numbers of a shorter one, and padding changes nothing.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from langevin.diffusion.float64 import float64_device

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)  # the constants of SplitMix64, as signed 64-bit integers
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)
_FORK = 0xD1B54A32D192ED03 - (1 << 64)


class Noise(Protocol):
    """Draws shaped like a batch-first tensor. Drawing twice gives the same numbers; `fork` gives independent streams."""

    def normal(self, like: Tensor) -> Tensor:
        """Standard normals of the shape, type and device of `like` (b, ...)."""
        ...

    def uniform(self, like: Tensor) -> Tensor:
        """Uniforms in the open interval (0, 1), shaped like `like` (b, ...); float64, on `float64_device(like.device)`."""
        ...

    def fork(self, label: int) -> "Noise":
        """An independent stream for each `label`: a step that draws twice draws from two forks."""
        ...


def _shift(z: Tensor, by: int) -> Tensor:
    """Logical right shift z >> by."""
    return (z >> by).bitwise_and_((1 << (64 - by)) - 1)


def _mix(z: Tensor, key: Tensor | None = None) -> Tensor:
    """SplitMix64's finalizer, in place; `key` is mixed in between its two multiplications."""
    z.bitwise_xor_(_shift(z, 30)).mul_(_MIX_1)
    if key is not None:
        z.bitwise_xor_(key)
    z.bitwise_xor_(_shift(z, 27)).mul_(_MIX_2)
    return z.bitwise_xor_(_shift(z, 31))


def _wrap(n: int) -> int:
    """A Python integer wrapped to signed 64 bits."""
    return (n + (1 << 63)) % (1 << 64) - (1 << 63)


def mix(a: Tensor, b: Tensor | int) -> Tensor:
    """A new stream name from two integers, (b,) int64 each: (seed, step), (seed, name of the sample), (seed, label)."""
    return _mix(_mix(a * _GOLDEN + 1) + (_wrap(b * _FORK) if isinstance(b, int) else b * _FORK))


def _num_values(like: Tensor) -> int:
    """The number of values of a sample."""
    return math.prod(like.shape[1:])


@dataclass(frozen=True, kw_only=True)
class SampleNoise:
    """One stream per sample.

    Args:
        seeds: (b,) int64.
        steps: (b,) int64.
    """

    seeds: Tensor
    steps: Tensor

    def fork(self, label: int) -> "SampleNoise":
        """Independent streams, different for each label."""
        return SampleNoise(seeds=mix(self.seeds, label), steps=self.steps)

    def bits(self, count: int, device: torch.device | None = None) -> Tensor:
        """(b, count) int64 of 64 random bits each, on `device` (default: that of the seeds)."""
        name = mix(self.seeds, self.steps)[:, None].to(device or self.seeds.device)
        counter = torch.arange(1, count + 1, device=name.device) * _GOLDEN
        return _mix(name + counter, name * _FORK + 1)

    def uniform(self, like: Tensor) -> Tensor:
        """Uniform on (0, 1), shaped like `like`; float64, since float32 distorts Gumbel and categorical draws."""
        z = self.bits(_num_values(like), float64_device(like.device))
        return _shift(z, 12).double().add_(0.5).mul_(2.0**-52).view(like.shape)  # 52 bits plus a half: never 0 or 1

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal, of the type of `like`; angles in float64 if that is float64, else float32; |value| < 6.8."""
        count = _num_values(like)
        z = self.bits((count + 1) // 2, float64_device(like.device))
        real = torch.float64 if like.dtype == torch.float64 else torch.float32
        radius = _shift(z, 32).double().add_(0.5).mul_(2.0**-32).log_().mul_(-2).sqrt_().to(real)
        angle = z.bitwise_and_(0xFFFFFFFF).to(real).mul_(2 * math.pi * 2.0**-32)
        pairs = torch.empty((*z.shape, 2), dtype=real, device=z.device)
        torch.mul(radius, angle.cos(), out=pairs[..., 0])
        torch.mul(radius, angle.sin(), out=pairs[..., 1])
        return pairs.flatten(1)[:, :count].reshape(like.shape).to(like)
