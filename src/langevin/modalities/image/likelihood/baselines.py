"""Baselines of the likelihood: distributions fitted to the training part, to all of it or per class."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from langevin.diffusion.likelihood import Estimate, Levels, UniformDequantisation, mean_of
from langevin.diffusion.likelihood.results import BITS
from langevin.diffusion.noise import SampleNoise, mix
from langevin.evaluation.density import (
    LARGEST,
    ByClass,
    GaussianMixture,
    IndependentLevels,
    choose_gaussian,
    choose_mixture,
    fit_levels,
)
from langevin.evaluation.likelihood import LikelihoodRow
from langevin.modalities.image.data import Images
from langevin.modalities.modality import spread

if TYPE_CHECKING:
    from langevin.modalities.image.modality import Image

FIT = 20_000  # training images that distributions are fitted to, at most
SMALL = 30  # images of the smallest class below which nothing is fitted per class
NOTHING, CLASS = "unconditional", "given the class"


def baselines(
    image: "Image", levels: Levels, parts: dict[str, Images], seed: int
) -> tuple[list[LikelihoodRow], list[str]]:
    """Table rows of independent dimensions, Gaussians and mixtures, and notes on those that are left out."""
    items = {name: spread(len(part), FIT) for name, part in parts.items()}
    raw = {name: part.read(items[name]).flatten(1).long() for name, part in parts.items()}
    data = {name: _dequantised(image, levels, part, items[name], seed) for name, part in parts.items()}
    d, labels = data["train"].shape[1], _labels(image, parts, items)
    entropy = d * UniformDequantisation().entropy(levels, 1.0)

    def density(distribution: GaussianMixture, x: Tensor) -> Tensor:
        return distribution.log_density(x) + entropy

    independent = partial(fit_levels, count=levels.count)
    table = [_row("independent dimensions", independent(raw["train"]), IndependentLevels.log_probability, raw)]
    table += _by_class("independent dimensions", independent, IndependentLevels.log_probability, raw, labels)
    distribution, chosen = choose_gaussian(data["train"])
    table.append(_row("Gaussian", distribution, density, data, chosen))
    if d > LARGEST:
        return table, [f"No mixture of Gaussians is fitted in {d} dimensions."]
    table += _by_class("Gaussian", lambda x: choose_gaussian(x)[0], density, data, labels)
    if len(data["train"]) >= 8:
        mixture, chosen = choose_mixture(data["train"])
        table.append(_row("Gaussian mixture", mixture, density, data, chosen))
        fit = partial(choose_mixture, components=(1, 3))
        table += _by_class("Gaussian mixture", lambda x: fit(x)[0], density, data, labels)
    return table, []


def _labels(image: "Image", parts: dict[str, Images], items: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """The labels of the images, or None if there are no classes or too few images of one."""
    labels = {name: part.labels[items[name]] for name, part in parts.items() if part.labels is not None}
    if not image.classes or len(labels) < len(parts) or any(bool((own < 0).any()) for own in labels.values()):
        return None
    return labels if int(labels["train"].bincount(minlength=len(image.classes)).min()) >= SMALL else None


def _dequantised(image: "Image", levels: Levels, part: Images, items: Tensor, seed: int) -> Tensor:
    x = image.codec.encode(part.read(items)).flatten(1)
    noise = SampleNoise(seeds=mix(torch.full_like(items, seed), items), steps=torch.zeros_like(items))
    return UniformDequantisation().draw(x, levels, 1.0, noise)


def _bits(values: dict[str, Tensor], d: int) -> dict[str, Estimate]:
    return {name: mean_of(-value[:, None]).times(BITS / d) for name, value in values.items()}


def _row(
    name: str, distribution: Any, log: Callable[[Any, Tensor], Tensor], data: dict[str, Tensor], chosen: str = ""
) -> LikelihoodRow:
    d = data["train"].shape[1]
    bits = _bits({part: log(distribution, x) for part, x in data.items()}, d)
    meanings = {"independent dimensions": "frequencies of the recorded levels, one table per dimension"}
    text = meanings.get(name, f"full covariance{chosen and ', ' + chosen}, uniform dequantisation")
    return LikelihoodRow(
        method=f"{name}, {NOTHING}", **bits, meaning=f"{text}; fitted to {len(data['train']):,} training images"
    )


def _by_class(
    name: str,
    fit: Callable[[Tensor], Any],
    log: Callable[[Any, Tensor], Tensor],
    data: dict[str, Tensor],
    labels: dict[str, Tensor] | None,
) -> list[LikelihoodRow]:
    """One table row, or none without classes."""
    if labels is None:
        return []
    distributions = ByClass.fit(data["train"], labels["train"], fit)
    bits = _bits({part: distributions.each(x, labels[part], log) for part, x in data.items()}, data["train"].shape[1])
    return [
        LikelihoodRow(
            method=f"{name}, {CLASS}",
            **bits,
            meaning=f"one per class, of {len(distributions.distributions)}; conditional on the class",
        )
    ]
