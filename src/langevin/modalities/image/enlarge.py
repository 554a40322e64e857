"""Enlargers: runs that are conditioned on a smaller image, and cascades of a run and enlargers ("Cascaded Diffusion Models
for High Fidelity Image Generation", 2021, arXiv:2106.15282).

In training the smaller image gets noise of a level that is drawn anew for each example, and the network is given the level
too. When images are drawn, a little noise hides what is wrong with a smaller image that was drawn itself. How much is best
is found after training.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from langevin.diffusion.noise import SampleNoise, mix
from langevin.diffusion.pyramid import block_means, repeated
from langevin.modalities.image.codec import Pixels
from langevin.modalities.image.conditions import Conditions
from langevin.modalities.inputs import runs_named
from langevin.modalities.modality import Draw, RequestContext

if TYPE_CHECKING:
    from langevin.modalities.image.modality import Image
    from langevin.modalities.image.options import Sample

HIDING = 10.0  # grey levels of noise in a smaller image that was drawn, by default


@dataclass(frozen=True, kw_only=True)
class Enlarging:
    """From smaller images to the port `concat` of an enlarger: each with noise and enlarged, beside a channel of its level.

    Args:
        side: of the smaller images, in pixels.
        size: of the images that are drawn, a multiple.
        augment: the largest standard deviation of the noise, in grey levels of 255.
        codec: the map between pixels and x.

    Raises:
        ValueError: sizes of which one is no multiple of the other, or noise out of range.
    """

    side: int
    size: int
    augment: float
    codec: Pixels

    def __post_init__(self) -> None:
        if not 1 <= self.side < self.size or self.size % self.side:
            divisors = [n for n in range(1, self.size) if self.size % n == 0]
            raise ValueError(
                f"data.enlarge is {self.side} pixels, and the images have {self.size}: they are enlarged a whole number of "
                f"times, from {', '.join(map(str, divisors[-4:]))} pixels"
            )

    def smaller(self, x: Tensor) -> Tensor:
        """Images x (b, c, size, size) at the smaller size, (b, c, side, side)."""
        return block_means(x, self.size // self.side)

    def port(self, small: Tensor, level: Tensor | float, noise: SampleNoise | None = None) -> Tensor:
        """What the network reads of smaller images, (b, c + 1, size, size).

        Args:
            small: x (b, c, side, side).
            level: the standard deviation of their noise in grey levels, of all or (b,).
            noise: adds it; None if it is in them already."""
        level = torch.as_tensor(level).to(small).expand(len(small))[:, None, None, None]
        noisy = small if noise is None else small + level * self.codec.scale * noise.normal(small)
        share = (level / max(self.augment, 1e-6)).expand(-1, 1, self.size, self.size)
        return torch.cat([repeated(noisy, self.size // self.side), share], 1)

    def of_example(self, x: Tensor, noise: SampleNoise | None) -> Tensor:
        """The port of training examples x (b, c, size, size), by a level of noise for each; without noise, of level 0."""
        if noise is None:
            return self.port(self.smaller(x), 0.0)
        level = self.augment * noise.fork(8).uniform(torch.empty(len(x), 1))[:, 0]
        return self.port(self.smaller(x), level, noise.fork(9))


def require_cascade(image: "Image", options: "Sample", context: RequestContext) -> None:
    """Check that the runs that a request names can enlarge the images one after the other.

    Raises:
        ValueError: one cannot, with what to do; or options that do not go together."""
    if not options.enlarge:
        if options.enlarge_noise is not None:
            raise ValueError("--enlarge-noise has no effect here, as no image is enlarged: give --enlarge RUN")
        return
    if options.reward is not None:
        raise ValueError(
            "--reward does not go with --enlarge: draw the images first, and enlarge them by `langevin edit`"
        )
    if image.buckets is not None:
        raise ValueError("--enlarge enlarges squares, and this run draws several shapes (data.buckets): leave it out")
    for name, run in runs_named(options).items():
        other = context.model.others[name].modality
        if other.kind != image.kind:
            raise ValueError(f"--enlarge {run} is a run of {other.kind}: name one of images that has data.enlarge")
        if other.enlarge != image.size:
            is_ = "enlarges nothing" if other.enlarge is None else f"enlarges images of {other.enlarge} pixels"
            raise ValueError(
                f"--enlarge {run} {is_}, and these have {image.size}: train one by `langevin train DATA "
                f"data.size={2 * (image.size or 1)} data.enlarge={image.size}`"
            )
        if other.channels != image.channels:
            raise ValueError(
                f"--enlarge {run} is of images with {other.channels} channels, and these have {image.channels}: train it "
                f"with data.channels={image.channels}"
            )
        if (other.classes and other.classes != image.classes) or (other.captions and not image.captions):
            raise ValueError(
                f"--enlarge {run} is conditioned on {', '.join(other.classes) or 'captions'}, and these images are not: "
                "train both on the same data"
            )
        if options.enlarge_noise is not None and not 0 <= options.enlarge_noise <= other.augment:
            raise ValueError(
                f"--enlarge-noise is from 0 to the {other.augment:g} grey levels that {run} was trained with "
                f"(data.augment), got {options.enlarge_noise:g}"
            )
        image = other


def enlarged(
    image: "Image", x: Tensor, conditions: Conditions, options: "Sample", context: RequestContext, seeds: Tensor
) -> Generator[Draw, Tensor, tuple[Any, Tensor]]:
    """A part of a plan: images x (n, c, h, w) of a run, enlarged by the runs that the request names, one after the other.

    Each has noise of its own, independent of that from which x was drawn. Returns the modality of the last and its x."""
    modality: Any = image
    for stage, name in enumerate(runs_named(options), start=1):
        model = context.model.others[name]
        own, small = model.modality, model.modality.codec.encode(modality.decode(x))
        level = min(HIDING, own.augment) if options.enlarge_noise is None else options.enlarge_noise
        streams = SampleNoise(seeds=mix(seeds, stage), steps=torch.full_like(seeds, -2))
        x = yield Draw(
            shape=(own.channels, own.size, own.size), seeds=mix(seeds, stage), sampling=model.sampling, model=name,
            condition=own.known.of(conditions, concat=own.enlarging.port(small, level, streams)).encoded(own.captions),
        )  # fmt: skip
        modality = own
    return modality, x
