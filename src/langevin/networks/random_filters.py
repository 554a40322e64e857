"""Responses of fixed random convolutions to images, in octaves: features that need no data and no labels.

An image is split into octaves, x = (x - blur x) + blur x, because random filters of the whole image respond mostly to its
brightness. "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (2018, arXiv 1801.03924) finds that
distances even in features of random weights agree better with people than those of pixels.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

OCTAVES = 4
Responses = Callable[[Tensor], Sequence[Tensor]]  # of images x (b, channels, height, width): of each layer, (b, ...)


@dataclass(frozen=True, kw_only=True)
class RandomFilters:
    """Two layers of `width` filters in each of four octaves, a function of `seed`, `channels` and `width` alone."""

    seed: int = 0
    channels: int = 3
    width: int = 16

    @cached_property
    def filters(self) -> list[tuple[Tensor, Tensor]]:
        """Both filter banks of each octave, `(width, channels, 3, 3)` and `(width, width, 3, 3)`, fine first."""
        generator = torch.Generator().manual_seed(self.seed)
        return [
            (_orthogonal(self.width, self.channels, generator), _orthogonal(self.width, self.width, generator))
            for _ in range(OCTAVES)
        ]

    def __call__(self, x: Tensor) -> list[Tensor]:
        """All layers of all octaves."""
        return [layer for pair in self.responses(x) for layer in pair]

    def responses(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Of images x (b, channels, height, width): both layers of each octave, (b, width, ...) each, fine first."""
        found = list[tuple[Tensor, Tensor]]()
        for octave, (first, second) in enumerate(self.filters):
            low = F.avg_pool2d(_padded(x), 3, 1)
            band = x - low if octave < OCTAVES - 1 else x
            band = band * 2.0 ** (2 - octave)  # images have amplitude ~ 1/frequency: this equalises the octaves
            one = F.leaky_relu(F.conv2d(_padded(band), first.to(x)), 0.2)
            found.append((one, F.leaky_relu(F.conv2d(_padded(one), second.to(x)), 0.2)))
            x = F.avg_pool2d(low, 2, ceil_mode=True, count_include_pad=False)
        return found


def perceptual_distance(y: Tensor, x: Tensor, responses: Responses) -> Tensor:
    """The mean squared difference of the responses to y and x (b, channels, *space), over all layers, (b,).

    Data of three dimensions is compared frame by frame, a sequence as an image of height 1."""
    layers = zip(responses(_images(y)), responses(_images(x)), strict=True)
    distances = [(a - b).square().flatten(1).mean(1) for a, b in layers]
    return torch.stack(distances).mean(0).view(len(x), -1).mean(1)


def _images(x: Tensor) -> Tensor:
    """(b, channels, *space) as images, of each frame if there are three dimensions."""
    if x.ndim == 3:
        return x[:, :, None]
    return x if x.ndim == 4 else x.transpose(1, 2).flatten(0, 1)


def _orthogonal(filters: int, channels: int, generator: torch.Generator) -> Tensor:
    """Filters `(filters, channels, 3, 3)`, orthogonal in rows or columns, with the gain that keeps the variance."""
    noise = torch.randn(filters, channels * 9, generator=generator)
    left, _, right = torch.linalg.svd(noise, full_matrices=False)
    return (left @ right).reshape(filters, channels, 3, 3) * math.sqrt(2 * max(1.0, filters / (channels * 9)))


def _padded(x: Tensor) -> Tensor:
    return F.pad(x, (1, 1, 1, 1), mode="replicate")
