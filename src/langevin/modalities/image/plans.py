"""Requests to runs of images: what is drawn, from which conditions and led away from which, and tables of captions."""

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from langevin.diffusion.condition import Condition, Further
from langevin.diffusion.guidance import Composition, weight_of
from langevin.modalities.classification.plan import classify_plan
from langevin.modalities.image.buckets import Size, parsed, spelt
from langevin.modalities.image.conditions import Conditions, items_like
from langevin.modalities.image.data import Images
from langevin.modalities.image.edit import edit_plan
from langevin.modalities.image.enlarge import enlarged, require_cascade
from langevin.modalities.image.explain import explain_plan
from langevin.modalities.image.options import Classify, Edit, Explain, Sample
from langevin.modalities.image.preview import require_one_size
from langevin.modalities.image.reward import rewarded
from langevin.modalities.modality import (
    Draw,
    Plan,
    RequestContext,
    Samples,
    Table,
    seeds_of,
)

if TYPE_CHECKING:
    from langevin.modalities.image.modality import Image

FEW_CLASSES = 12  # up to which each class has its own column in previews
ALSO = 1.5  # the weight of a further condition


def weighed(text: str) -> tuple[str, float]:
    """A name and its weight, from NAME or NAME:WEIGHT. Raises `ValueError` for a weight out of range."""
    name, colon, weight = text.rpartition(":")
    try:
        value = float(weight) if colon else ALSO
    except ValueError:
        return text, ALSO  # the colon belongs to the name
    if colon and (not name or not abs(value) <= 100):
        raise ValueError(f"--also takes NAME or NAME:WEIGHT with a weight within 100 of 0, got '{text}'")
    return name if colon else text, value


def plan(image: "Image", options: Sample | Edit | Explain | Classify, context: RequestContext) -> Plan:
    """The plan of a request; see `Modality.plan`."""
    if isinstance(options, Classify):
        return classify_plan(options, context)
    if isinstance(options, Edit):
        return edit_plan(image, options, context)
    if isinstance(options, Explain):
        if image.enlarge is not None:
            raise ValueError(
                "this run enlarges images, which decides little: explain the run that draws the smaller ones"
            )
        return explain_plan(image, options, context)
    require_cascade(image, options, context)
    size = size_of(image, options, context)
    if (options.rows or options.columns) and options.reward is None:
        return draw_table(image, options, context, size)
    count = 16 if context.count is None else context.count
    conditions = image.known.requested(options.condition, count, seed=context.seed, data=context.data)
    for line in conditions.remarks:
        context.say(line)
    if options.reward is not None:
        return rewarded(image, conditions, options, context, count, one_size(image, size, conditions.labels))
    if options.particles is not None:
        raise ValueError("--particles are weighted by a --reward: give one")
    columns = 10 if len(set(conditions.names)) == 10 else None
    avoided = ports_avoided(image, options, context, count)
    further = further_conditions(image, options, context, count)
    return draw(
        image, conditions, context, count, options=options, columns=columns, avoided=avoided, further=further,
        sizes=None if size is None else [size] * count,
    )  # fmt: skip


def size_of(image: "Image", options: Sample, context: RequestContext) -> Size | None:
    """The width and height that a request names, of a run's own the nearest in ratio; None if it names none.

    Raises:
        ValueError: what is no size or ratio, or one that the run does not draw."""
    wanted = parsed(options.size, options.ratio)
    assert image.size, "the modality of a run is fitted"
    if wanted is None:
        return None
    if image.buckets is None:
        own = (image.size, image.size)
        if wanted != own and (options.size is not None or wanted[0] != wanted[1]):
            option = "--ratio" if options.size is None else "--size"
            raise ValueError(
                f"{option} is of runs with data.buckets, and this one draws {spelt(own)} only: leave it out"
            )
        return own
    size = image.buckets.sizes[image.buckets.nearest(wanted, trained=True)]
    if size != wanted:
        context.say(f"{options.size or options.ratio}: the nearest that this run draws is {spelt(size)}")
    return size


def one_size(image: "Image", size: Size | None, labels: torch.Tensor | None = None) -> Size:
    """The size of requests of one shape: the one asked for, or that of most training images of the classes `labels`."""
    assert image.size, "the modality of a run is fitted"
    return size or ((image.size, image.size) if image.buckets is None else image.buckets.usual(labels))


def ports_avoided(image: "Image", options: Sample, context: RequestContext, count: int) -> Condition | None:
    """The ports of what guidance leads away from; None if the options name nothing.

    Raises:
        ValueError: an unknown class, or no guidance, without which it would have no effect."""
    if not options.avoid:
        return None
    if weight_of(context.model.sampling.guidance) <= 1:
        raise ValueError("--avoid leads guidance away from a condition, and there is none: give --guidance above 1")
    conditions = image.known.requested(options.avoid, count, seed=context.seed, data=context.data)
    condition = conditions.encoded(image.captions)
    return None if condition is None else replace(Condition(), **condition.ports)


def further_conditions(image: "Image", options: Sample, context: RequestContext, count: int) -> tuple[Further, ...]:
    """The conditions of `--also`, with their weights.

    Raises:
        ValueError: an unknown class, or a weight that is no number."""
    found = list[Further]()
    for text in options.also:
        name, weight = weighed(text)
        conditions = image.known.requested((name,), count, seed=context.seed, data=context.data)
        condition = conditions.encoded(image.captions)
        assert condition is not None, "a run without conditions refuses names"
        found.append(Further(ports=condition, weight=torch.full((count,), weight, dtype=torch.float64)))
    return tuple(found)


def draw_table(image: "Image", options: Sample, context: RequestContext, size: Size | None) -> Plan:
    """A table with one image per pair of row and column words, all of one size; captions absent from training are marked.

    Raises:
        ValueError: rows without columns, or a run that is not conditioned on captions alone."""
    if not options.rows or not options.columns or options.condition or context.count is not None:
        raise ValueError("a table takes --rows and --columns, and neither --condition nor --count")
    if image.captions is None or image.classes:
        raise ValueError("a table needs captions, and this run is not conditioned on captions alone")
    captions = [f"{row} {column}" for row in options.rows for column in options.columns]
    conditions = image.known.requested(captions, len(captions), seed=context.seed, data=context.data)
    for line in conditions.remarks:
        context.say(line)
    trained = set(context.data()[0].captions or ())
    table = Table(
        rows=options.rows, columns=options.columns, marked=tuple(caption not in trained for caption in captions),
        note="captions absent from training",
    )  # fmt: skip
    avoided = ports_avoided(image, options, context, len(captions))
    return draw(
        image, conditions, context, len(captions), options=options, columns=len(options.columns), table=table,
        avoided=avoided, sizes=[one_size(image, size)] * len(captions),
    )  # fmt: skip


def preview_plan(image: "Image", context: RequestContext) -> Plan:
    """Two images of each of a few classes, or 16 like held-out ones."""
    few = 0 < len(image.classes) <= FEW_CLASSES and image.enlarge is None
    count = 2 * len(image.classes) if few else 16
    conditions = image.known.shown(lambda: context.data()[1], count)
    return draw(image, conditions, context, count, columns=len(image.classes) if few else None)


def plan_like(image: "Image", dataset: Images, context: RequestContext) -> Plan:
    """Images with the conditions and the sizes of a part of the data."""
    count, sizes = context.count or len(dataset), None
    if image.buckets is not None and dataset.buckets is not None:
        sizes = [image.buckets.sizes[i] for i in dataset.buckets[items_like(dataset, count)].tolist()]
    return draw(image, image.known.like(dataset, count), context, count, sizes=sizes)


def draw(
    image: "Image",
    conditions: Conditions,
    context: RequestContext,
    count: int,
    *,
    options: Sample = Sample(),  # noqa: B008
    columns: int | None = None,
    table: Table | None = None,
    avoided: Condition | None = None,
    further: tuple[Further, ...] = (),
    sizes: list[Size] | None = None,
) -> Plan:
    """The plan of `count` images with these conditions and `further` ones, led away from those `avoided`, and enlarged
    by the runs that the options name. One draw for each size; by default each sample has one of those of its class, by
    frequency.

    Raises:
        ValueError: an animation of several sizes."""
    assert image.size, "the modality of a run is fitted"
    assert image.channels, "the modality of a run is fitted"
    labels = {} if conditions.labels is None else {"labels": conditions.labels}
    condition = conditions.encoded(image.captions)
    if avoided is not None:
        condition = replace(condition or Condition(), reference=avoided)
    sampling = context.model.sampling
    if further:
        condition = replace(condition or Condition(), further=further)
        sampling = replace(sampling, guidance=(*sampling.guidance, Composition()))
    seeds = seeds_of(context.seed, count)
    if sizes is None:
        own = (image.size, image.size)
        sizes = [own] * count if image.buckets is None else image.buckets.drawn(seeds, conditions.labels)
    if context.animated:
        require_one_size(len(set(sizes)))
    modality, decoded = image, dict[int, torch.Tensor]()
    values: torch.Tensor | list[torch.Tensor] = []
    for width, height in sorted(set(sizes)):
        index = torch.tensor([i for i, size in enumerate(sizes) if size == (width, height)])
        own = condition if condition is None or len(index) == count else condition.select(index)
        shape = image.codec.shape((image.channels, height, width))
        x = yield Draw(shape=shape, seeds=seeds[index], sampling=sampling, condition=own)
        modality, x = yield from enlarged(image, x, conditions, options, context, seeds)  # which is of one size
        values = modality.decode(x)
        decoded |= dict(zip(index.tolist(), values, strict=True))
    if len(set(sizes)) > 1:
        values = [decoded[i] for i in range(count)]
    return Samples(
        modality=modality, values=values, names=conditions.names, columns=columns, table=table,
        arrays={"seed": seeds, **labels},
    )  # fmt: skip
