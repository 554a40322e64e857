"""Images of which a part is given, and the rest is drawn.

In every step the predicted image gets the given pixels ("Zero-Shot Image Restoration Using Denoising Diffusion Null-Space
Model", 2022, arXiv:2212.00490, for a mask). The given pixels stay as they are. The rest is not an exact sample of the
posterior: it sees the given part only through the image that is formed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.posterior import Point
from langevin.modalities.image.decode import decode
from langevin.modalities.image.options import Sample

if TYPE_CHECKING:
    from langevin.modalities.image.modality import Image


@dataclass(frozen=True, kw_only=True)
class Inpainting:
    """A denoiser whose mean has the given pixels.

    Args:
        x: (1, c, h, w) the given image, encoded.
        given: (1, 1, h, w) bool, its pixels that are kept.
    """

    denoiser: Denoiser
    x: Tensor
    given: Tensor

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Point:
        q = self.denoiser(x_t, t, condition)
        assert isinstance(q, Point), "images are continuous"
        return Point(torch.where(self.given.to(x_t.device), self.x.to(x_t), q.mean))


def inpainting(image: "Image", options: Sample) -> Callable[[Denoiser], Denoiser] | None:
    """What draws the masked part of the image that the options give; None if they give none.

    Raises:
        ValueError: an image without a mask or the reverse, a file that cannot be read, or a mask of nothing or of all."""
    if options.image is None and options.mask is None:
        return None
    if options.image is None or options.mask is None:
        raise ValueError("--image and --mask belong together: an image, and the part of it that is drawn anew")
    assert image.size, "the modality of a run is fitted"
    assert image.channels, "the modality of a run is fitted"
    raw = decode(Path(options.image), size=image.size, channels=image.channels)[None]
    given = ~drawn(Path(options.mask), image.size)[None, None]
    if bool(given.all()) or not bool(given.any()):
        what = (
            "nothing, so that nothing is drawn" if bool(given.all()) else "all of the image, so that nothing is given"
        )
        raise ValueError(f"the mask {Path(options.mask).name} covers {what}: it is white or transparent where is drawn")
    x = image.codec.encode(raw)
    return lambda denoiser: Inpainting(denoiser=denoiser, x=x, given=given)


def drawn(mask: Path, size: int) -> Tensor:
    """(size, size) bool: where a mask is transparent, or, if it is opaque, where it is white."""
    white, black = (
        decode(mask, size=size, channels=1, background=(level, level, level))[0].int() for level in (255, 0)
    )  # fmt: skip
    transparent = white - black >= 128  # what is behind shows
    return transparent if bool(transparent.any()) else white >= 128
