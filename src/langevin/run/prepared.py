"""What a run prepares before its first step: data that is encoded once, counts of n-grams, a coupling, responses that an
autoencoder compares by, and what it keeps of earlier data. All but the first are stored in the run, as a resumed or a
sampled one needs them too."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from langevin.diffusion.coupling import Coupling
from langevin.modalities.modality import Batches
from langevin.recipe.build import Built
from langevin.recipe.tree import Recipe
from langevin.run import counts as ngrams
from langevin.run import coupling as couplings
from langevin.run.continual import Memory, remembered, stored
from langevin.run.directory import Run
from langevin.run.display import Display
from langevin.run.responses import built_with, fit_responses, keep
from langevin.training.distributed import World
from langevin.user_function import CodePermission


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """What a run has prepared.

    Args:
        coupling: of noise with training examples; None where they are independent.
        counts: of n-grams of the training data, see `networks.ngram_prior.counted`; empty if the network reads none.
        memory: what a run that learns new data keeps of the old; empty for others.
        responses: by which an autoencoder compares copies; None for those of random filters.
        seconds: that it took.
    """

    coupling: Coupling | None = None
    counts: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    responses: Any = None
    memory: Memory = Memory()
    seconds: float = 0.0

    def built(self, recipe: Recipe, code: CodePermission) -> Built:
        """The parts of a recipe on this machine, with what was prepared."""
        built = built_with(recipe, code, self.responses)
        ngrams.put(built.model.network, self.counts)
        self.memory.hold(built)
        return built

    def write(self, run: Run) -> None:
        """Store what cannot be made from the recipe alone."""
        couplings.write(run, self.coupling)
        ngrams.write(run.path, self.counts)
        keep(run, self.responses)
        self.memory.write(run.path)


def prepared(
    recipe: Recipe, data: Any, val: Any, built: Built, world: World, display: Display, code: CodePermission
) -> tuple[Recipe, Prepared]:
    """What a run needs before its first step, and the recipe with the hashes of its responses and its memory.

    Raises:
        ValueError: see `recipe.coupling.fitted`, `fit_responses` and `remembered`."""
    begun = time.perf_counter()
    encode(built.batches(data), display)
    counts = counts_for(recipe, built, data, display)
    spent = world.broadcast(time.perf_counter() - begun)
    coupling, fitting = couplings.fit_coupling(recipe, data, world, display)
    recipe, responses, learning = fit_responses(recipe, data, val, world, display)
    ngrams.put(built.model.network, counts)
    recipe, memory, remembering = remembered(recipe, built, world, display, code)
    seconds = spent + fitting + learning + remembering
    return recipe, Prepared(coupling=coupling, counts=counts, responses=responses, memory=memory, seconds=seconds)


def resumed(
    run: Run, data: Any, val: Any, world: World, display: Display, code: CodePermission
) -> tuple[Built, Coupling | None, Memory]:
    """The parts of a run that is resumed, its coupling and its memory, from what it has stored; what it has not is made
    again, but for the memory.

    Raises:
        ValueError: a file is damaged, or of other data."""
    _, responses, _ = fit_responses(run.recipe, data, val, world, display, run=run)
    built, counts = built_with(run.recipe, code, responses), ngrams.read(run.path)
    encode(built.batches(data), display)
    world.barrier()  # all have looked for the file
    if not counts:
        counts = counts_for(run.recipe, built, data, display)
        if world.first:
            ngrams.write(run.path, counts)
    ngrams.put(built.model.network, counts)
    memory = stored(run.path, run.recipe)
    memory.hold(built)
    return built, couplings.stored(run, data, world, display), memory


def counts_for(recipe: Recipe, built: Built, data: Any, display: Display) -> dict[str, Tensor]:
    """The n-grams that the network of a run reads: of its training data, or those of its base."""
    if recipe.adapter is not None:
        return ngrams.read(Path(recipe.adapter.path))
    return ngrams.counted_in(built, data, display)


def encode(batches: Batches, display: Display) -> None:
    """Let the batches make what they make once before the first step, if anything."""
    prepare = getattr(batches, "prepare", None)
    if prepare is not None:
        prepare(display.progress("encoding data"))
