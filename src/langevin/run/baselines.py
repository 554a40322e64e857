"""What a likelihood is compared with: laws that are fitted to the training part, told nothing, and told the class."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.likelihood import Estimate, Levels, Uniform, mean_of
from langevin.diffusion.likelihood.answers import BITS
from langevin.diffusion.noise import RowNoise, mix
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
from langevin.modalities.image.codec import Pixels
from langevin.modalities.image.data import Images
from langevin.recipe.tree import Recipe
from langevin.run.measure import spread

FIT = 20_000  # training rows that laws are fitted to, at most
SMALL = 30  # rows of a class below which nothing is fitted to classes
NOTHING, CLASS = "told nothing", "told the class"


def baselines(
    recipe: Recipe, levels: Levels, parts: dict[str, Images], seed: int
) -> tuple[list[LikelihoodRow], list[str]]:
    """The table's rows of independent places, Gaussians and mixtures, and what to say of those that are not there."""
    items = {name: spread(len(part), FIT) for name, part in parts.items()}
    raw = {name: part.read(items[name]).flatten(1).long() for name, part in parts.items()}
    data = {name: _dequantised(recipe, levels, part, items[name], seed) for name, part in parts.items()}
    d, labels = data["train"].shape[1], _labels(recipe, parts, items)
    entropy = d * Uniform().entropy(levels, 1.0)

    def density(law: GaussianMixture, x: Tensor) -> Tensor:
        return law.log_density(x) + entropy

    independent = partial(fit_levels, count=levels.count)
    table = [_row("independent places", independent(raw["train"]), IndependentLevels.log_probability, raw)]
    table += _by_class("independent places", independent, IndependentLevels.log_probability, raw, labels)
    law, chosen = choose_gaussian(data["train"])
    table.append(_row("Gaussian", law, density, data, chosen))
    if d > LARGEST:
        return table, [f"No mixture of Gaussians is fitted in {d} dimensions."]
    table += _by_class("Gaussian", lambda x: choose_gaussian(x)[0], density, data, labels)
    if len(data["train"]) >= 8:
        mixture, chosen = choose_mixture(data["train"])
        table.append(_row("Gaussian mixture", mixture, density, data, chosen))
        fit = partial(choose_mixture, components=(1, 3))
        table += _by_class("Gaussian mixture", lambda x: fit(x)[0], density, data, labels)
    return table, []


def _labels(recipe: Recipe, parts: dict[str, Images], items: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """The classes of the rows, where the recipe has them and each has rows enough to fit a law to."""
    found = {name: part.labels[items[name]] for name, part in parts.items() if part.labels is not None}
    if not recipe.classes or len(found) < len(parts):
        return None
    return found if int(found["train"].bincount(minlength=len(recipe.classes)).min()) >= SMALL else None


def _dequantised(recipe: Recipe, levels: Levels, part: Images, items: Tensor, seed: int) -> Tensor:
    codec = recipe.codec
    assert isinstance(codec, Pixels)
    x = codec.encode(part.read(items)).flatten(1)
    noise = RowNoise(seeds=mix(torch.full_like(items, seed), items), steps=torch.zeros_like(items))
    return Uniform().draw(x, levels, 1.0, noise)


def _bits(values: dict[str, Tensor], d: int) -> dict[str, Estimate]:
    return {name: mean_of(-value[:, None]).times(BITS / d) for name, value in values.items()}


def _row(
    name: str, law: Any, log: Callable[[Any, Tensor], Tensor], data: dict[str, Tensor], chosen: str = ""
) -> LikelihoodRow:
    d = data["train"].shape[1]
    found = _bits({part: log(law, x) for part, x in data.items()}, d)
    said = {"independent places": "frequencies of the recorded levels, a table a place: knows which levels there are"}
    text = said.get(name, f"full covariance{chosen and ', ' + chosen}, uniform dequantisation")
    return LikelihoodRow(
        method=f"{name}, {NOTHING}", **found, meaning=f"{text}; fitted to {len(data['train']):,} training rows"
    )


def _by_class(
    name: str,
    fit: Callable[[Tensor], Any],
    log: Callable[[Any, Tensor], Tensor],
    data: dict[str, Tensor],
    labels: dict[str, Tensor] | None,
) -> list[LikelihoodRow]:
    """One row, or none without classes."""
    if labels is None:
        return []
    laws = ByClass.fit(data["train"], labels["train"], fit)
    found = _bits({part: laws.each(x, labels[part], log) for part, x in data.items()}, data["train"].shape[1])
    return [
        LikelihoodRow(
            method=f"{name}, {CLASS}",
            **found,
            meaning=f"one for each of {len(laws.laws)} classes; of x given the class",
        )
    ]
