"""Counter-based randomness: a draw is a function of (seed, step, place), and of nothing else.

A stateful generator makes a sample depend on who was drawn before it: on the batch, its order, the device. Here every
row owns a stream named by two integers, its seed and its step, and the n-th number of the stream is a hash of (name, n):
SplitMix64 ("Fast Splittable Pseudorandom Number Generators", 2014), whose second key is mixed in half-way so that two
streams never run along each other. Written in wrapping 64-bit integer tensor operations, it gives the same integers on
every device; normals follow by Box-Muller and agree to rounding. Numbers are laid out place by place, so a longer row
begins with the numbers of a shorter one, and padding changes nothing.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)  # the constants of SplitMix64, as signed 64-bit integers
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)
_FORK = 0xD1B54A32D192ED03 - (1 << 64)


class Noise(Protocol):
    """Draws shaped like a batch-first tensor; asking twice gives the same draw, `fork` gives an independent one."""

    def normal(self, like: Tensor) -> Tensor: ...
    def uniform(self, like: Tensor) -> Tensor: ...
    def fork(self, label: int) -> "Noise": ...


def _shift(z: Tensor, by: int) -> Tensor:
    """z >> by without the sign's extension."""
    return (z >> by).bitwise_and_((1 << (64 - by)) - 1)


def _mix(z: Tensor, key: Tensor | None = None) -> Tensor:
    """SplitMix64's finalizer, in place; `key` is mixed in between its two multiplications."""
    z.bitwise_xor_(_shift(z, 30)).mul_(_MIX_1)
    if key is not None:
        z.bitwise_xor_(key)
    z.bitwise_xor_(_shift(z, 27)).mul_(_MIX_2)
    return z.bitwise_xor_(_shift(z, 31))


def _wrap(n: int) -> int:
    """A Python integer as signed 64-bit arithmetic would hold it."""
    return (n + (1 << 63)) % (1 << 64) - (1 << 63)


def mix(a: Tensor, b: Tensor | int) -> Tensor:
    """A new stream name from two integers, (b,) int64 each: used for (seed, step), (seed, row), (seed, label)."""
    return _mix(_mix(a * _GOLDEN + 1) + (_wrap(b * _FORK) if isinstance(b, int) else b * _FORK))


def _places(like: Tensor) -> int:
    """How many numbers a row holds."""
    return math.prod(like.shape[1:])


@dataclass(frozen=True, kw_only=True)
class RowNoise:
    """One stream a row.

    Args:
        seeds: (b,) int64.
        steps: (b,) int64.
    """

    seeds: Tensor
    steps: Tensor

    def fork(self, label: int) -> "RowNoise":
        """Streams independent of these, one for each label."""
        return RowNoise(seeds=mix(self.seeds, label), steps=self.steps)

    def bits(self, count: int, device: torch.device | None = None) -> Tensor:
        """(b, count) int64 of 64 random bits, on `device` (default the seeds')."""
        name = mix(self.seeds, self.steps)[:, None].to(device or self.seeds.device)
        counter = torch.arange(1, count + 1, device=name.device) * _GOLDEN
        return _mix(name + counter, name * _FORK + 1)

    def uniform(self, like: Tensor) -> Tensor:
        """Uniform on (0, 1), float64 (a float32 Gumbel draw bends a categorical), shaped like `like`."""
        z = self.bits(_places(like), like.device)
        return _shift(z, 12).double().add_(0.5).mul_(2.0**-52).view(like.shape)  # 52 bits and a half: never 0, never 1

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal, in the type of `like` (angles in float64 for float64, else in float32; at most 6.8 in size)."""
        count = _places(like)
        z = self.bits((count + 1) // 2, like.device)
        real = torch.float64 if like.dtype == torch.float64 else torch.float32
        radius = _shift(z, 32).double().add_(0.5).mul_(2.0**-32).log_().mul_(-2).sqrt_().to(real)
        angle = z.bitwise_and_(0xFFFFFFFF).to(real).mul_(2 * math.pi * 2.0**-32)
        pairs = torch.empty((*z.shape, 2), dtype=real, device=z.device)
        torch.mul(radius, angle.cos(), out=pairs[..., 0])
        torch.mul(radius, angle.sin(), out=pairs[..., 1])
        return pairs.flatten(1)[:, :count].reshape(like.shape).to(like.dtype)
