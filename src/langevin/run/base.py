"""The base of an adapter: the run whose network it changes, by its path and the hash of its weights."""

from dataclasses import replace
from pathlib import Path

import torch

from langevin.networks.adapters import Adapter, rank_within, weights_of
from langevin.recipe.tree import Recipe
from langevin.run.directory import open_run
from langevin.training import checkpoint


def with_base(recipe: Recipe) -> Recipe:
    """The recipe with the absolute path, the hash and the EMA length of its adapter's base, and the rank of its adapter,
    if it has one.

    Raises:
        ValueError: there is no trained run at the path, or no rank that keeps to the share."""
    adapter = recipe.adapter
    if adapter is None:
        return recipe
    run = open_run(Path(adapter.path).expanduser().absolute())
    sha256 = adapter.sha256 or checkpoint.identity(run.checkpoints)
    ema = run.ema_length(None) if adapter.ema is None else adapter.ema
    adapter = replace(adapter, path=str(run.path), sha256=sha256, ema=ema)
    return replace(recipe, adapter=replace(adapter, rank=rank_of(adapter, recipe)))


def rank_of(adapter: Adapter, recipe: Recipe) -> int | None:
    """The rank of an adapter for the network of a recipe; None for kinds without one.

    Raises:
        ValueError: rank 1 takes more weights than its share."""
    if adapter.kind in ("head", "full") or adapter.rank is not None:
        return adapter.rank
    with torch.device("meta"):
        network = recipe.network.build()
    shapes = [weight.shape for _, _, weight in weights_of(network)]
    total = sum(parameter.numel() for parameter in network.parameters())
    return rank_within(shapes, int(adapter.share * total), adapter.kind)
