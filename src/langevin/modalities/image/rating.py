"""What images are worth: simple rules, and two readers of their class."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, assert_never

import torch
from torch import Tensor

from langevin.diffusion.noise import SampleNoise
from langevin.modalities.classification.linear import LinearClassifier
from langevin.modalities.image.classifier import Classifier
from langevin.modalities.image.data import Images
from langevin.modalities.image.measure import REAL, classifier_of, labelled
from langevin.modalities.image.metrics import PixelPrincipal
from langevin.modalities.image.preview import picture, png
from langevin.modalities.modality import Measuring, spread
from langevin.modalities.rating import ClassReader

if TYPE_CHECKING:
    from langevin.modalities.image.modality import Image

PENALTY = 0.0003  # of the squared weights of the recogniser, per image
GREY = 8  # standard deviation of the noise on its images, in grey levels of 255
Values = Any  # uint8 (b, c, h, w), or a list of (c, h, w)


def brightness(values: Values) -> Tensor:
    """The mean of an image's numbers, from 0 for black to 1 for white, (b,)."""
    return torch.stack([image.double().mean() / 255 for image in values])


def compressibility(values: Values) -> Tensor:
    """Minus the bytes of an image's PNG file for each pixel, (b,).

    After "Training Diffusion Models with Reinforcement Learning" (2023, arXiv 2305.13301), with JPEG there."""
    sizes = [len(png(picture(image))) / image[0].numel() for image in values]
    return -torch.tensor(sizes, dtype=torch.float64)


RULES: dict[str, Callable[[Values], Tensor]] = {
    "brightness": brightness, "darkness": lambda values: 1 - brightness(values),
    "compressibility": compressibility, "incompressibility": lambda values: -compressibility(values),
}  # fmt: skip


MEASURED = ("closeness", "novelty")  # rules that look at the training images
LOOKED_AT = 10_000  # training images, at most


def rule(image: "Image", name: str, m: Measuring) -> Callable[[Values], Tensor]:
    """A rule by its name. In principal components of the pixels, `closeness` is minus the distance to the nearest training
    image, and `novelty` that distance over the one from there to the next training image: below 1 a sample is nearer."""
    if name in RULES:
        return RULES[name]
    train: Images = m.train
    real = train.read(spread(len(train), LOOKED_AT))
    pixels = PixelPrincipal.fit(real)
    gallery = pixels.features(real).double()

    def measured(values: Values) -> Tensor:
        distances = torch.cdist(pixels.features(image.comparable(values)).double(), gallery)
        nearest, at = distances.min(1)
        if name == "closeness":
            return -nearest
        between = torch.cdist(gallery[at], gallery)
        return nearest / between.scatter(1, at[:, None], torch.inf).amin(1).clamp_min(1e-6)

    return measured


def class_probabilities(image: "Image", m: Measuring, reader: ClassReader) -> Callable[[Values], Tensor]:
    """The probabilities (b, classes) of images: by the classifier of the metrics, a convolutional network, or by logistic
    regression on principal components of the pixels.

    Raises:
        ValueError: there are no labels to train a reader with."""
    match reader:
        case "classifier":
            classifier = classifier_of(
                image, m.train, m.val, m.folder, m.progress("training the classifier, step"), m.say
            )
            require_labels(classifier)
            known: Any = classifier
            return lambda values: known.logits(image.comparable(values)).double().softmax(1)
        case "recogniser":
            pixels, linear = recogniser(image, m)
            return lambda values: linear.log_posterior(pixels.features(image.comparable(values))).exp()
        case _:
            assert_never(reader)


def require_labels(found: Classifier | Tensor | None) -> None:
    """Check that there is a classifier, or what one is trained with. Raises `ValueError`."""
    if found is None or (isinstance(found, Tensor) and len(found.unique()) < 2):
        raise ValueError("the class of an image is read by a classifier of labelled images, and the data has no labels")


def recogniser(image: "Image", m: Measuring) -> tuple[PixelPrincipal, LinearClassifier]:
    """Principal components of images, and the logistic regression of their class on them.

    Both are fitted to images with a little noise, without which numbers that are the same in all images would decide."""
    train: Images = m.train
    items = torch.empty(0, dtype=torch.int64) if train.labels is None else labelled(train.labels, REAL)
    labels = items if train.labels is None else train.labels[items]
    require_labels(labels)
    noise = SampleNoise(seeds=torch.arange(len(items)), steps=torch.zeros_like(items))
    real = train.read(items)
    real = (real + GREY * noise.normal(real.float())).round().clamp(0, 255).to(torch.uint8)
    pixels = PixelPrincipal.fit(real, k=min(64, len(real) - 1, real[0].numel()))
    linear = LinearClassifier.with_penalty(pixels.features(real), labels.long(), len(image.classes), PENALTY)
    held_out: Images = m.val
    items = items[:0] if held_out.labels is None else labelled(held_out.labels, REAL)
    if held_out.labels is not None and len(items):
        read = linear.log_posterior(pixels.features(held_out.read(items))).argmax(1)
        share = float((read == held_out.labels[items]).double().mean())
        m.say(f"the recogniser, a linear one of pixels, reads the class of {100 * share:.0f} % of the held-out images")
    return pixels, linear
