"""A run measured: metrics beside their floor, class consistency, memorisation, loss by noise level."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.evaluation.frechet import Moments, frechet_distance
from langevin.evaluation.statistics import Interval, mean_interval
from langevin.evaluation.suite import Measures, measure
from langevin.methods.diffusion import level_losses
from langevin.modalities.image.classifier import Classifier, train_classifier
from langevin.modalities.image.data import Images
from langevin.modalities.image.metrics import PixelPrincipal, RandomConvolutions, class_consistency
from langevin.modalities.image.reader import Reader, tell
from langevin.recipe.build import Built, reader
from langevin.recipe.tree import Recipe, Sampling
from langevin.run.directory import put
from langevin.run.generate import generate
from langevin.run.watch import LEVELS
from langevin.safety.memorisation import LossGap, Memorisation, loss_gap, memorisation

REAL = 10_000  # real images that features are fitted to and distances measured on, at most
BYTES = 2**31  # of pixels among which copies are looked for: nearly always all training images


@dataclass(frozen=True, kw_only=True)
class Judges:
    """Feature spaces fitted on real training images, and the classifier among them (None without labels)."""

    spaces: Mapping[str, Callable[[Tensor], Tensor]]
    classifier: Classifier | None


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """Share of `count` captions whose sample is nearer (L2 in pixels) to the caption's own image than to any other of
    the `gallery` real images, training and held-out; `missed` names the others."""

    share: float
    count: int
    gallery: int
    missed: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Everything `evaluate` found.

    Args:
        generated: uint8 images, one tensor a seed.
        told: (labels, captions) of the generated rows, the same for every seed.
        consistency: share of samples that the classifier reads as the class asked for; `real` is its held-out accuracy.
    """

    measures: Measures
    generated: list[Tensor]
    labels: Tensor | None
    captions: list[str] | None
    consistency: Interval | None
    real_accuracy: float | None
    memory: Memorisation
    gap: LossGap
    losses: Mapping[str, list[float]]
    calls: int
    retrieval: Mapping[str, Retrieval]

    def as_dict(self) -> dict[str, Any]:
        """Figures of JSON types."""
        return {
            "measures": self.measures.as_dict(),
            "class_consistency": None if self.consistency is None else asdict(self.consistency),
            "real_accuracy": self.real_accuracy,
            "memorisation": asdict(self.memory),
            "loss_gap": {"log_snr": LEVELS.tolist(), "gap": self.gap.gap.tolist(), "z": self.gap.z.tolist()},
            "losses": dict(self.losses),
            "retrieval": {name: asdict(found) for name, found in self.retrieval.items()},
            "network_calls": self.calls,
        }


def require_enough(train: Images, held_out: Images) -> None:
    """Check, before any work, that there is something to measure against.

    Raises:
        ValueError: with what to do."""
    if len(train) < 4 or len(held_out) < 2:
        raise ValueError(
            f"measuring needs at least 4 training and 2 held-out images, and there are {len(train)} and {len(held_out)}: "
            "train on more images, or hold out a larger share of them (held_out=0.2)"
        )


def judges(
    recipe: Recipe,
    train: Images,
    held_out: Images,
    folder: Path,
    *,
    say: Callable[[str], None],
    progress: Callable[[int, int], None] | None = None,
) -> Judges:
    """Feature spaces for the recipe's data; the classifier is trained once and kept in `folder`."""
    real = train.read(spread(len(train), REAL))
    spaces: dict[str, Callable[[Tensor], Tensor]] = {}
    classifier = None
    if len(recipe.classes) > 1 and train.labels is not None and held_out.labels is not None:
        classifier = _classifier(recipe, train, held_out, folder, say, progress)
        spaces["classifier"] = classifier.features
    spaces["random convolutions"] = RandomConvolutions(channels=train.shape[0]).features
    fitted = real[spread(len(real), max(100, 2**28 // real[0].numel()))]  # one image of many pixels tells as much
    spaces["pixels"] = PixelPrincipal.fit(fitted, k=min(64, len(fitted) - 1, fitted[0].numel())).features
    return Judges(spaces=spaces, classifier=classifier)


def _classifier(
    recipe: Recipe,
    train: Images,
    held_out: Images,
    folder: Path,
    say: Callable[[str], None],
    progress: Callable[[int, int], None] | None,
) -> Classifier:
    place = folder / f"classifier-{train.fingerprint[:12]}{'-flip' if recipe.learning.flip else ''}"
    if (place / "classifier.json").is_file():
        try:
            return Classifier.load(place)
        except (ValueError, OSError) as error:
            say(f"{place} cannot be read and is trained again: {error}")
    assert train.labels is not None
    assert held_out.labels is not None
    say("training the classifier whose features judge the samples, on real training images")
    items = spread(len(train), 50_000)
    test = spread(len(held_out), REAL)
    classifier = train_classifier(
        train.read(items),
        train.labels[items],
        len(recipe.classes),
        seed=0,
        epochs=20 if len(items) < 5000 else 8,
        flip=recipe.learning.flip,
        held_out=(held_out.read(test), held_out.labels[test]),
        progress=progress,
    )
    classifier.save(place)
    return classifier


def spread(count: int, most: int) -> Tensor:
    """At most `most` items spread evenly over `count`, int64."""
    n = min(count, most)
    return torch.arange(n) * count // n


def searched(train: Images) -> Tensor:
    """The training images among which copies are looked for, all of them unless their pixels exceed `BYTES`."""
    return train.read(spread(len(train), max(REAL, BYTES // math.prod(train.shape))))


def what_to_tell(recipe: Recipe, train: Images, count: int) -> tuple[Tensor | None, list[str] | None]:
    """Labels and captions for `count` samples in the training data's own proportions."""
    items = torch.arange(count) * len(train) // count % len(train)
    labels = train.labels[items] if recipe.classes and train.labels is not None else None
    captions = [train.captions[i] for i in items.tolist()] if recipe.words and train.captions is not None else None
    return labels, captions


def draw_like_data(
    built: Built,
    sampling: Sampling,
    train: Images,
    *,
    count: int,
    seed: int,
    batch: int,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Tensor, int]:
    """`count` samples told what the training data is, and the network calls that each took."""
    labels, captions = what_to_tell(built.recipe, train, count)
    device = next(built.network.parameters()).device
    condition: Condition | None = tell(labels, captions, built.recipe.words, device)
    seeds = torch.arange(count) + 1_000_000 * (seed + 1)
    drawn = generate(
        built, sampling, shape=train.shape, seeds=seeds, condition=condition, batch=batch, progress=progress
    )
    return drawn.images, drawn.calls


def measure_run(
    built: Built,
    sampling: Sampling,
    train: Images,
    held_out: Images,
    judged: Judges,
    *,
    count: int,
    seeds: Sequence[int],
    batch: int = 256,
    progress: Callable[[int, int], None] | None = None,
) -> Measured:
    """Draw `count` samples a seed and measure them."""
    recipe = built.recipe
    generated: list[Tensor] = []
    calls = 0
    for i, seed in enumerate(seeds):
        shown = None if progress is None else _shifted(progress, i * count, len(seeds) * count)
        images, used = draw_like_data(built, sampling, train, count=count, seed=seed, batch=batch, progress=shown)
        generated.append(images)
        calls = max(calls, used)
    real, other = train.read(spread(len(train), REAL)), held_out.read(spread(len(held_out), REAL))
    labels, captions = what_to_tell(recipe, train, count)
    consistency, accuracy = None, None
    if judged.classifier is not None and labels is not None:
        found = [class_consistency(judged.classifier, images, labels).accuracy for images in generated]
        consistency = mean_interval(found)
        record = judged.classifier.training_record
        accuracy = record.held_out_accuracy if record else None
    told_words = recipe.words is not None and not recipe.classes  # a caption beside a class does not name its image
    level = {name: _losses(built, reader(recipe, part)) for name, part in (("train", train), ("held_out", held_out))}
    return Measured(
        measures=measure(judged.spaces, real, other, generated, seed=0),
        generated=generated,
        labels=labels,
        captions=captions,
        consistency=consistency,
        real_accuracy=accuracy,
        memory=memorisation(searched(train), other[spread(len(other), max(2000, count))], generated[0]),
        gap=loss_gap(level["train"], level["held_out"]),
        losses={name: losses.mean(1).tolist() for name, losses in level.items()},
        calls=calls,
        retrieval=retrieve(built, sampling, train, held_out, batch=batch) if told_words else {},
    )


def retrieve(
    built: Built, sampling: Sampling, train: Images, held_out: Images, *, batch: int, most: int = 200
) -> dict[str, Retrieval]:
    """Whether captions come out as asked: those trained on, and unseen ones made of words that were seen."""
    assert train.captions is not None
    assert held_out.captions is not None
    words = built.recipe.words
    assert words is not None
    gallery = torch.cat([part.read(spread(len(part), REAL)) for part in (train, held_out)]).flatten(1).float()
    names = [part.captions[i] for part in (train, held_out) for i in spread(len(part), REAL).tolist()]  # type: ignore[index]
    seen = [train.captions[i] for i in spread(len(train), most).tolist()]
    fresh = [c for c in dict.fromkeys(held_out.captions) if c not in set(train.captions) and not words.complaints(c)]
    found: dict[str, Retrieval] = {}
    for part, captions in (("trained captions", seen), ("unseen captions of seen words", fresh[:most])):
        if not captions:
            continue
        device = next(built.network.parameters()).device
        drawn = generate(
            built,
            sampling,
            shape=train.shape,
            seeds=torch.arange(len(captions)) + 77_000_000,
            condition=tell(None, captions, words, device),
            batch=batch,
        )
        distance = torch.cdist(drawn.images.flatten(1).float(), gallery)
        own = torch.tensor([[name == caption for name in names] for caption in captions])
        right = distance.masked_fill(~own, torch.inf).amin(1) <= distance.amin(1)
        missed = tuple(c for c, ok in zip(captions, right.tolist(), strict=True) if not ok)
        found[part] = Retrieval(
            share=right.double().mean().item(), count=len(captions), gallery=len(names), missed=missed
        )
    return found


@dataclass(frozen=True, kw_only=True)
class Point:
    """A snapshot's Fréchet distance to the training images, at a step and after so many seconds of training."""

    step: int
    seconds: float | None
    distance: float


def measure_curve(
    built: Built,
    sampling: Sampling,
    train: Images,
    judged: Judges,
    saved: Sequence[tuple[int, dict[str, Tensor]]],
    seconds: Mapping[int, float],
    *,
    count: int,
    batch: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[Point]:
    """The first feature space's distance for each of a run's snapshots, on the same seeds."""
    extract = next(iter(judged.spaces.values()))
    real = Moments.of(extract(train.read(spread(len(train), REAL))))
    points: list[Point] = []
    for i, (step, tensors) in enumerate(saved):
        put(built, tensors)
        shown = None if progress is None else _shifted(progress, i * count, len(saved) * count)
        images, _ = draw_like_data(built, sampling, train, count=count, seed=0, batch=batch, progress=shown)
        distance = frechet_distance(real, Moments.of(extract(images)))
        known = [s for s in seconds if s <= step]
        points.append(Point(step=step, seconds=seconds[max(known)] if known else None, distance=distance))
    return points


def _losses(built: Built, part: Reader, *, most: int = 512) -> Tensor:
    """(levels, n) losses on rows spread over a part of the data."""
    device = next(built.network.parameters()).device
    read = Reader(images=part.images, codec=part.codec, words=part.words, labelled=part.labelled, device=device)
    rows = spread(len(part.images), most)
    parts = [level_losses(built.denoiser, built.process, read(r), log_snr=LEVELS, names=r) for r in rows.split(128)]
    return torch.cat(parts, 1).cpu()


def _shifted(progress: Callable[[int, int], None], before: int, total: int) -> Callable[[int, int], None]:
    return lambda done, _: progress(before + done, total)
