"""Why an image is as it is: what the condition changed, where and when; what the seed decided, and when; what it resembles.

The trajectory of one seed is followed by DDIM, with the run's classifier-free guidance, for the condition as given, without
each of its words, and without any. All of these begin from the same noise, so their differences are effects of an
intervention.
"""

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition, join
from langevin.diffusion.guidance import AnyGuidance, ClassifierFreeGuidance, active
from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.process.gaussian import Gaussian, reverse_step
from langevin.diffusion.sampler import Ancestral, KarrasGrid
from langevin.diffusion.schedule import rho
from langevin.evaluation.report import Curves, Line, Section
from langevin.modalities.captions import split_words
from langevin.modalities.image.codec import require_pixels
from langevin.modalities.image.conditions import Conditions
from langevin.modalities.image.options import Explain
from langevin.modalities.modality import Draw, Explanation, Plan, Predict, Request, RequestContext, Samples
from langevin.networks.attention_maps import attention_to_tokens
from langevin.safety.memorisation import nearest

if TYPE_CHECKING:
    from langevin.modalities.image.modality import Image

HIGHEST = 1000.0  # sigma / alpha of a level, for grids that begin at infinity
LEVELS = 5  # at which the seed is changed
AGAIN = 4  # seeds at each
NEAREST = 4  # training images
SEARCHED = 20_000  # training images, at most
MAPS = 4  # of the influence of the condition, over time


@dataclass(frozen=True, kw_only=True)
class Followed:
    """Trajectories of b conditions from one noise.

    Args:
        x: (steps + 1, b, c, h, w) x_t, noise first; the last is the image.
        times: (steps + 1,) float64.
        influence: (steps, b, h, w): |D_c - D_u| at each pixel, the root mean square over channels.
        attention: (steps, tokens, h, w), of the first condition: how much each pixel attends to each word of the caption,
            averaged over heads and layers; None for a network without attention to it.
    """

    x: Tensor
    times: Tensor
    influence: Tensor
    attention: Tensor | None = None


def explain_plan(image: "Image", options: Explain, context: RequestContext) -> Plan:
    """The plan of an explanation.

    Raises:
        ValueError: more than one condition, or an unknown one."""
    if len(options.condition) > 1:
        raise ValueError(f"one image is explained, of one condition, and {len(options.condition)} are given")
    require_pixels(image.codec, "an explanation")
    if "sampler" in context.chosen:
        raise ValueError("an explanation follows DDIM, so that nothing but the seed is random: leave --sampler out")
    conditions = image.known.requested(options.condition, 1, seed=context.seed, data=context.data)
    parts = parts_of(image, conditions)
    return _explained(image, conditions, parts, context)


def parts_of(image: "Image", conditions: Conditions) -> list[tuple[str, Conditions]]:
    """What is left without each part of a condition: a word of the caption, the class."""
    found = list[tuple[str, Conditions]]()
    if conditions.captions is not None:
        words = split_words(conditions.captions[0])
        for i, word in enumerate(words):
            left = " ".join(words[:i] + words[i + 1 :])
            found.append((word, replace(conditions, captions=[left])))
    return found


def _explained(
    image: "Image", conditions: Conditions, parts: list[tuple[str, Conditions]], context: RequestContext
) -> Plan:
    full = conditions.encoded(image.captions)
    names = [name for name, _ in parts]
    variants = [full, *(one.encoded(image.captions) for _, one in parts)]
    if full is not None:
        names, variants = [*names, "any condition"], [*variants, full.dropped()]
    path = yield from followed(image, [one for one in variants if one is not None], context)
    again = yield from from_levels(path, full, context)
    final = path.x[-1]
    shown = [image.decode(final)]
    titles = ["the image", *(f"without {name}" for name in names)]
    if full is not None:
        shown.append(maps(image, path))
        titles += [f"influence at step {step}" for step in map_steps(path)]
    words = read_words(image, conditions)
    if path.attention is not None and words:
        shown.append(word_maps(image, path.attention, len(words)))
        titles += [f"attention to {word}" for word in words]
    for level, several in again.items():
        shown.append(image.decode(several))
        titles += [f"new seed from {level:.2g}"] * len(several)
    pixels, neighbours = alike(image, shown[0][:1], context)
    shown.append(pixels)
    titles += [f"training, {one['distance']:.1f} away" for one in neighbours]
    return Samples(
        modality=image, values=torch.cat(shown), names=tuple(titles), num_drawn=1, columns=8,
        explanation=explained(image, names, words, path, again, neighbours),
    )  # fmt: skip


def explained(
    image: "Image", names: list[str], words: list[str], path: Followed, again: dict[float, Tensor],
    neighbours: list[dict[str, Any]],
) -> Explanation:  # fmt: skip
    """The findings, in grey levels of 255."""
    final, scale, lines = path.x[-1], require_pixels(image.codec, "an explanation").scale, list[str]()
    tables, curves = dict[str, dict[str, float]](), list[Section]()
    if names:
        change = (final[1:] - final[:1]).flatten(1).square().mean(1).sqrt() / scale
        effects = {name: round(float(c), 2) for name, c in zip(names, change, strict=True)}
        tables["Change of the image without a part of its condition (same seed)"] = effects
        ordered = sorted(effects, key=lambda name: -effects[name])
        lines.append("change without a part, in grey levels: " + ", ".join(f"{n} {effects[n]:.1f}" for n in ordered))
        size = path.influence[:, 0].square().mean((1, 2)).sqrt()
        lines.append(f"the condition matters most at step {int(size.argmax())} of {len(size)}")
        curves.append(curve("Influence of the condition", "step", range(len(size)), size, "|D_c - D_u|"))
    else:
        lines.append("the run has no conditions: what it draws follows from the seed alone")
    spread = {level: float(x.std(0).square().mean().sqrt()) / scale for level, x in again.items()}
    curves.append(
        curve("How much is open", "sigma / alpha from which the seed is another", list(spread), list(spread.values()),
              "spread of images, in grey levels", log=True)
    )  # fmt: skip
    whole = next(iter(spread.values()))
    half = next((level for level, value in spread.items() if value < whole / 2), None)
    said = "is still open at the last level tried" if half is None else f"is decided by sigma / alpha = {half:.2g}"
    lines.append(f"with new seeds from there on, half of the difference between images {said}")
    first = neighbours[0]
    lines.append(
        f"the nearest training image is {first['distance']:.1f} grey levels away"
        + f" ({first['what']})" * bool(first["what"])
    )
    if path.attention is not None and words:
        share = path.attention[:, : len(words)].mean((2, 3))
        over_time = {word: round(float(value), 4) for word, value in zip(words, share.mean(0), strict=True)}
        tables["Attention of the image to each word, of 1 in all (which is not its effect)"] = over_time
        steps = [float(step) for step in range(len(share))]
        lines_of = [Line(label=word, x=steps, y=share[:, i].tolist()) for i, word in enumerate(words)]
        curves.append(
            Curves(heading="Attention by step", lines=lines_of, x_label="step", y_label="attention", caption="By word.")
        )
    figures = {
        "without": tables, "influence": path.influence[:, 0].square().mean((1, 2)).sqrt().tolist(),
        "times": path.times.tolist(), "open": spread, "nearest_training_images": neighbours,
    }  # fmt: skip
    return Explanation(lines=tuple(lines), tables=tables, curves=curves, figures=figures)


def curve(heading: str, x_label: str, x: Any, y: Any, y_label: str, *, log: bool = False) -> Curves:
    """A section with one curve."""
    line = Line(label=heading, x=[float(v) for v in x], y=[float(v) for v in y])
    return Curves(heading=heading, lines=[line], x_label=x_label, y_label=y_label, caption=heading, x_log=log)


def followed(
    image: "Image", variants: list[Condition], context: RequestContext
) -> Generator[Request, Tensor, Followed]:
    """DDIM with classifier-free guidance from the noise of the seed, for each condition; one of none without conditions."""
    model, sampling = context.model, context.model.sampling
    process, weights = model.parts.process, weights_of(sampling.guidance, context)
    assert isinstance(process, Gaussian), "images are continuous"
    assert image.channels, "the modality of a run is fitted"
    assert image.size, "the modality of a run is fitted"
    count = max(1, len(variants))
    condition = join(*variants) if variants else None
    times = sampling.grid(torch.tensor([sampling.steps]), process.schedule)[0]
    noise = SampleNoise(seeds=torch.tensor([context.seed]), steps=torch.tensor([-1]))  # that of `sample`
    like = torch.zeros(1, image.channels, image.size, image.size)
    x = process.prior(like, noise, times[:1]).expand(count, -1, -1, -1)
    states, influence, attention = [x], list[Tensor](), list[Tensor]()
    words = 0 if condition is None or condition.cross is None else condition.cross.tensor.shape[1]
    for t, s in pairwise(times):
        at = t.expand(count)
        with attention_to_tokens(model.parts.network, words) if words else nullcontext(list[Tensor]()) as layers:
            mean = yield Predict(x_t=x, t=at, condition=condition)
        attention += [to_pixels(layers, image.size)] if layers else []
        blank = mean
        if condition is not None:
            blank = yield Predict(x_t=x, t=at, condition=condition.dropped())
        influence.append((mean - blank).square().mean(1).sqrt())
        a, b, _ = (float(value) for value in reverse_step(process.schedule, t, s, 0.0))
        x = a * x + b * (blank + weights(float(rho(process.schedule, t))) * (mean - blank))
        states.append(x)
    return Followed(
        x=torch.stack(states), times=times, influence=torch.stack(influence),
        attention=torch.stack(attention) if attention else None,
    )  # fmt: skip


def to_pixels(layers: list[Tensor], side: int) -> Tensor:
    """(tokens, side, side): the mean over layers of the first sample's attention (b, positions, tokens), as images."""
    maps = list[Tensor]()
    for layer in layers:
        grid = math.isqrt(layer.shape[1])
        own = layer[:1].cpu().mT.unflatten(2, (grid, grid))
        maps.append(torch.nn.functional.interpolate(own, size=(side, side)))
    return torch.cat(maps).mean(0)


def weights_of(guidance: Sequence[AnyGuidance], context: RequestContext) -> Callable[[float], float]:
    """The weight of classifier-free guidance by sigma / alpha; says which other methods an explanation leaves out."""
    others = [method.kind for method in active(guidance) if not isinstance(method, ClassifierFreeGuidance)]
    if others:
        context.say(f"explained without the guidance {', '.join(others)}")
    own = next((method for method in guidance if isinstance(method, ClassifierFreeGuidance)), None)
    if own is None:
        return lambda level: 1.0
    low, high = own.interval or (0.0, float("inf"))
    return lambda level: own.weight if low < level <= high else 1.0


def from_levels(
    path: Followed, condition: Condition | None, context: RequestContext
) -> Generator[Request, Tensor, dict[float, Tensor]]:
    """Images drawn from points of the trajectory with other seeds: by sigma / alpha of the point, noisiest first."""
    process, sampling = context.model.parts.process, context.model.sampling
    assert isinstance(process, Gaussian), "images are continuous"
    steps, found = len(path.times) - 1, dict[float, Tensor]()
    for k in range(LEVELS):
        i = k * (steps - 1) // LEVELS
        level = min(HIGHEST, float(rho(process.schedule, path.times[i])))
        left = max(2, steps - i)
        part = replace(
            sampling, sampler=Ancestral(), steps=left, grid=KarrasGrid(low=min(0.002, level / 10), high=level)
        )
        seeds = context.seed + 1 + k * AGAIN + torch.arange(AGAIN)
        several = None if condition is None else condition.select(torch.zeros(AGAIN, dtype=torch.int64))
        x = path.x[i, :1].expand(AGAIN, -1, -1, -1)
        found[level] = yield Draw(shape=tuple(x.shape[1:]), seeds=seeds, sampling=part, condition=several, x=x)
    return found


def read_words(image: "Image", conditions: Conditions) -> list[str]:
    """The words of the caption that the network reads."""
    if conditions.captions is None or image.captions is None:
        return []
    return split_words(conditions.captions[0])[: image.captions.length]


def word_maps(image: "Image", attention: Tensor, words: int) -> Tensor:
    """Where the image attends to each word, over all steps, (words, c, h, w) uint8, each white where it is most."""
    mean = attention[:, :words].float().mean(0)
    level = (255 * mean / mean.amax((1, 2), keepdim=True).clamp_min(1e-12)).round().to(torch.uint8)
    return level[:, None].expand(-1, image.channels or 1, -1, -1)


def map_steps(path: Followed) -> list[int]:
    """The steps of which the influence is shown."""
    steps = len(path.influence)
    return [k * (steps - 1) // (MAPS - 1) for k in range(MAPS)]


def maps(image: "Image", path: Followed) -> Tensor:
    """Where the condition mattered, (MAPS, c, h, w) uint8, white where most over all of these steps."""
    chosen = path.influence[map_steps(path), 0]
    level = (255 * chosen / chosen.amax().clamp_min(1e-12)).round().to(torch.uint8)
    return level[:, None].expand(-1, image.channels or 1, -1, -1)


def alike(image: "Image", shown: Tensor, context: RequestContext) -> tuple[Tensor, list[dict[str, Any]]]:
    """The nearest training images, uint8, with their distances in grey levels, and their class or caption."""
    train = context.data()[0]
    items = torch.arange(min(len(train), SEARCHED)) * len(train) // min(len(train), SEARCHED)
    pixels = train.read(items)
    distance, index = nearest(pixels, shown, k=min(NEAREST, len(pixels)))
    found = list[dict[str, Any]]()
    for d, i in zip(distance[0], items[index[0]], strict=True):
        what = train.captions[int(i)] if train.captions is not None else ""
        if not what and image.classes and train.labels is not None:
            what = image.known.name_of(int(train.labels[i]))
        found.append({"item": int(i), "distance": round(float(d) / shown[0].numel() ** 0.5, 2), "what": what})
    return pixels[index[0]], found
