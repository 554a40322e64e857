"""The usual operators: blur, change of resolution, colour to grey, lost frequencies, JPEG.

Each is for `count` samples of (c, h, w) with values that are an affine function of brightness: weights sum to 1.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from langevin.diffusion.measurement.operator import BlockCosines, Channels, Frequencies, Separable

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R BT.601


def gaussian_blur(width: float, *, height: int, side: int, count: int) -> Separable:
    """A Gaussian blur of standard deviation `width` in pixels; beyond the border the outermost pixels are repeated."""
    down, across = (blur_matrix(n, width).expand(count, -1, -1) for n in (height, side))
    return Separable(down=down, across=across)


def downsampling(factor: int, *, height: int, side: int, count: int) -> Separable:
    """The mean of blocks of `factor` x `factor` pixels.

    Raises:
        ValueError: a size that is no multiple of the factor."""
    if factor < 1 or height % factor or side % factor:
        raise ValueError(f"{height} x {side} pixels are not divided into blocks of {factor} x {factor}")
    down, across = (block_means(n, factor).expand(count, -1, -1) for n in (height, side))
    return Separable(down=down, across=across)


def blur_matrix(n: int, width: float) -> Tensor:
    """(n, n) float32: line i weighs the values by a Gaussian around i, those beyond the ends added to the outermost."""
    reach = max(1, int(4 * width + 0.5))
    offset = torch.arange(-reach, reach + 1)
    weight = torch.exp(-0.5 * (offset.double() / max(width, 1e-6)) ** 2)
    matrix = torch.zeros(n, n, dtype=torch.float64)
    place = (torch.arange(n)[:, None] + offset).clamp(0, n - 1)
    return matrix.scatter_add(1, place, (weight / weight.sum()).expand(n, -1)).float()


def block_means(n: int, factor: int) -> Tensor:
    """(n / factor, n) float32: means of consecutive values."""
    return torch.eye(n // factor).repeat_interleave(factor, 1) / factor


def grey(count: int, weights: Sequence[float] = LUMA) -> Channels:
    """The brightness of a colour."""
    return Channels(weights=torch.tensor(weights).expand(count, 1, -1))


def low_frequencies(fraction: float, *, height: int, side: int, count: int) -> Frequencies:
    """The frequencies up to `fraction` of the highest one, along both axes."""
    rows, columns = (kept(n, fraction) for n in (height, side))
    return Frequencies(seen=(rows[:, None] & columns).expand(count, 1, -1, -1))


def kept(n: int, fraction: float) -> Tensor:
    """(n,) bool: the frequencies up to `fraction` of the highest, in the order of `torch.fft.fft`."""
    k = torch.arange(n)
    return 2 * torch.minimum(k, n - k) <= fraction * n


def jpeg(tables: Tensor, scale: float) -> BlockCosines:
    """What a JPEG file tells of the pixels before it.

    Args:
        tables: (b, c, 8, 8) the steps of quantisation of each channel, in units of 0..255.
        scale: of x per level, as in `codec.Pixels`.
    """
    return BlockCosines(std=tables * scale / 12**0.5)
