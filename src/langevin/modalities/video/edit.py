"""Clips of which a region, or some frames, are drawn anew.

What is kept is a measurement, and guidance makes the samples agree with it; whole frames are given to a run with a noise
level per frame as it was trained to read them. Outside of what is drawn the answers are the input, to the bit.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.guidance import MMPS
from langevin.diffusion.measurement import Mask, Measurement
from langevin.diffusion.sampler import Ancestral
from langevin.modalities.modality import Draw, Plan, RequestContext, Samples, seeds_of
from langevin.modalities.video import plans
from langevin.modalities.video.clip_files import Look
from langevin.modalities.video.codec import Pixels
from langevin.modalities.video.options import Edit

if TYPE_CHECKING:
    from langevin.modalities.video.modality import Video

ANSWERS = 4  # by default
STEPS = 40  # of a region by default
NOISE = 1.0  # standard deviation of what is given, in grey levels of 255


def edit_plan(video: "Video", options: Edit, context: RequestContext) -> Plan:
    """The plan of an edit.

    Raises:
        ValueError: nothing or all to draw, or a clip that does not fit the run."""
    clip = plans.read(video, options.input)
    if len(clip) < 2 or len(clip) > video.window:
        raise ValueError(
            f"{options.input} has {len(clip)} frames at {video.known_fps:g} a second, and this run edits clips of 2 to "
            f"{video.window}"
        )
    if options.mask is None and not options.frames:
        raise ValueError("nothing to edit: give --mask X,Y,WIDTH,HEIGHT, or --frames FROM,TO, or both")
    hidden = spans(options.frames, len(clip))[:, None, None] & region(video, options.mask)
    if bool(hidden.all()):
        raise ValueError(
            "all of the clip would be drawn anew, so that nothing is given: draw one with `langevin sample`"
        )
    texts = () if options.text is None else (options.text,)
    count = ANSWERS if context.count is None else context.count
    captions = plans.captions_of(video, texts, count, context, silent=True)
    if context.guided and captions is None:
        raise ValueError("--guidance leads to a caption: give --text, or leave it out")
    wanted = plans.Wanted(captions=captions, count=count, frames=len(clip), given=clip)
    if options.mask is None and video.leveled(context.model):
        known = ~hidden[:, 0, 0]
        return plans.drawn(video, replace(wanted, known=known), context, context.model.sampling)
    return region_drawn(video, wanted, hidden, context)


def region_drawn(video: "Video", wanted: plans.Wanted, hidden: Tensor, context: RequestContext) -> Plan:
    """The plan of answers in the part `hidden` (frames, side, side) bool of a clip."""
    assert wanted.given is not None, "an edit has an input"
    if not isinstance(video.codec, Pixels):
        raise ValueError(
            "a part of a frame is measured in pixels, and this run draws latents: give --frames, not --mask"
        )
    last = torch.arange(len(hidden) + plans.padding(context.model, video.window, len(hidden))).clamp_max(
        len(hidden) - 1
    )
    y = video.codec.encode(wanted.given[last][None])
    seen = ~hidden[last][None, None].expand(1, y.shape[1], -1, -1, -1)
    shape = tuple(y.shape[1:])
    std = NOISE * float(video.codec.scale or 1)
    measured = Measurement(
        operator=Mask(seen=seen), y=torch.where(seen, y, 0.0), noise=torch.tensor([std]), shape=shape
    )
    measured.check()
    repeated = measured.map(lambda part: part.expand(wanted.count, *part.shape[1:]))
    condition = replace(plans.conditioned(video, wanted) or Condition(), measurement=repeated)
    sampling = context.model.sampling
    kept = sampling.guidance if wanted.captions is not None else ()
    sampling = replace(sampling, guidance=(*kept, MMPS()))
    sampling = sampling if "sampler" in context.chosen else replace(sampling, sampler=Ancestral())
    sampling = sampling if "steps" in context.chosen else replace(sampling, steps=STEPS)
    seeds = seeds_of(context.seed, wanted.count)
    x = yield Draw(shape=shape, seeds=seeds, sampling=sampling, condition=condition)
    values = torch.where(hidden[None, :, None], video.codec.decode(x)[:, : len(hidden)], wanted.given)
    return Samples(modality=video, values=list(values), names=wanted.names, arrays={"seed": seeds}, sampling=sampling)


def spans(texts: tuple[str, ...], count: int) -> Tensor:
    """(count,) bool: the frames of FROM,TO. All without any. Raises `ValueError` for one outside the clip."""
    if not texts:
        return torch.ones(count, dtype=torch.bool)
    drawn = torch.zeros(count, dtype=torch.bool)
    for text in texts:
        words = text.split(",")
        if len(words) != 2 or not all(word.strip().isdecimal() for word in words):
            raise ValueError(f"--frames {text} is not FROM,TO, two numbers of frames")
        first, last = map(int, words)
        if not first < last <= count:
            raise ValueError(f"--frames {text} is not within a clip of {count} frames, counted from 0")
        drawn[first:last] = True
    return drawn


def region(video: "Video", mask: str | None) -> Tensor:
    """(side, side) bool: the part that is drawn anew. Raises `ValueError` for one outside the frame, or of nothing."""
    side = video.frame_shape[1]
    if mask is None:
        return torch.ones(side, side, dtype=torch.bool)
    part, words = torch.zeros(side, side, dtype=torch.bool), mask.split(",")
    if all(word.strip().lstrip("-").isdecimal() for word in words):
        if len(words) != 4:
            raise ValueError(
                f"--mask {mask} has {len(words)} numbers: write X,Y,WIDTH,HEIGHT in pixels, or name a file"
            )
        x, y, width, height = map(int, words)
        if min(x, y) < 0 or min(width, height) < 1 or x + width > side or y + height > side:
            raise ValueError(f"--mask {mask} is not within a frame of {side} x {side} pixels")
        part[y : y + height, x : x + width] = True
        return part
    if not Path(mask).is_file():
        raise ValueError(f"--mask {mask} is neither X,Y,WIDTH,HEIGHT nor a file")
    try:
        with Image.open(mask) as image:
            image.load()
            looks = [Look(size=side, channels=1, background=(v, v, v)).pixels(image)[0].int() for v in (255, 0)]
    except Exception as error:
        raise ValueError(f"--mask {mask} is no picture that can be read ({error})") from error
    part = looks[0] - looks[1] >= 128
    part = part if bool(part.any()) else looks[0] >= 128
    if not bool(part.any()):
        raise ValueError(f"--mask {mask} covers nothing: it is white or transparent where is drawn")
    return part
