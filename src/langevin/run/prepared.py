"""What a run prepares before its first step: data that is encoded once, a coupling, and counts of n-grams. The last two are
stored in the run, as a resumed run or a sampled one needs them too."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from langevin.diffusion.coupling import Coupling
from langevin.modalities.modality import Batches
from langevin.recipe.build import Built
from langevin.recipe.tree import Recipe
from langevin.run import counts as ngrams
from langevin.run import coupling as couplings
from langevin.run.directory import Run
from langevin.run.display import Display
from langevin.run.teacher import built_for_training
from langevin.training.distributed import World
from langevin.user_function import CodePermission


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """What a run has prepared.

    Args:
        coupling: of noise with training examples; None where they are independent.
        counts: of n-grams of the training data, see `networks.ngram_prior.counted`; empty if the network reads none.
        seconds: that it took.
    """

    coupling: Coupling | None = None
    counts: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    seconds: float = 0.0

    def built(self, recipe: Recipe, code: CodePermission) -> Built:
        """The parts of a recipe on this machine, with the counts."""
        built = built_for_training(recipe, code)
        ngrams.put(built.model.network, self.counts)
        return built

    def write(self, run: Run) -> None:
        """Store what cannot be made from the recipe alone."""
        couplings.write(run, self.coupling)
        ngrams.write(run.path, self.counts)


def prepared(built: Built, data: Any, world: World, display: Display) -> Prepared:
    """Prepare a run.

    Raises:
        ValueError: see `recipe.coupling.fitted`."""
    begun = time.perf_counter()
    encode(built.batches(data), display)
    counts = ngrams.counted_in(built, data, display)
    spent = world.broadcast(time.perf_counter() - begun)
    coupling, seconds = couplings.fit_coupling(built.recipe, data, world, display)
    return Prepared(coupling=coupling, counts=counts, seconds=spent + seconds)


def resumed(run: Run, built: Built, data: Any, world: World, display: Display) -> Prepared:
    """What a run that is resumed has stored, which `built` gets; what it has not stored yet is made again.

    Raises:
        ValueError: a file is damaged, or of other data."""
    encode(built.batches(data), display)
    stored = ngrams.read(run.path)
    counts = stored or ngrams.counted_in(built, data, display)
    ngrams.put(built.model.network, counts)
    world.barrier()  # all have looked for the file
    if world.first and not stored:
        ngrams.write(run.path, counts)
    return Prepared(coupling=couplings.stored(run, data, world, display), counts=counts)


def encode(batches: Batches, display: Display) -> None:
    """Let the batches make what they make once before the first step, if anything."""
    prepare = getattr(batches, "prepare", None)
    if prepare is not None:
        prepare(display.progress("encoding data"))
