"""Images that are given in part, blurred, noisy, small or grey, and drawn as they may have been; or changed to others.

What is given becomes a `Measurement`, and guidance makes samples agree with it. So every repair is one draw, and several
answers to one input are samples of the posterior: their spread tells what the image does not. Noise alone needs no
guidance: an image with noise s is x_t / alpha at sigma / alpha = s, from which the reverse process draws exactly. Restyling
starts from the image with noise, or from the noise that the flow takes it to.
"""

import math
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.guidance import DDNM, DPS, MMPS, AnyGuidance, Box, PiGDM
from langevin.diffusion.measurement import AnyOperator, Chain, Mask, Measurement
from langevin.diffusion.measurement.kinds import downsampling, gaussian_blur, grey
from langevin.diffusion.process.gaussian import Gaussian
from langevin.diffusion.sampler import Ancestral, Heun, KarrasGrid
from langevin.diffusion.sampling import Sampling
from langevin.diffusion.schedule import AnySchedule, rho
from langevin.modalities.image.decode import decode, stored_size
from langevin.modalities.image.metrics import RandomConvolutions
from langevin.modalities.image.options import Edit
from langevin.modalities.modality import Draw, Plan, RequestContext, Samples, seeds_of
from langevin.modalities.posterior import Problem, daps, split_gibbs

if TYPE_CHECKING:
    from langevin.modalities.image.modality import Image

ANSWERS = 8  # by default
LARGEST = 2**22  # pixels of an input that is not resized
STEPS = 40  # of a restoration by default
METHODS: dict[str, AnyGuidance] = {"mmps": MMPS(), "pigdm": PiGDM(), "ddnm": DDNM(), "dps": DPS()}
TURNS = {"daps": daps, "gibbs": split_gibbs}  # methods that are no guidance
RESTORATIONS = ("mask", "denoise", "deblur", "enlarge", "colour", "outpaint", "lock_coarse")


@dataclass(frozen=True, kw_only=True)
class Given:
    """An input as the run sees it.

    Args:
        pixels: (c, h, w) uint8, of the run's channels, opaque.
        hidden: (h, w) bool, where it is transparent.
        stored: its width and height as stored.
        corner, scale: of the part that was kept: the pixel of its upper left corner, and its pixels per stored pixel.
    """

    pixels: Tensor
    hidden: Tensor
    stored: tuple[int, int]
    corner: tuple[int, int] = (0, 0)
    scale: float = 1.0


def edit_plan(image: "Image", options: Edit, context: RequestContext) -> Plan:
    """The plan of an edit.

    Raises:
        ValueError: options that contradict each other or change nothing, or an input that cannot be read or does not
        fit."""
    require_sense(options)
    if options.to or options.source or options.strength is not None or options.between is not None:
        return restyled(image, options, context)
    return restored(image, options, context)


def require_sense(options: Edit) -> None:
    """Check the options by themselves. Raises `ValueError` for one out of range, or two that exclude each other."""
    repairs = [name for name in RESTORATIONS if getattr(options, name)]
    changes = [name for name in ("to", "strength", "source", "between") if getattr(options, name) not in (None, ())]
    spelt = [f"--{name.replace('_', '-')}" for name in (*repairs, *changes)]
    if repairs and changes:
        raise ValueError(f"{spelt[0]} repairs an image and {spelt[-1]} changes it: do one after the other")
    if options.source and (options.invert or options.strength is not None or options.between is not None):
        raise ValueError("--source takes the image by the flows of two runs: it goes with --to and --condition only")
    if options.invert and not options.to:
        raise ValueError("--invert generates under another condition: give it by --to")
    if options.between is not None and len(changes) > 1:
        raise ValueError(f"--between draws images between two, and {spelt[0]} changes one: do one after the other")
    if options.strength is not None and not 0 < options.strength <= 1:
        raise ValueError(f"--strength is a share of noise, above 0 and at most 1, got {options.strength:g}")
    if options.strength is not None and options.invert:
        raise ValueError("--invert follows the flow all the way, and --strength a part of the way: give one")
    for name in ("denoise", "deblur", "noise"):
        value = getattr(options, name)
        if value is not None and not 0 < value <= 255:
            raise ValueError(f"--{name} is a standard deviation above 0 and at most 255, got {value:g}")
    for name, least in (("enlarge", 2), ("outpaint", 1), ("lock_coarse", 1)):
        value = getattr(options, name)
        if value is not None and not least <= value <= 1024:
            raise ValueError(f"--{name.replace('_', '-')} is a whole number from {least} to 1024, got {value}")
    if options.outpaint and (options.enlarge or options.mask):
        raise ValueError("--outpaint draws a border around the whole input: it takes neither --mask nor --enlarge")
    if options.lock_coarse and len(repairs) > 1:
        raise ValueError(
            f"--lock-coarse draws a whole image anew, and {spelt[0]} a part of one: do one after the other"
        )


# ------------------------------------------------------------------------------------------------------------- inputs


def read(image: "Image", path: Path, fit: str, *, side: int, least: int = 1) -> Given:
    """An input, of `side` x `side` pixels unless it is tiled.

    Args:
        least: pixels along each side of a tiled input.

    Raises:
        ValueError: it cannot be read, or is of another size and `fit` refuses it."""
    assert image.channels, "the modality of a run is fitted"
    columns, lines = stored_size(path)
    if fit != "resize" and columns * lines > LARGEST:
        raise ValueError(f"{path.name} has {columns} x {lines} pixels, more than {LARGEST:,}: give --fit resize")
    whole = decode(path, size=None, channels=image.channels)
    height, width = whole.shape[1:]
    stored = (width, height)
    if (height, width) == (side, side) or (fit == "tile" and min(height, width) >= least):
        return Given(pixels=whole, hidden=transparent(path, None), stored=stored)
    if fit == "resize":
        edge = min(height, width)
        return Given(
            pixels=decode(path, size=side, channels=image.channels), hidden=transparent(path, side), stored=stored,
            corner=((width - edge) // 2, (height - edge) // 2), scale=side / edge,
        )  # fmt: skip
    if fit == "tile":
        raise ValueError(
            f"{path.name} is {width} x {height} pixels, smaller than the {least} of a tile: give --fit resize"
        )
    raise ValueError(
        f"{path.name} is {width} x {height} pixels, and {side} x {side} are needed here: give --fit resize (its "
        "central square, scaled), or --fit tile (at its own size, piece by piece)"
    )


def transparent(path: Path, size: int | None) -> Tensor:
    """(h, w) bool: where an image is more transparent than not."""
    white, black = (
        decode(path, size=size, channels=1, background=(level, level, level))[0].int() for level in (255, 0)
    )  # fmt: skip
    return white - black >= 128


def drawn(mask: str | None, given: Given) -> Tensor:
    """(h, w) bool: the part that is drawn anew.

    Raises:
        ValueError: a mask of another size, of nothing or of all, or a rectangle outside the image."""
    if mask is None:
        part, name = given.hidden, "the input's transparency"
    elif (box := rectangle(mask)) is not None:
        part, name = inside(box, given), f"the mask {mask}"
    else:
        path, name = Path(mask), f"the mask {Path(mask).name}"
        own = decode(path, size=None, channels=1).shape[1:]
        if (own[1], own[0]) != given.stored:
            raise ValueError(
                f"{name} is {own[1]} x {own[0]} pixels, and the image {given.stored[0]} x {given.stored[1]}: they must "
                "be equal"
            )
        size = None if own == given.hidden.shape else given.hidden.shape[0]
        part = transparent(path, size)
        part = part if bool(part.any()) else decode(path, size=size, channels=1)[0] >= 128
    if not bool(part.any()) or bool(part.all()):
        what = "all of the image, so that nothing is given" if bool(part.all()) else "nothing, so that nothing is drawn"
        raise ValueError(f"{name} covers {what}: it is white or transparent where is drawn")
    return part


def rectangle(mask: str) -> tuple[int, int, int, int] | None:
    """x, y, width and height, if the mask is written so. Raises `ValueError` for an empty one."""
    words = mask.split(",")
    if len(words) != 4 or not all(word.strip().lstrip("-").isdigit() for word in words):
        return None
    x, y, width, height = (int(word) for word in words)
    if x < 0 or y < 0 or width < 1 or height < 1:
        raise ValueError(f"--mask {mask} is X,Y,WIDTH,HEIGHT in pixels: X and Y from 0, WIDTH and HEIGHT from 1")
    return x, y, width, height


def inside(box: tuple[int, int, int, int], given: Given) -> Tensor:
    """(h, w) bool: the pixels of a rectangle in stored pixels. Raises `ValueError` if it lies outside the image."""
    x, y, width, height = box
    if x + width > given.stored[0] or y + height > given.stored[1]:
        raise ValueError(
            f"--mask {x},{y},{width},{height} ends at {x + width},{y + height}, and the image is {given.stored[0]} x "
            f"{given.stored[1]} pixels"
        )
    (left, top), k = given.corner, given.scale
    part = torch.zeros_like(given.hidden)
    rows = slice(max(0, math.floor((y - top) * k)), max(0, math.ceil((y + height - top) * k)))
    columns = slice(max(0, math.floor((x - left) * k)), max(0, math.ceil((x + width - left) * k)))
    part[rows, columns] = True
    return part


# ------------------------------------------------------------------------------------------------------- restorations


def restored(image: "Image", options: Edit, context: RequestContext) -> Plan:
    """The plan of a repair."""
    assert image.size, "the modality of a run is fitted"
    factor, border = options.enlarge or 1, options.outpaint or 0
    if image.size % factor or 2 * border >= image.size:
        what = f"--enlarge {factor}" if border == 0 else f"--outpaint {border}"
        raise ValueError(f"{what} does not fit a run of {image.size} x {image.size} pixels")
    side = image.size // factor - 2 * border
    given = read(image, Path(options.input), options.fit, side=side, least=max(1, side))
    y = image.codec.encode(given.pixels[None])
    if border:
        given, y = framed(given, y, border)
    height, width = (n * factor for n in y.shape[2:])
    operators, masked = measured_by(image, options, given, y, (height, width), context)
    if not operators and options.denoise is None and not bool(given.hidden.any()):
        raise ValueError(
            "nothing to edit: give --mask, --denoise, --deblur, --enlarge, --colour, --outpaint or --lock-coarse to "
            "repair, or --to, --strength or --between to change"
        )
    shape, std = (y.shape[1], height, width), (options.denoise or options.noise) * image.codec.scale
    sampling = restoring(context, options)
    if not operators:
        return posterior_samples(
            image, options, context, shape, given, sampling=denoising(sampling, std, context), noisy=y
        )
    operator = operators[0]
    for one in operators[1:]:
        operator = Chain(first=operator, second=one)
    if options.colour:
        y = grey(1).forward(y)
    if options.lock_coarse:
        y = operator.forward(y)
    if masked is not None:
        y = torch.where(masked, 0.0, y)
    measurement = Measurement(operator=operator, y=y, noise=torch.tensor([std]), shape=shape)
    measurement.check()
    exact = options.noise <= 1 and options.denoise is None
    kept = y if masked is not None and len(operators) == 1 and exact else None
    return posterior_samples(
        image, options, context, shape, given, sampling=sampling, measurement=measurement, kept=kept, masked=masked
    )


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
        context.say("the input is partly transparent: what is so is drawn anew")
    masked = drawn(options.mask, given)[None, None]
    channels = 1 if options.colour else y.shape[1]
    operators.append(Mask(seen=~masked.expand(1, channels, -1, -1)))
    return operators, masked


def restoring(context: RequestContext, options: Edit) -> Sampling:
    """The sampling of a repair: unguided by a condition, which narrows the answers, unless the user chose it."""
    sampling, codec = stochastic(context), context.model.modality.codec
    guidance = sampling.guidance if "guidance" in context.chosen else ()
    low, high = (float(end) for end in codec.encode(torch.tensor([0, 255], dtype=torch.uint8)))
    method = (METHODS[options.method],) if options.method in METHODS else ()
    sampling = replace(sampling, guidance=(*guidance, *method, Box(low=low, high=high)))
    return replace(sampling, steps=1000) if options.method == "dps" and "steps" not in context.chosen else sampling


def stochastic(context: RequestContext) -> Sampling:
    """The model's sampling, with a sampler that forgets its errors unless the user chose one."""
    sampling = context.model.sampling
    sampling = sampling if "sampler" in context.chosen else replace(sampling, sampler=Ancestral())
    return sampling if "steps" in context.chosen else replace(sampling, steps=STEPS)


def denoising(sampling: Sampling, std: float, context: RequestContext) -> Sampling:
    """The sampling from an image with noise of `std`, for which no measurement is needed."""
    grid = KarrasGrid(low=min(getattr(sampling.grid, "low", 0.002), std / 10), high=std)
    guidance = tuple(method for method in sampling.guidance if method not in METHODS.values())
    return replace(sampling, grid=grid, guidance=guidance)


def posterior_samples(
    image: "Image", options: Edit, context: RequestContext, shape: tuple[int, ...], given: Given, *, sampling: Sampling,
    measurement: Measurement | None = None, noisy: Tensor | None = None, kept: Tensor | None = None,
    masked: Tensor | None = None,
) -> Plan:  # fmt: skip
    """The plan of `count` answers to one input, with the overview.

    Args:
        noisy: the input with the noise that the sampling begins with, in place of a measurement.
        kept: what is put back to the bit outside of `masked` (1, 1, h, w) bool."""
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
        if tile is not None:
            raise ValueError(f"--method {options.method} does not draw in tiles: leave --fit tile out")
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
            shape=shape, seeds=seeds_of(context.seed, count), sampling=sampling, condition=condition, x=x, tile=tile
        )
    if kept is not None and masked is not None:
        values = torch.where(masked, values, kept)
    return with_overview(image, values, given, options, context, sampling)


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


def sized(given: Given, like: Tensor) -> Tensor:
    """The input at the size of the answers, its transparent part grey."""
    pixels = torch.where(given.hidden, 127, given.pixels)[None]
    factor = like.shape[-1] // pixels.shape[-1]
    return pixels.repeat_interleave(factor, -1).repeat_interleave(factor, -2).to(torch.uint8)


# -------------------------------------------------------------------------------------------------------- restyling


def restyled(image: "Image", options: Edit, context: RequestContext) -> Plan:
    """The plan of a change: from the image with noise, or by the flow."""
    assert image.size, "the modality of a run is fitted"
    given = read(image, Path(options.input), "refuse" if options.fit == "tile" else options.fit, side=image.size)
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


def schedule_of(context: RequestContext) -> AnySchedule:
    """The schedule of the run's process."""
    process = context.model.parts.process
    assert isinstance(process, Gaussian), "images are continuous"
    return process.schedule


def first_time(sampling: Sampling, context: RequestContext) -> Tensor:
    """The noisiest time of a sampling."""
    return sampling.grid(torch.tensor([sampling.steps]), schedule_of(context))[0, 0]


def arc(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Spherical interpolation from a to b, (n, ...) for shares (n,)."""
    cosine = (a * b).sum() / (a.norm() * b.norm())
    angle = torch.arccos(cosine.clamp(-1, 1)).clamp_min(1e-6)
    u, v = (torch.sin(part * angle) / torch.sin(angle) for part in (1 - share, share))
    return u.reshape(-1, *(1,) * a.ndim) * a + v.reshape(-1, *(1,) * a.ndim) * b
