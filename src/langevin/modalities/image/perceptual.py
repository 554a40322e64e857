"""Responses of the classifier that images are evaluated by, for the perceptual distance of an autoencoder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from langevin.modalities.image.classifier import Classifier
from langevin.modalities.image.codec import Pixels, require_pixels
from langevin.modalities.image.data import Images
from langevin.modalities.image.measure import classifier_of, name_of
from langevin.modalities.modality import Progress
from langevin.training import machine

if TYPE_CHECKING:
    from langevin.modalities.image.modality import Image


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassifierResponses:
    """x -> the outputs of a classifier's layers, (b, channels, height, width) each; `sha256` is of its weights."""

    classifier: Classifier
    pixels: Pixels
    name: str
    sha256: str

    def __call__(self, x: Tensor) -> list[Tensor]:
        return self.classifier.layers((x - self.pixels.offset) / self.pixels.scale / 127.5 - 1)

    def save(self, folder: Path) -> None:
        """Keep the classifier where evaluation looks for it."""
        self.classifier.save(folder / self.name)


def fit_responses(
    image: "Image", train: Images, val: Images, folder: Path | None, progress: Progress, say: Callable[[str], None]
) -> ClassifierResponses:
    """Of the classifier that is kept in a folder, or of one that is trained. Raises `ValueError` without classes."""
    pixels = require_pixels(image.codec, "method.responses=classifier")
    found = classifier_of(image, train, val, folder, progress, say)
    if found is None:
        raise ValueError("these images have no labels of two or more classes: set method.responses=random_filters")
    sha256, classifier = found.fingerprint, found.to(machine.device()).requires_grad_(False)
    return ClassifierResponses(classifier=classifier, pixels=pixels, name=name_of(image, train), sha256=sha256)
