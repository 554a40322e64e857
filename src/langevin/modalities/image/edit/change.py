"""Changes: from an image with noise, or from the noise that the flow takes it to; between two images, or two runs."""

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from langevin.diffusion.sampler import Heun, KarrasGrid
from langevin.diffusion.sampling import Sampling
from langevin.diffusion.schedule import rho
from langevin.modalities.image.codec import Codes
from langevin.modalities.image.edit.drawing import (
    ANSWERS,
    STEPS,
    conditioned,
    schedule_of,
    stochastic,
    with_overview,
)
from langevin.modalities.image.edit.inputs import Given, read
from langevin.modalities.image.metrics import RandomConvolutions
from langevin.modalities.image.options import Edit
from langevin.modalities.modality import Draw, Plan, RequestContext, seeds_of

if TYPE_CHECKING:
    from langevin.modalities.image.modality import Image


def restyled(image: "Image", options: Edit, context: RequestContext) -> Plan:
    """The plan of a change: from the image with noise, or by the flow."""
    assert image.size, "the modality of a run is fitted"
    if isinstance(image.codec, Codes):
        raise ValueError(
            "a change follows the noise of pixels or latents, and this run draws codes: train one of latents"
        )
    given = read(image, Path(options.input), options.fit, side=image.size)
    x = image.codec.encode(given.pixels[None])
    if options.between is not None:
        other = read(image, Path(options.between), options.fit, side=image.size)
        return between(image, options, context, x, image.codec.encode(other.pixels[None]), given)
    if options.invert or options.source:
        return inverted(image, options, context, x, given)
    count = ANSWERS if context.count is None else context.count
    return varied(image, options, context, x.expand(count, -1, -1, -1), given)


def varied(image: "Image", options: Edit, context: RequestContext, x: Tensor, given: Given) -> Plan:
    """The image with noise, and from there anew ("SDEdit: Guided Image Synthesis and Editing with Stochastic Differential
    Equations", 2021, arXiv:2108.01073)."""
    condition = conditioned(image, options.to or options.condition, len(x), context)
    strength = 0.6 if options.strength is None else options.strength
    sampling = from_strength(stochastic(context), strength, context)
    values = yield Draw(
        shape=tuple(x.shape[1:]), seeds=seeds_of(context.seed, len(x)), condition=condition, clean=x, sampling=sampling
    )
    return with_overview(image, values, given, options, context, stochastic(context))


def inverted(image: "Image", options: Edit, context: RequestContext, x: Tensor, given: Given) -> Plan:
    """To noise by the flow under what the image shows, and back under the new condition; of two runs, by both flows."""
    count = max(1, len(options.to)) if context.count is None else context.count
    x = x.expand(count, -1, -1, -1)
    model = "source" if options.source else "run"
    noise, sampling = (yield from to_noise(image, options, context, x, model)), flow(context)
    values = yield Draw(
        shape=tuple(x.shape[1:]), seeds=seeds_of(context.seed, count), sampling=sampling, x=noise,
        condition=conditioned(image, options.to, count, context),
    )  # fmt: skip
    if options.source:
        moved(image, x[:1], values, context)
    return with_overview(image, values, given, options, context, sampling)


def moved(image: "Image", before: Tensor, after: Tensor, context: RequestContext) -> None:
    """Say how much of content and style changed: the coarse of the image, and its place among this run's images.

    Content is the correlation of the means of 4 x 4 squares. Style is the distance in random features to the mean of the
    run's training images, in units of their own mean distance to it."""
    space = RandomConvolutions(channels=before.shape[1])
    train = context.data()[0]
    own = space.features(train.read(torch.arange(min(len(train), 512)) * len(train) // min(len(train), 512)))
    centre = own.mean(0)
    usual = (own - centre).norm(dim=1).mean()
    style = [float((space.features(image.decode(x)) - centre).norm(dim=1).mean() / usual) for x in (before, after)]
    side = min(4, before.shape[-1])
    coarse = [torch.nn.functional.adaptive_avg_pool2d(x, side).flatten(1) for x in (before, after)]
    a, b = (part - part.mean(1, keepdim=True) for part in coarse)
    content = float(((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp_min(1e-12)).mean())
    context.say(
        f"content: the coarse correlates {content:.2f} with the input; style: {style[0]:.2f} from this run's images, "
        f"{style[1]:.2f} after (1 is usual)"
    )


def between(image: "Image", options: Edit, context: RequestContext, x: Tensor, y: Tensor, given: Given) -> Plan:
    """Images on the arc between the noises of two."""
    count = ANSWERS if context.count is None else context.count
    noise, sampling = (yield from to_noise(image, options, context, torch.cat([x, y]))), flow(context)
    share = torch.linspace(0, 1, count + 2)[1:-1]
    values = yield Draw(
        shape=tuple(x.shape[1:]), seeds=seeds_of(context.seed, count), sampling=sampling, x=arc(noise[0], noise[1], share),
        condition=conditioned(image, options.condition, count, context),
    )  # fmt: skip
    return with_overview(image, values, given, options, context, sampling)


def to_noise(
    image: "Image", options: Edit, context: RequestContext, x: Tensor, model: str = "run"
) -> Generator[Draw, Tensor, Tensor]:
    """The noises that the flow of a model takes images to, under what they show, in the scale of the run."""
    own, sampling = schedule_of(context), flow(context)
    low, schedule, modality = replace(sampling, grid=KarrasGrid(to_zero=False)), own, image
    if model != "run":
        other = context.model.others[model]
        modality, schedule = other.modality, schedule_of(replace(context, model=other))
        if (modality.kind, modality.size, modality.channels) != (image.kind, image.size, image.channels):
            raise ValueError("--source is a run of images of another size or number of channels: both must be equal")
    times, mine = (low.grid(torch.tensor([low.steps]), one)[0] for one in (schedule, own))
    noise = yield Draw(
        shape=tuple(x.shape[1:]), seeds=seeds_of(context.seed, len(x)), sampling=low, rising=True, model=model,
        x=schedule.alpha(times[-1]).float() * x, condition=conditioned(modality, options.condition, len(x), context),
    )  # fmt: skip
    return noise * (own.alpha(mine[0]) / schedule.alpha(times[0])).float()


def flow(context: RequestContext) -> Sampling:
    """Sampling that follows the flow closely enough to come back, without guidance unless the user chose it."""
    sampling = context.model.sampling
    guidance = sampling.guidance if "guidance" in context.chosen else ()
    steps = sampling.steps if "steps" in context.chosen else STEPS
    return replace(sampling, sampler=Heun(), steps=steps, grid=KarrasGrid(), guidance=guidance)


def from_strength(sampling: Sampling, strength: float, context: RequestContext) -> Sampling:
    """The sampling from the noise level at which x_t is (1 - strength) parts image and `strength` parts noise, each of
    standard deviation 1: sigma / alpha = s_d strength / (1 - strength). Its steps are about as dense as before."""
    schedule, process = schedule_of(context), context.model.parts.process
    level = process.sigma_data * strength / max(1e-6, 1 - strength)  # type: ignore[union-attr]
    levels = rho(schedule, sampling.grid(torch.tensor([sampling.steps]), schedule)[0, :-1])
    steps = int((levels < level).sum())
    if steps == len(levels):
        return sampling
    low = min(float(levels[-1]), level / 10)
    return replace(sampling, grid=KarrasGrid(low=low, high=level), steps=max(2, steps))


def arc(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Spherical interpolation from a to b, (n, ...) for shares (n,)."""
    cosine = (a * b).sum() / (a.norm() * b.norm())
    angle = torch.arccos(cosine.clamp(-1, 1)).clamp_min(1e-6)
    u, v = (torch.sin(part * angle) / torch.sin(angle) for part in (1 - share, share))
    return u.reshape(-1, *(1,) * a.ndim) * a + v.reshape(-1, *(1,) * a.ndim) * b
