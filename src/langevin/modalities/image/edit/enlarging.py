"""Files that an enlarger enlarges: the network reads the input, so no measurement is needed."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from langevin.diffusion.condition import Condition
from langevin.modalities.image.edit.drawing import ANSWERS, with_overview
from langevin.modalities.image.edit.inputs import read
from langevin.modalities.image.options import Edit
from langevin.modalities.modality import Draw, Plan, RequestContext, seeds_of

if TYPE_CHECKING:
    from langevin.modalities.image.modality import Image

OTHERS = (
    "mask", "deblur", "enlarge", "colour", "outpaint", "lock_coarse", "to", "strength", "invert", "source", "between",
    "noise", "method",
)  # fmt: skip


def enlargements(image: "Image", options: Edit, context: RequestContext) -> Plan:
    """The plan of a file enlarged by a run that is an enlarger; with `--denoise` the input has noise of that level.

    Raises:
        ValueError: options of other edits, more noise than the run was trained with, or an input that does not fit."""
    enlarging = image.enlarging
    assert enlarging is not None, "the modality of a run is fitted"
    if given := [name for name in OTHERS if getattr(options, name) != getattr(Edit, name)]:
        raise ValueError(
            f"this run enlarges images of {enlarging.side} pixels, and --{given[0].replace('_', '-')} is for runs of whole "
            "images: leave it out"
        )
    level = options.denoise or 0.0
    if not 0 <= level <= enlarging.augment:
        raise ValueError(
            f"--denoise is at most the {enlarging.augment:g} grey levels that this run was trained with (data.augment), "
            f"got {level:g}"
        )
    if options.fit == "tile":
        raise ValueError("an enlarger does not draw in tiles: give --fit resize")
    return enlarged_input(image, options, context)


def enlarged_input(image: "Image", options: Edit, context: RequestContext) -> Plan:
    """The draw of `count` answers, and the overview."""
    enlarging, sampling = image.enlarging, context.model.sampling
    assert enlarging is not None
    given = read(image, Path(options.input), options.fit, side=enlarging.side)
    count = ANSWERS if context.count is None else context.count
    small = image.codec.encode(given.pixels[None]).expand(count, -1, -1, -1)
    values = yield Draw(
        shape=(small.shape[1], enlarging.size, enlarging.size), seeds=seeds_of(context.seed, count), sampling=sampling,
        condition=conditioned(image, options, enlarging.port(small, options.denoise or 0.0), context),
    )  # fmt: skip
    return with_overview(image, values, given, options, context, sampling)


def conditioned(image: "Image", options: Edit, concat: torch.Tensor, context: RequestContext) -> Condition:
    """The smaller images, and what they show if that is known; classes and captions are withheld otherwise."""
    plain, count = replace(image.known, smaller=None), len(concat)
    conditions = plain.blank(count)
    if options.condition:
        conditions = plain.requested(options.condition, count, seed=context.seed, data=context.data)
    condition = image.known.of(conditions, concat=concat).encoded(image.captions)
    assert condition is not None
    if options.condition:
        return condition
    nowhere = torch.zeros(count, dtype=torch.bool)
    rest = {name: port.only(nowhere) for name, port in condition.ports.items() if name != "concat"}
    return replace(condition, **rest)
