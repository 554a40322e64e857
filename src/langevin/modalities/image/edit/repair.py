"""Repairs: what is given becomes a `Measurement`, and guidance makes samples agree with it.

So every repair is one draw, and several answers to one input are samples of the posterior: their spread tells what the
image does not. Noise alone needs no guidance: an image with noise s is x_t / alpha at sigma / alpha = s, from which the
reverse process draws exactly.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.constraints import CoarseBand, Constrained
from langevin.diffusion.guidance import DDNM, DPS, MMPS, AnyGuidance, Box, PiGDM
from langevin.diffusion.measurement import AnyOperator, Chain, Mask, Measurement
from langevin.diffusion.measurement.kinds import downsampling, gaussian_blur, grey
from langevin.diffusion.process.gaussian import Gaussian
from langevin.diffusion.sampler import KarrasGrid
from langevin.diffusion.sampling import Sampling
from langevin.modalities.image.codec import require_pixels
from langevin.modalities.image.edit.drawing import (
    ANSWERS,
    conditioned,
    first_time,
    schedule_of,
    stochastic,
    with_overview,
)
from langevin.modalities.image.edit.inputs import LARGEST, Given, drawn, read
from langevin.modalities.image.options import Edit
from langevin.modalities.modality import Draw, Plan, RequestContext, seeds_of
from langevin.modalities.posterior import Problem, daps, split_gibbs

if TYPE_CHECKING:
    from langevin.modalities.image.modality import Image

METHODS: dict[str, AnyGuidance] = {"mmps": MMPS(), "pigdm": PiGDM(), "ddnm": DDNM(), "dps": DPS()}
TURNS = {"daps": daps, "gibbs": split_gibbs}  # methods that are no guidance


def restored(image: "Image", options: Edit, context: RequestContext) -> Plan:
    """The plan of a repair."""
    assert image.size, "the modality of a run is fitted"
    pixels = require_pixels(image.codec, "what is seen of an image")
    factor, border = options.enlarge or 1, options.outpaint or 0
    if image.size % factor or 2 * border >= image.size:
        what = f"--enlarge {factor}" if border == 0 else f"--outpaint {border}"
        raise ValueError(f"{what} does not fit a run of {image.size} x {image.size} pixels")
    side = image.size // factor - 2 * border
    given = read(image, Path(options.input), options.fit, side=side, least=max(1, side))
    others = border or any((options.denoise, options.deblur, options.enlarge, options.colour, options.lock_coarse))
    if others and options.mask is None and bool(given.hidden.any()):
        given = replace(given, hidden=torch.zeros_like(given.hidden))
        context.say(f"{Path(options.input).name} is partly transparent: that is white, as in training")
    y = image.codec.encode(given.pixels[None])
    if border:
        given, y = framed(given, y, border)
    height, width = (n * factor for n in y.shape[2:])
    if height * width > LARGEST and (height, width) != (image.size, image.size):
        raise ValueError(f"the answers would have {width} x {height} pixels, more than {LARGEST:,}: give --fit resize")
    operators, masked = measured_by(image, options, given, y, (height, width), context)
    if not operators and options.denoise is None and not bool(given.hidden.any()):
        raise ValueError(
            "nothing to edit: give --mask, --denoise, --deblur, --enlarge, --colour, --outpaint or --lock-coarse to "
            "repair, or --to, --strength or --between to change"
        )
    shape, std = (y.shape[1], height, width), (options.denoise or options.noise) * pixels.scale
    sampling = restoring(context, options)
    if not operators:
        if options.method != Edit.method:
            raise ValueError("noise alone is removed without guidance, so --method has no effect: leave it out")
        return posterior_samples(
            image, options, context, shape, given, sampling=denoising(sampling, std, context), noisy=y
        )
    operator = operators[0]
    for one in operators[1:]:
        operator = Chain(first=operator, second=one)
    if options.colour:
        y = grey(1).forward(y)
    if options.lock_coarse:
        y = operators[0].forward(y)
    if masked is not None:
        y = torch.where(masked, 0.0, y)
    if options.method in TURNS:
        if (height, width) != (image.size, image.size):
            raise ValueError(f"--method {options.method} does not draw in tiles: leave --fit tile out")
        if context.guided or "sampler" in context.chosen:
            raise ValueError(f"--method {options.method} has a sampler of its own, and no guidance: leave these out")
    measurement = Measurement(operator=operator, y=y, noise=torch.tensor([std]), shape=shape)
    measurement.check()
    exact = options.noise <= 1 and options.denoise is None
    kept = y if masked is not None and len(operators) == 1 and exact else None
    locked = None
    if options.lock_coarse and exact:
        locked = CoarseBand(side=height // options.lock_coarse, means=y, box=value_range(image))
    return posterior_samples(
        image, options, context, shape, given, sampling=sampling, measurement=measurement, kept=kept, masked=masked,
        locked=locked,
    )  # fmt: skip


def value_range(image: "Image") -> tuple[float, float]:
    """The values of x of black and white."""
    low, high = (float(end) for end in image.codec.encode(torch.tensor([0, 255], dtype=torch.uint8)))
    return low, high


def framed(given: Given, y: Tensor, border: int) -> tuple[Given, Tensor]:
    """The input with a transparent border."""
    pad = torch.nn.functional.pad
    hidden = pad(given.hidden, [border] * 4, value=True)
    y = pad(y, [border] * 4)
    return replace(given, hidden=hidden, pixels=pad(given.pixels, [border] * 4, value=127)), y


def measured_by(
    image: "Image", options: Edit, given: Given, y: Tensor, space: tuple[int, int], context: RequestContext
) -> tuple[list[AnyOperator], Tensor | None]:
    """The operators from an image to the input, in order, and the part of y that is not given (1, 1, h, w)."""
    height, width = space
    operators = list[AnyOperator]()
    if options.deblur:
        operators.append(gaussian_blur(options.deblur, height=height, side=width, count=1))
    if options.enlarge:
        operators.append(downsampling(options.enlarge, height=height, side=width, count=1))
    if options.lock_coarse:
        if height % options.lock_coarse or width % options.lock_coarse or height == options.lock_coarse:
            raise ValueError(
                f"--lock-coarse {options.lock_coarse} does not divide an image of {width} x {height} pixels into squares"
            )
        operators.append(downsampling(height // options.lock_coarse, height=height, side=width, count=1))
    if options.colour:
        if image.channels != 3:
            raise ValueError("--colour needs a run of colour images, and this one is of grey images")
        operators.append(grey(1))
    if options.mask is None and not bool(given.hidden.any()):
        return operators, None
    if options.mask is None and not options.outpaint:
        context.say(f"{Path(options.input).name} is partly transparent: what is so is drawn anew")
    masked = drawn(options.mask, given)[None, None]
    channels = 1 if options.colour else y.shape[1]
    operators.append(Mask(seen=~masked.expand(1, channels, -1, -1)))
    return operators, masked


def restoring(context: RequestContext, options: Edit) -> Sampling:
    """The sampling of a repair: unguided by a condition, which narrows the answers, unless the user chose it."""
    sampling = stochastic(context)
    guidance = sampling.guidance if "guidance" in context.chosen else ()
    low, high = value_range(context.model.modality)
    method = (METHODS[options.method],) if options.method in METHODS else ()
    sampling = replace(sampling, guidance=(*guidance, *method, Box(low=low, high=high)))
    return replace(sampling, steps=1000) if options.method == "dps" and "steps" not in context.chosen else sampling


def denoising(sampling: Sampling, std: float, context: RequestContext) -> Sampling:
    """The sampling from an image with noise of `std`, for which no measurement is needed."""
    grid = KarrasGrid(low=min(getattr(sampling.grid, "low", 0.002), std / 10), high=std)
    guidance = tuple(method for method in sampling.guidance if method not in METHODS.values())
    return replace(sampling, grid=grid, guidance=guidance)


def posterior_samples(
    image: "Image", options: Edit, context: RequestContext, shape: tuple[int, ...], given: Given, *, sampling: Sampling,
    measurement: Measurement | None = None, noisy: Tensor | None = None, kept: Tensor | None = None,
    masked: Tensor | None = None, locked: CoarseBand | None = None,
) -> Plan:  # fmt: skip
    """The plan of `count` answers to one input, with the overview.

    Args:
        noisy: the input with the noise that the sampling begins with, in place of a measurement.
        kept: what is put back to the bit outside of `masked` (1, 1, h, w) bool.
        locked: what every mean, and the answer, is projected onto."""
    count = ANSWERS if context.count is None else context.count
    condition = conditioned(image, options.condition, count, context)
    repeated = None
    if measurement is not None:
        repeated = measurement.map(lambda part: part.expand(count, *part.shape[1:]))
        condition = replace(condition or Condition(), measurement=repeated)
    x = None
    if noisy is not None:
        x = schedule_of(context).alpha(first_time(sampling, context)).float() * noisy.expand(count, -1, -1, -1)
    tile = None if shape[1:] == (image.size, image.size) else image.size
    if measurement is not None and options.method in TURNS:
        process = context.model.parts.process
        assert isinstance(process, Gaussian), "images are continuous"
        problem = Problem(
            process=process, shape=shape, seeds=seeds_of(context.seed, count), sampling=sampling,
            condition=None if condition is None else replace(condition, measurement=None),
        )  # fmt: skip
        assert repeated is not None
        values = yield from TURNS[options.method](problem, repeated)
    else:
        values = yield Draw(
            shape=shape, seeds=seeds_of(context.seed, count), sampling=sampling, condition=condition, x=x, tile=tile,
            wrap=None if locked is None else lambda denoiser: Constrained(denoiser=denoiser, constraints=(locked,)),
        )  # fmt: skip
    if locked is not None:
        values = locked.project(values)
    if kept is not None and masked is not None:
        values = torch.where(masked, values, kept)
    return with_overview(image, values, given, options, context, sampling)
