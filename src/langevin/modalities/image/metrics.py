"""Feature spaces for images that need no downloaded weights, and the class consistency of a conditional generator.

Each feature space is blind to something, so metrics are reported in three:

- `RandomConvolutions`: mean and standard deviation of the responses of fixed random filters in several octaves. Needs
  no data and no labels. Sensitive to noise, blur, texture and colour, hardly to content.
- `Classifier`: the penultimate layer of a small network trained on the training part. Sensitive to the class.
- `PixelPrincipal`: principal components of the pixels. Sensitive to coarse structure.

All take uint8 images `(n, c, h, w)` and return float32 features `(n, d)` on the CPU; samples never mix. Distances in
them are not comparable with published FID, which is a distance in the features of an Inception network.

Papers: "Exposing flaws of generative model evaluation metrics and their unfair treatment of diffusion models" (2023,
arXiv 2306.04675), "Classification Accuracy Score for Conditional Generative Models" (2019, arXiv 1905.10887).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from langevin.modalities.image.classifier import (
    Classifier,
    ClassifierConfig,
    ClassifierTraining,
    check_images,
    scaled,
    train_classifier,
)
from langevin.networks.random_filters import RandomFilters

__all__ = [
    "ClassConsistency",
    "Classifier",
    "ClassifierConfig",
    "ClassifierTraining",
    "PixelPrincipal",
    "RandomConvolutions",
    "class_consistency",
    "train_classifier",
]


@dataclass(frozen=True, kw_only=True)
class RandomConvolutions:
    """Features of fixed random convolutions: `8 * width` numbers, two layers of `width` filters in each of four
    octaves (`networks/random_filters.py`), a function of `seed`, `channels` and `width` alone.
    """

    seed: int = 0
    channels: int = 3
    width: int = 16

    def __post_init__(self) -> None:
        if self.channels < 1 or self.width < 1:
            raise ValueError(f"RandomConvolutions needs channels, width >= 1, got {self.channels}, {self.width}")

    @cached_property
    def filters(self) -> RandomFilters:
        return RandomFilters(seed=self.seed, channels=self.channels, width=self.width)

    def features(self, images: Tensor, *, batch: int = 256) -> Tensor:
        """Features `(n, 8 * width)`; ValueError for images of another type or number of channels."""
        check_images(images, self.channels, "RandomConvolutions.features")
        return torch.cat([self._features(scaled(part)).cpu() for part in images.split(batch)])

    def _features(self, x: Tensor) -> Tensor:
        pooled = []
        for _, band in self.filters.responses(x):
            pooled += [band.mean((2, 3)), (band.var((2, 3), correction=0) + 1e-4).log() / 2]  # mean, log std
        return torch.cat(pooled, 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class PixelPrincipal:
    """Projection onto the first principal components of real images, scaled so that their variances average to 1.

    `mean (c*h*w,)`, `basis (k, c*h*w)` with rows divided by one common scale.
    """

    mean: Tensor
    basis: Tensor

    @classmethod
    def fit(cls, images: Tensor, *, k: int = 64, seed: int = 0) -> PixelPrincipal:
        """Principal components of uint8 images `(n, c, h, w)` by subspace iteration; k is at most their rank.

        Paper: "Finding structure with randomness" (2011, arXiv 0909.4061).
        """
        check_images(images, None, "PixelPrincipal.fit")
        if len(images) < 2 or k < 1:
            raise ValueError(f"PixelPrincipal.fit needs at least 2 images and k >= 1, got {len(images)} and {k}")
        x = scaled(images).flatten(1).cpu()
        mean = x.mean(0)
        x = x - mean
        k = min(k, x.shape[1], len(x) - 1)
        probe = torch.randn(x.shape[1], min(k + 16, x.shape[1]), generator=torch.Generator().manual_seed(seed))
        for _ in range(6):
            probe = torch.linalg.qr(x.T @ (x @ probe)).Q
        _, values, directions = torch.linalg.svd(x @ probe, full_matrices=False)
        basis = directions[:k] @ probe.T
        spread = values[:k].square().mean().sqrt() / math.sqrt(len(x) - 1)
        return cls(mean=mean, basis=basis / spread.clamp(min=1e-12))

    def features(self, images: Tensor, *, batch: int = 4096) -> Tensor:
        """Features `(n, k)`; ValueError for images of another type or size."""
        check_images(images, None, "PixelPrincipal.features")
        if images[0].numel() != len(self.mean):
            raise ValueError(f"PixelPrincipal was fitted to {len(self.mean)} values per image, got {images[0].numel()}")
        parts = (scaled(part).flatten(1).cpu() for part in images.split(batch))
        return torch.cat([(part - self.mean) @ self.basis.T for part in parts])


@dataclass(frozen=True, kw_only=True)
class ClassConsistency:
    """Share of images that are classified as the class they were conditioned on; None for a class without images."""

    accuracy: float
    by_class: tuple[float | None, ...]
    counts: tuple[int, ...]


def class_consistency(classifier: Classifier, images: Tensor, labels: Tensor) -> ClassConsistency:
    """Accuracy overall and by class of uint8 images `(n, c, h, w)` against the labels `(n,)` they were conditioned on.

    Its ceiling is the classifier's accuracy on held-out real images. Paper: "Classification Accuracy Score for
    Conditional Generative Models" (2019, arXiv 1905.10887).
    """
    if labels.shape != images.shape[:1]:
        raise ValueError(
            f"class_consistency needs one label per image, got {tuple(labels.shape)} for {tuple(images.shape)}"
        )
    correct = classifier.logits(images).argmax(1) == labels.cpu()
    members = [labels.cpu() == label for label in range(classifier.config.classes)]
    counts = tuple(int(member.sum()) for member in members)
    by_class = tuple(correct[m].double().mean().item() if count else None for m, count in zip(members, counts))
    return ClassConsistency(accuracy=correct.double().mean().item(), by_class=by_class, counts=counts)
