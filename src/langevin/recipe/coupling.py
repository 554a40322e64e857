"""The coupling of a recipe: its training examples, their classes, and the dual vector fitted to them before training."""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch
from langevin.diffusion.condition import FACTS
from langevin.diffusion.coupling import MOST, Coupling, OptimalTransport, fit_dual
from langevin.diffusion.noise import SampleNoise
from langevin.methods import Diffusion
from langevin.modalities.modality import Batches
from langevin.recipe.tree import Recipe
from langevin.training.machine import out_of_memory, total_memory

HALF = 0.5  # of the time budget that a fit may take, and of the memory that the examples may
COMPARED = 64  # examples that are read with and without noise
_TOGETHER = 256  # examples that are read at a time

Progress = Callable[[int, int], None]


def coupling_of(recipe: Recipe) -> OptimalTransport | None:
    """How a recipe couples noise and examples; None where they are independent."""
    return recipe.method.coupling if isinstance(recipe.method, Diffusion.Config) else None


def fitted(recipe: Recipe, batches: Batches, progress: Progress = lambda done, total: None) -> Coupling | None:
    """The coupling of a recipe, fitted to all training examples; a function of these, the recipe and its seed.

    Raises:
        ValueError: examples that cannot be coupled, or too many for memory or the time budget."""
    config = coupling_of(recipe)
    if config is None:
        return None
    x, groups = examples(batches)
    budget = None if recipe.training.steps else recipe.training.minutes
    limited = within(
        budget, progress, "fitting method.coupling", "set a smaller method.coupling.draws, or leave it out"
    )
    dual = torch.zeros(len(x), dtype=torch.float64)
    try:
        x -= x.mean(0)
        for group in range(int(groups.max()) + 1):
            of = (groups == group).nonzero()[:, 0]
            dual[of] = fit_dual(
                x[of.to(x.device)], draws=config.draws, seed=recipe.training.seed, progress=_part(limited, groups, of)
            )
        return Coupling.of(x, groups, dual)
    except (RuntimeError, MemoryError) as error:
        raise _too_large(error, len(x)) from error


def remembered(batches: Batches, dual: Tensor) -> Coupling:
    """The coupling of a dual vector that was fitted before.

    Raises:
        ValueError: it was fitted to another number of examples."""
    return Coupling.of(*examples(batches), dual)


def examples(batches: Batches) -> tuple[Tensor, Tensor]:
    """All examples, (n, d) float32, and their classes, (n,) int64 from 0 without gaps.

    Raises:
        ValueError: they cannot be coupled: too many, of several lengths, changed at random, or with conditions that are no
            classes."""
    n = len(batches)
    if n > MOST:
        raise ValueError(
            f"method.coupling compares every noise with every example: at most {MOST:,}, and this data has {n:,}. "
            "Leave method.coupling out"
        )
    numbers = n
    for size in batches.shape:
        numbers *= size
    memory = total_memory()
    if memory is not None and 4 * numbers > HALF * memory:
        raise ValueError(
            f"method.coupling keeps all examples in memory, as {n:,} x {4 * numbers // n:,} bytes, and this machine has "
            f"{memory / 1e9:.0f} GB: leave method.coupling out"
        )
    _require_fixed(batches)
    try:
        read = [batches(items) for items in torch.arange(n).split(_TOGETHER)]
        x = torch.cat([_values(batch).flatten(1).float() for batch in read])
        labels = torch.cat([_classes(batch) for batch in read])
    except (RuntimeError, MemoryError) as error:
        raise _too_large(error, n) from error
    return x, labels.unique(return_inverse=True)[1]


def _values(batch: Batch) -> Tensor:
    """x, if all of it is data that noise can be added to."""
    condition = batch.condition
    facts = [name for name in FACTS if condition is not None and getattr(condition, name) is not None]
    if not isinstance(batch.x, Tensor) or facts or batch.mask is not None or batch.known is not None:
        raise ValueError(
            "method.coupling pairs noise with whole examples of one size, and these are in parts, padded, or given in "
            "part: leave it out"
        )
    return batch.x


def _classes(batch: Batch) -> Tensor:
    """The classes (b,) int64 that the network is given, -1 for one that is missing; 0 for all if it is given nothing."""
    ports = {} if batch.condition is None else batch.condition.ports
    labels = ports.get("global_")
    if set(ports) - {"global_"}:
        raise ValueError(
            "method.coupling couples noise with the examples of each class, or with all of them, and these have conditions "
            f"that are no classes ({', '.join(ports)}): leave method.coupling out"
        )
    return (
        torch.zeros(len(batch.x), dtype=torch.int64) if labels is None else labels.tensor.where(labels.kept(), -1).cpu()
    )


def _require_fixed(batches: Batches) -> None:
    """Check that examples are the same at every reading: what is paired with a noise is then what is trained on."""
    items = torch.arange(min(len(batches), COMPARED))
    changed = batches(items, SampleNoise(seeds=items, steps=torch.ones_like(items))).x
    if not torch.equal(_values(batches(items)), changed):
        raise ValueError(
            "method.coupling pairs noise with fixed examples, and these change at random whenever they are read, as by "
            "data.flip: set data.flip=false, or leave method.coupling out"
        )


def within(minutes: float | None, progress: Progress, what: str, instead: str) -> Progress:
    """Progress of what is done before the first step, which raises `ValueError` as soon as it is seen to take more than
    `HALF` of the minutes; `instead` is what else can be done."""
    begun, limit = time.perf_counter(), math.inf if minutes is None else HALF * 60 * minutes

    def report(done: int, total: int) -> None:
        spent = time.perf_counter() - begun
        if minutes is not None and spent > 0.1 * limit and spent * total / done > limit:
            raise ValueError(
                f"{what} would take {spent * total / done / 60:.1f} of the {minutes:g} minutes: train longer, {instead}"
            )
        progress(done, total)

    return report


def _part(progress: Progress, groups: Tensor, of: Tensor) -> Progress:
    """The progress of a class within that of all, which have equal shares."""
    number, group = int(groups.max()) + 1, int(groups[of[0]])
    return lambda done, total: progress(group * total + done, number * total)


def _too_large(error: Exception, n: int) -> Exception:
    if not out_of_memory(error):
        return error
    return ValueError(f"the {n:,} examples that method.coupling compares do not fit into memory: leave it out")
