"""Measurements on images: metrics with their floor, class consistency, memorisation, loss by noise level."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from langevin.evaluation.frechet import Moments, frechet_distance
from langevin.evaluation.statistics import Interval, mean_interval
from langevin.evaluation.suite import Measures, measure
from langevin.modalities.captions import split_words
from langevin.modalities.image.classifier import Classifier, train_classifier
from langevin.modalities.image.codec import Pixels
from langevin.modalities.image.conditions import Conditions
from langevin.modalities.image.data import Images
from langevin.modalities.image.metrics import PixelPrincipal, RandomConvolutions, class_consistency
from langevin.modalities.image.plans import draw
from langevin.modalities.latents import decoded, encoded
from langevin.modalities.modality import Measuring, Progress, RequestContext, Samples, Scorer, spread
from langevin.networks import Autoencoder
from langevin.safety.memorisation import LossGap, Memorisation, loss_gap, memorisation

if TYPE_CHECKING:
    from langevin.modalities.image.modality import Image

REAL = 10_000  # real images used to fit feature spaces and as reference, at most
BYTES = 2**31  # of training images searched for copies, at most: nearly always all of them


@dataclass(frozen=True, kw_only=True)
class FeatureSpaces:
    """Feature spaces fitted to real training images, and the classifier among them (None without labels)."""

    spaces: Mapping[str, Callable[[Tensor], Tensor]]
    classifier: Classifier | None


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """Whether samples are nearest (L2 in pixels) to the image of their caption, among training and validation images.

    Args:
        share: fraction of captions for which that holds.
        count: number of captions, with one sample each.
        gallery: number of real images.
        words: fraction of a caption's words in the caption of the nearest image, averaged over captions.
        missed: captions for which it does not hold.
        taken_for: the caption of the nearest image of each of those.
    """

    share: float
    count: int
    gallery: int
    words: float
    missed: tuple[str, ...]
    taken_for: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """All measurements of a run.

    Args:
        measures: metrics in the feature spaces.
        drawn: the samples, one set per seed.
        consistency: share of samples that are classified as the class they are conditioned on; None without classes.
        real_accuracy: accuracy of the classifier on validation images.
        memory: nearest-neighbour tests for copies, of the first seed.
        gap: validation minus training denoising loss by noise level.
        losses: denoising loss by noise level, of both parts.
        levels: name and values of the noise levels.
        retrieval: by kind of captions.
    """

    measures: Measures
    drawn: Sequence[Samples]
    consistency: Interval | None
    real_accuracy: float | None
    memory: Memorisation
    gap: LossGap
    losses: Mapping[str, list[float]]
    levels: tuple[str, Tensor]
    retrieval: Mapping[str, Retrieval]

    @property
    def nfe(self) -> int:
        """Function evaluations per sample."""
        return max(samples.nfe for samples in self.drawn)

    def as_dict(self) -> dict[str, Any]:
        """Figures of JSON types."""
        return {
            "measures": self.measures.as_dict(),
            "class_consistency": None if self.consistency is None else asdict(self.consistency),
            "real_accuracy": self.real_accuracy,
            "memorisation": asdict(self.memory),
            "loss_gap": {
                self.levels[0]: self.levels[1].tolist(),
                "gap": self.gap.gap.tolist(),
                "z": self.gap.z.tolist(),
            },
            "losses": dict(self.losses),
            "retrieval": {name: asdict(result) for name, result in self.retrieval.items()},
            "nfe": self.nfe,
        }


def require_enough(train: Images, val: Images) -> None:
    """Check, before any sampling, that there are enough real images to compare with.

    Raises:
        ValueError: there are not; the message says what to do."""
    if len(train) < 4 or len(val) < 2:
        raise ValueError(
            f"evaluate needs at least 4 training and 2 validation images, and there are {len(train)} and {len(val)}: "
            "train on more images, or keep a larger share of them for validation (data.val_fraction=0.2)"
        )


def feature_spaces(image: "Image", m: Measuring) -> FeatureSpaces:
    """The feature spaces of this data; the classifier is trained once and kept in `m.folder`."""
    train: Images = m.train
    real = train.read(spread(len(train), REAL))
    classifier = _classifier(image, m)
    spaces = {} if classifier is None else {"classifier": classifier.features}
    spaces["random convolutions"] = RandomConvolutions(channels=train.shape[0]).features
    fitted = real[spread(len(real), max(100, 2**28 // real[0].numel()))]  # fewer suffice for large images
    spaces["pixels"] = PixelPrincipal.fit(fitted, k=min(64, len(fitted) - 1, fitted[0].numel())).features
    return FeatureSpaces(spaces=spaces, classifier=classifier)


def _classifier(image: "Image", m: Measuring) -> Classifier | None:
    """The classifier of the classes; None without classes, or if none may be trained."""
    if not m.train_judges:
        return None
    return classifier_of(image, m.train, m.val, m.folder, m.progress("training the classifier, step"), m.say)


def classifier_of(
    image: "Image", train: Images, val: Images, folder: Path | None, progress: Progress, say: Callable[[str], None]
) -> Classifier | None:
    """The classifier that is kept in a folder, or one that is trained and kept there, if there is a folder; None without
    classes."""
    if len(image.classes) < 2 or train.labels is None or val.labels is None:
        return None
    kept = None if folder is None else folder / name_of(image, train)
    if kept is not None and (kept / "classifier.json").is_file():
        try:
            return Classifier.load(kept)
        except (ValueError, OSError) as error:
            say(f"{kept} cannot be read, so the classifier is trained again: {error}")
    say("training the classifier, a feature space of the metrics, on real training images")
    items, test = labelled(train.labels, 50_000), labelled(val.labels, REAL)
    if not len(items):
        return None
    held_out = (val.read(test), val.labels[test]) if len(test) else None
    classifier = train_classifier(
        train.read(items), train.labels[items], len(image.classes), seed=0, epochs=20 if len(items) < 5000 else 8,
        flip=image.flip, held_out=held_out, progress=progress,
    )  # fmt: skip
    if kept is not None:
        classifier.save(kept)
    return classifier


def labelled(labels: Tensor, most: int) -> Tensor:
    """Indices of at most so many items that have a label, evenly spaced, int64."""
    known = (labels >= 0).nonzero()[:, 0]
    return known[spread(len(known), most)]


def name_of(image: "Image", train: Images) -> str:
    """The name of the folder of the classifier that is trained on this data."""
    return f"classifier-{train.fingerprint[:12]}{'-flip' if image.flip else ''}"


def searched(train: Images) -> Tensor:
    """The training images that are searched for copies: all of them unless they exceed `BYTES`."""
    return train.read(spread(len(train), max(REAL, BYTES // math.prod(train.shape))))


def draw_like_data(image: "Image", m: Measuring, count: int, seed: int, progress: Progress) -> Samples:
    """`count` samples with the conditions of the training data."""
    context = RequestContext(model=m.model, data=lambda: (m.train, m.val), count=count, seed=1_000_000 * (seed + 1))
    return m.model.run(image.plan_like(m.train, context), batch=m.batch, progress=progress)


def measure_run(image: "Image", m: Measuring, spaces: FeatureSpaces, count: int) -> Measured:
    """Draw `count` samples per seed and measure them."""
    train, val, progress = m.train, m.val, m.progress("sampling")
    drawn = [
        draw_like_data(image, m, count, seed, _shifted(progress, seed * count, m.seeds * count))
        for seed in range(m.seeds)
    ]
    generated = [image.comparable(samples.values) for samples in drawn]
    real, other = train.read(spread(len(train), REAL)), val.read(spread(len(val), REAL))
    labels, consistency, accuracy = drawn[0].arrays.get("labels"), None, None
    if spaces.classifier is not None and labels is not None:
        asked = labels >= 0
        accuracies = [
            class_consistency(spaces.classifier, images[asked], labels[asked]).accuracy for images in generated
        ]
        consistency = mean_interval(accuracies) if bool(asked.any()) else None
        record = spaces.classifier.training_record
        accuracy = record.held_out_accuracy if record else None
    by_caption = image.captions is not None and not image.classes  # with a class too, a caption is ambiguous
    by_caption = by_caption and image.enlarge is None  # what an enlarger draws is given
    level = {name: losses(m, part) for name, part in (("train", train), ("val", val))}
    return Measured(
        measures=measure(spaces.spaces, real, other, generated, seed=0, through=codec_of(image, m.model.parts.network)),
        drawn=drawn,
        consistency=consistency,
        real_accuracy=accuracy,
        memory=memorisation(searched(train), other[spread(len(other), max(2000, count))], generated[0]),
        gap=loss_gap(level["train"], level["val"]),
        losses={name: values.mean(1).tolist() for name, values in level.items()},
        levels=m.model.parts.levels,
        retrieval=retrieve(image, m) if by_caption else {},
    )


def codec_of(image: "Image", network: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """Images as the autoencoder of a run, or of its codec, gives them back; None without one."""
    codec = image.codec
    if not isinstance(codec, Pixels):
        return codec.through
    if not isinstance(network, Autoencoder):
        return None
    device = next(network.parameters()).device
    return lambda raw: codec.decode(decoded(network, encoded(network, codec.encode(raw).to(device))).cpu())


def retrieve(image: "Image", m: Measuring, *, most: int = 200) -> dict[str, Retrieval]:
    """Retrieval for up to `most` training captions, and for unseen captions of known words."""
    train, val, words = m.train, m.val, image.captions
    assert words is not None
    parts = [(part, spread(len(part), REAL)) for part in (train, val)]
    gallery = torch.cat([part.read(items) for part, items in parts]).flatten(1).float()
    names = [part.captions[i] for part, items in parts for i in items.tolist()]
    trained = [train.captions[i] for i in spread(len(train), most).tolist()]
    fresh = [c for c in dict.fromkeys(val.captions) if c not in set(train.captions) and not words.complaints(c)]
    results: dict[str, Retrieval] = {}
    for name, captions in (("trained captions", trained), ("unseen captions of seen words", fresh[:most])):
        if not captions:
            continue
        context = RequestContext(model=m.model, data=lambda: (train, val), seed=77_000_000)
        plan = draw(image, Conditions(captions=captions, names=tuple(captions)), context, len(captions))
        values = image.comparable(m.model.run(plan, batch=m.batch).values)
        distance = torch.cdist(values.flatten(1).float(), gallery)
        own = torch.tensor([[name == caption for name in names] for caption in captions])
        right = distance.masked_fill(~own, torch.inf).amin(1) <= distance.amin(1)
        nearest = [
            caption if ok else names[i]
            for caption, ok, i in zip(captions, right.tolist(), distance.argmin(1).tolist(), strict=True)
        ]
        pairs = [(caption, taken) for caption, taken in zip(captions, nearest, strict=True) if caption != taken]
        results[name] = Retrieval(
            share=right.double().mean().item(),
            count=len(captions),
            gallery=len(names),
            words=sum(map(shared_words, captions, nearest)) / len(captions),
            missed=tuple(caption for caption, _ in pairs),
            taken_for=tuple(taken for _, taken in pairs),
        )
    return results


def reader(image: "Image", m: Measuring, column: str) -> Callable[[Sequence[Tensor]], list[str]]:
    """The class of images by a classifier, or the caption of the nearest real image.

    Raises:
        ValueError: another column."""
    if column == "class":
        classifier = feature_spaces(image, m).classifier
        if classifier is None:
            raise ValueError("the column 'class' is not seen: there are fewer than two classes")
        known = classifier
        return lambda images: [image.classes[i] for i in known.logits(torch.stack(list(images))).argmax(1).tolist()]
    if column != "text" or m.train.captions is None:
        raise ValueError(f"the column '{column}' is not seen: class and text are")
    galleries, captions = list[Tensor](), list[str]()
    for part in (m.train, m.val):
        galleries.append(searched(part).flatten(1).float())
        captions += [part.captions[i] for i in spread(len(part), len(galleries[-1])).tolist()]
    gallery = torch.cat(galleries)

    def shown(images: Sequence[Tensor]) -> list[str]:
        near = torch.cdist(torch.stack(list(images)).flatten(1).float(), gallery).argmin(1)
        return [captions[i] for i in near.tolist()]

    return shown


def shared_words(context: str, taken: str) -> float:
    """The fraction of the words of `context` that `taken` has."""
    wanted, there = split_words(context), set(split_words(taken))
    return sum(word in there for word in wanted) / max(1, len(wanted))


def losses(m: Measuring, part: Images, *, most: int = 512) -> Tensor:
    """(levels, n) denoising losses by noise level, of up to `most` images evenly spaced over a part of the data."""
    batches, items = m.model.batches(part), spread(len(part), most)
    return torch.cat([m.model.parts.losses(batches(i), i) for i in items.split(128)], 1).cpu()


def scorer(image: "Image", m: Measuring) -> Scorer:
    """The Fréchet distance to the training images in the first feature space, with its floor at `m.count` images."""
    require_enough(m.train, m.val)
    classifier, convolutions = _classifier(image, m), RandomConvolutions(channels=m.train.shape[0])
    name = "random convolutions" if classifier is None else "classifier"
    space = convolutions.features if classifier is None else classifier.features
    real, floor = _reference(space, m.train, m.val, m.count or 500)
    return Scorer(
        name=f"FD ({name})",
        floor=floor,
        score=lambda samples: frechet_distance(real, Moments.of(space(image.comparable(samples.values)))),
    )


def _reference(space: Callable[[Tensor], Tensor], train: Images, val: Images, count: int) -> tuple[Moments, float]:
    """Moments of the reference, and the floor: the distance of `count` real images (or as many as there are) to it.

    These are validation images, or training images that the reference then leaves out."""
    items = spread(len(train), REAL)
    if len(val) >= count:
        real = Moments.of(space(train.read(items)))
        return real, frechet_distance(real, Moments.of(space(val.read(spread(len(val), count)))))
    order = items[torch.randperm(len(items), generator=torch.Generator().manual_seed(0))]
    part = min(count, len(order) // 2)
    real = Moments.of(space(train.read(order[part:])))
    return real, frechet_distance(real, Moments.of(space(train.read(order[:part]))))


def _shifted(progress: Progress, before: int, total: int) -> Progress:
    return lambda done, _: progress(before + done, total)
