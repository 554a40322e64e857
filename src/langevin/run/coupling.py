"""The coupling of a run: fitted before its first step, and stored as RUN/coupling.safetensors, so that a resumed run pairs
each noise with the same example."""

import time
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from langevin.diffusion.coupling import Coupling, frequencies
from langevin.files import read_regular, write_atomic
from langevin.recipe.coupling import coupling_of, fitted, remembered
from langevin.recipe.tree import Recipe
from langevin.run.directory import Run
from langevin.run.display import Display, duration
from langevin.training import machine
from langevin.training.distributed import World

FILE = "coupling.safetensors"
MEASURED = 8  # noises per example from which the frequencies of examples are measured


def fit_coupling(recipe: Recipe, data: Any, world: World, display: Display) -> tuple[Coupling | None, float]:
    """The coupling of a recipe, None if it has none; and the seconds that fitting took.

    Raises:
        ValueError: see `recipe.coupling.fitted`."""
    if coupling_of(recipe) is None:
        return None, 0.0
    begun, batches = time.perf_counter(), recipe.data.batches(data, device=machine.device())
    coupling = fitted(recipe, batches, display.progress("coupling noise with examples, step"))
    assert coupling is not None
    if world.size > 1:  # rounding may differ between processes
        coupling = remembered(batches, world.broadcast(coupling.dual))
    if world.first:
        share = frequencies(coupling, draws=MEASURED, seed=recipe.training.seed + 1)
        spread = max(0.0, float((share - 1).square().mean()) - 1 / MEASURED) ** 0.5  # less what counting adds
        display.say(
            f"coupling: {len(share):,} examples, fitted in {duration(time.perf_counter() - begun)}; how often each is "
            f"chosen differs from equal shares by about {spread:.0%}"
        )
    return coupling, world.broadcast(time.perf_counter() - begun)


def write(run: Run, coupling: Coupling | None) -> None:
    """Store the dual vector of a run's coupling, if it has one."""
    if coupling is not None:
        write_atomic(run.path / FILE, save({"dual": coupling.dual.contiguous()}))


def stored(run: Run, data: Any, world: World, display: Display) -> Coupling | None:
    """The coupling of a run that is resumed; one that was not stored yet is fitted, to the same numbers.

    Raises:
        ValueError: the file is damaged, or of other data."""
    file = run.path / FILE
    if coupling_of(run.recipe) is None:
        return None
    if not file.is_file():
        coupling, _ = fit_coupling(run.recipe, data, world, display)
        world.barrier()
        if world.first:
            write(run, coupling)
        return coupling
    try:
        batches = run.recipe.data.batches(data, device=machine.device())
        return remembered(batches, load(read_regular(file, most=2**24))["dual"])
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise ValueError(f"{file} is damaged ({error}): remove it, and `langevin resume` fits it again") from error
