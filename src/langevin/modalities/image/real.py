"""Real images to show beside samples."""

from typing import TYPE_CHECKING

import torch

from langevin.modalities.image.data import Images
from langevin.modalities.modality import Samples

if TYPE_CHECKING:
    from langevin.modalities.image.modality import Image

Item = tuple[int, int]  # which part of the data, and the index in it


def real_like(image: "Image", samples: Samples, parts: tuple[Images, Images]) -> Samples:
    """A real image for each sample, of its class or caption: a held-out one of its size that was not shown yet, if there
    is one.

    Args:
        parts: training and validation."""
    order = (parts[1], parts[0])
    found = dict[str, list[Item]]()
    for p, part in enumerate(order):
        for i, name in enumerate(image.known.names_in(part)):
            found.setdefault(name, []).append((p, i))
    every = [item for items in found.values() for item in items]
    chosen = dict[Item, torch.Tensor]()
    values = list[torch.Tensor]()
    for value, name in zip(samples.values, samples.names or [""] * len(samples), strict=True):
        own = found.get(name, every)
        p, i = min(own, key=lambda item: (item in chosen, shape_of(order[item[0]], item[1]) != tuple(value.shape)))
        chosen[p, i] = order[p].read_shaped(torch.tensor([i]))[0]
        values.append(chosen[p, i])
    alike = len({value.shape for value in values}) == 1
    return Samples(
        modality=image, values=torch.stack(values) if alike else values, names=samples.names, columns=samples.columns
    )


def shape_of(part: Images, index: int) -> tuple[int, ...]:
    """The shape of an image as it is trained on, (channels, height, width)."""
    if part.buckets is None:
        return part.shape
    width, height = part.sizes[int(part.buckets[index])]
    return part.shape[0], height, width
