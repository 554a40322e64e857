"""What all edits share: how answers are drawn, what they are conditioned on, and how they are shown."""

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.process.gaussian import Gaussian
from langevin.diffusion.sampler import Ancestral
from langevin.diffusion.sampling import Sampling
from langevin.diffusion.schedule import AnySchedule
from langevin.modalities.image.edit.inputs import Given, sized
from langevin.modalities.image.options import Edit
from langevin.modalities.modality import RequestContext, Samples, seeds_of

if TYPE_CHECKING:
    from langevin.modalities.image.modality import Image

ANSWERS = 8  # by default
STEPS = 40  # of an edit by default


def stochastic(context: RequestContext) -> Sampling:
    """The model's sampling, with a sampler that forgets its errors unless the user chose one."""
    sampling = context.model.sampling
    sampling = sampling if "sampler" in context.chosen else replace(sampling, sampler=Ancestral())
    return sampling if "steps" in context.chosen else replace(sampling, steps=STEPS)


def schedule_of(context: RequestContext) -> AnySchedule:
    """The schedule of the run's process."""
    process = context.model.parts.process
    assert isinstance(process, Gaussian), "images are continuous"
    return process.schedule


def first_time(sampling: Sampling, context: RequestContext) -> Tensor:
    """The noisiest time of a sampling."""
    return sampling.grid(torch.tensor([sampling.steps]), schedule_of(context))[0, 0]


def conditioned(image: "Image", names: tuple[str, ...], count: int, context: RequestContext) -> Condition | None:
    """The condition of `count` images; withheld without names."""
    conditions = image.known.blank(count)
    if names:
        conditions = image.known.requested(names, count, seed=context.seed, data=context.data)
    for line in conditions.remarks:
        context.say(line)
    condition = conditions.encoded(image.captions)
    return condition if names or condition is None else condition.dropped()


def with_overview(
    image: "Image", x: Tensor, given: Given, options: Edit, context: RequestContext, sampling: Sampling
) -> Samples:
    """The answers, then the input, and the mean and the spread of answers to one question."""
    answers = image.decode(x)
    names = [f"answer {i + 1}" for i in range(len(x))]
    seeds = seeds_of(context.seed, len(x))
    spread = image.codec.encode(torch.zeros_like(answers[:1])) + 2 * x.std(0, correction=0)[None]
    shown, names = [answers, sized(given, answers)], [*names, "input"]
    if (
        len(x) > 1
        and not options.invert
        and not options.source
        and options.between is None
        and len(set(options.to)) < 2
    ):
        shown += [image.decode(x.mean(0, keepdim=True)), image.decode(spread)]
        names += ["mean", "spread, doubled"]
        if options.spread:
            shown += [image.decode(x.amin(0, keepdim=True)), image.decode(x.amax(0, keepdim=True))]
            names += ["smallest", "largest"]
    arrays = {"seed": torch.cat([seeds, torch.full((len(names) - len(x),), -1)])}
    return Samples(
        modality=image,
        values=torch.cat(shown),
        names=tuple(names),
        arrays=arrays,
        columns=len(names),
        sampling=sampling,
        num_drawn=len(x),
    )  # fmt: skip
