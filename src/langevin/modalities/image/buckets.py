"""Buckets: the few shapes of one area that images of many ratios are trained at.

Ratios are evenly spaced in log space, so a shape and its transpose are both there, and an image goes to the bucket whose
ratio is nearest to its own in log space. It is resized to cover the bucket and cropped to it, so 1 - exp(-d) of it is lost,
where d is the distance. Areas are equal up to the rounding of sides, so all buckets have the same levels of noise.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from langevin.diffusion.noise import SampleNoise
from langevin.modalities.image.shape import patch_for

Size = tuple[int, int]  # width and height in pixels
MOST, WIDEST = 99, 16.0  # buckets, and the largest ratio of their sides
LARGEST = 4 * 4096  # pixels along a side


@dataclass(frozen=True, kw_only=True)
class Buckets:
    """Shapes of one area, `data.size` squared, among which each image has the one that is nearest to its own.

    Args:
        count: number of ratios, from 1:max_ratio to max_ratio:1; an odd number, so that the square is one of them.
        max_ratio: the longer side over the shorter one, of the longest bucket.
        multiple: what all sides are multiples of, in pixels; None is the patch that `train DATA` chooses.
        sizes: (width, height) of each bucket, from the tallest to the widest; fitted.
        images: number of training images in each; fitted.
        class_images: of each class, the number of its training images in each; fitted, empty without classes.

    Raises:
        ValueError: a value is out of range.
    """

    count: int = 9
    max_ratio: float = 2.0
    multiple: int | None = None
    sizes: tuple[Size, ...] = ()
    images: tuple[int, ...] = ()
    class_images: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        if not 3 <= self.count <= MOST or self.count % 2 == 0:
            raise ValueError(
                f"data.buckets.count is an odd number from 3 to {MOST}, of which one is the square, got {self.count}"
            )
        if not 1 < self.max_ratio <= WIDEST:
            raise ValueError(
                f"data.buckets.max_ratio is the longer side over the shorter, above 1 and at most {WIDEST:g}, got "
                f"{self.max_ratio}"
            )
        if self.multiple is not None and self.multiple < 1:
            raise ValueError(f"data.buckets.multiple is a number of pixels, at least 1, got {self.multiple}")
        if len(self.sizes) > MOST or not all(1 <= side <= LARGEST for size in self.sizes for side in size):
            raise ValueError(f"data.buckets.sizes are at most {MOST} of 1 to {LARGEST:,} pixels along a side")
        for name, counts in [("images", self.images), *(("class_images", one) for one in self.class_images)]:
            if len(counts) not in (0, len(self.sizes)) or min(counts, default=0) < 0:
                raise ValueError(f"data.buckets.{name} has a number of images for each of data.buckets.sizes")
        if self.images and not sum(self.images):
            raise ValueError("data.buckets.images are none: train the run again")

    def of_side(self, side: int, *, stride: int = 1) -> "Buckets":
        """With the multiple and the sizes for images whose square has so many pixels along a side.

        Args:
            stride: pixels along a side that a place of the codec's latents stands for.

        Raises:
            ValueError: the square is no multiple, so it would be no bucket, or the codec does not cut it; or other sizes
                were fitted."""
        unit = self.multiple or stride * patch_for(max(1, side // stride))
        if side % unit or unit % stride:
            every = f", and a multiple of the {stride} that a place of the latents stands for" if stride > 1 else ""
            raise ValueError(
                f"data.buckets.multiple {unit} must divide data.size {side}, as the square is one of the buckets{every}"
            )
        wide = set[Size]()
        for k in range(self.count // 2 + 1):
            root = self.max_ratio ** (k / (self.count - 1))  # of the ratio: the width over the side
            wide.add((unit * max(1, round(side * root / unit)), unit * max(1, round(side / root / unit))))
        both = wide | {(height, width) for width, height in wide}
        sizes = tuple(sorted(both, key=lambda size: size[0] / size[1]))
        if self.sizes not in ((), sizes):
            raise ValueError(
                f"data.buckets.sizes are fitted to other settings of data.buckets, or to another data.size than {side}: "
                "set data.buckets.sizes=[], data.buckets.images=[] and data.buckets.class_images=[]"
            )
        return replace(self, sizes=sizes, multiple=unit)

    def nearest(self, size: Size, *, trained: bool = False) -> int:
        """The bucket whose ratio is nearest to that of an image of this width and height, in log space; of two equally near
        ones the one nearer to the square.

        Args:
            trained: only among those with training images."""
        width, height = size
        known = [i for i in range(len(self.sizes)) if not trained or not self.images or self.images[i]]

        def away(i: int) -> tuple[float, float]:
            w, h = self.sizes[i]
            return round(abs(math.log(width * h) - math.log(height * w)), 12), abs(math.log(w) - math.log(h))

        return min(known, key=away)

    def counts(self, label: int | None = None) -> tuple[int, ...]:
        """The training images in each, of one class; of all without a label, and of a class that has none."""
        own = self.class_images[label] if label is not None and label >= 0 and self.class_images else ()
        return own if sum(own) else self.images

    def drawn(self, seeds: Tensor, labels: Tensor | None = None) -> list[Size]:
        """The size of the sample of each seed (n,), with the frequencies of the training images, or of those of its class.

        Args:
            labels: (n,) int64, the class of each sample."""
        steps = torch.full_like(seeds, -4)
        u = SampleNoise(seeds=seeds, steps=steps).uniform(torch.empty(len(seeds), 1))[:, 0].double()
        index = torch.empty_like(seeds)
        for label in (None,) if labels is None else labels.unique().tolist():
            at = torch.ones_like(seeds, dtype=torch.bool) if labels is None else labels == label
            counts = self.counts(label)
            share = torch.tensor(counts, dtype=torch.float64).cumsum(0) / sum(counts)
            last = max(i for i, n in enumerate(counts) if n)
            index[at] = torch.searchsorted(share, u[at], right=True).clamp_max(last)
        return [self.sizes[i] for i in index.tolist()]

    @property
    def trained(self) -> tuple[Size, ...]:
        """The sizes that have training images."""
        return tuple(size for size, count in zip(self.sizes, self.images, strict=True) if count)

    def usual(self, labels: Tensor | None = None) -> Size:
        """The size of most training images, or of most of those of some classes, `labels` (n,) int64."""
        kept = [None] if labels is None else labels.unique().tolist()
        return self.sizes[max(range(len(self.sizes)), key=lambda i: sum(self.counts(label)[i] for label in kept))]

    def shares(self, stored: Sequence[Size]) -> tuple[tuple[str, int, float], ...]:
        """Of images of these widths and heights: WIDTHxHEIGHT of each bucket that is not empty, its images, and the mean
        share of them that is cropped."""
        found = dict[int, list[float]]()
        for size in stored:
            bucket = self.nearest(size)
            found.setdefault(bucket, []).append(cropped(size, self.sizes[bucket]))
        return tuple((spelt(self.sizes[i]), len(found[i]), mean(found[i])) for i in sorted(found))


def said(shares: Sequence[tuple[str, int, float]]) -> str:
    """`Buckets.shares` in words."""
    kept = sum(count * share for _, count, share in shares) / max(1, sum(count for _, count, _ in shares))
    return f"{', '.join(f'{size}: {n:,} ({share:.1%})' for size, n, share in shares)}; {kept:.1%} on average"


def cropped(stored: Size, kept: Size) -> float:
    """The share of an image that is lost when it is resized to cover another size and cropped to it."""
    (w, h), (width, height) = stored, kept
    return 1 - min(w * height, width * h) / max(w * height, width * h)


def squared(sizes: Sequence[Size]) -> list[float]:
    """The share of each image that is cropped to the central square."""
    return [cropped(size, (1, 1)) for size in sizes]


def mean(shares: Sequence[float]) -> float:
    """The mean of shares; 0 for none."""
    return sum(shares) / max(1, len(shares))


def spelt(size: Size) -> str:
    """A size in words: WIDTHxHEIGHT."""
    return f"{size[0]}x{size[1]}"


def resized(images: Tensor, side: int) -> Tensor:
    """Images uint8 (n, c, h, w) as squares (n, c, side, side): stretched, so that nothing of them is lost."""
    if images.shape[-2:] == (side, side):
        return images
    smooth = torch.nn.functional.interpolate(
        images.float(), size=(side, side), mode="bilinear", antialias=True, align_corners=False
    )
    return smooth.round().clamp(0, 255).to(torch.uint8)


def parsed(size: str | None, ratio: str | None) -> Size | None:
    """The size, or a ratio as one, that a request names by WIDTHxHEIGHT or WIDTH:HEIGHT; None for neither.

    Raises:
        ValueError: both, or one that cannot be read."""
    if size is not None and ratio is not None:
        raise ValueError("--size and --ratio both say the shape of an image: give one")
    text = size if ratio is None else ratio
    if text is None:
        return None
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})" if ratio is None else r"([1-9]\d{0,4}):([1-9]\d{0,4})", text)
    if found is None:
        option = "--size is WIDTHxHEIGHT, such as 48x24" if ratio is None else "--ratio is WIDTH:HEIGHT, such as 2:1"
        raise ValueError(f"{option}, got '{text}'")
    return int(found[1]), int(found[2])
