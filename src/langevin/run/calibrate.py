"""Timing some steps of a run with a time budget, and deciding whether its network is compiled."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from langevin.recipe.build import training_batches
from langevin.recipe.tree import Recipe
from langevin.run.display import Display, duration
from langevin.run.prepared import Prepared
from langevin.training import machine
from langevin.training.calibration import Calibration, calibrate, set_threads, thread_policy
from langevin.training.distributed import World
from langevin.training.loop import TrainingConfig, TrainingState
from langevin.training.parallel import WHOLE, Mesh
from langevin.training.placement import placed
from langevin.user_function import CodePermission

LONG_ENOUGH = 20.0  # minutes: in shorter runs compiling is not tried


def calibrated(
    recipe: Recipe,
    data: Any,
    world: World,
    display: Display,
    code: CodePermission,
    *,
    prepared: Prepared,
    where: Mesh = WHOLE,
) -> tuple[Recipe, Calibration | None]:
    """Time some steps if the recipe has a time budget, decide whether to compile, and show the expected length."""
    training, begun = recipe.training, time.perf_counter() - prepared.seconds
    with torch.device("meta"):
        parameters = sum(p.numel() for p in recipe.network.build().parameters())
    text = (
        f"network: {recipe.network.kind}, {parameters / 1e6:.2f} M weights, {training.precision} on {machine.device()}"
    )
    calibration: Calibration | None = None

    def measure(compiled: bool) -> Calibration:
        variant = replace(recipe, training=replace(training, compile=compiled, minutes=training.minutes or 1.0))
        built = prepared.built(variant, code)
        method = built.model.method
        state = TrainingState.new(method, variant.training, placement=placed(method, where))
        batches = training_batches(variant, built.batches(data), prepared.coupling, prepared.memory.old)
        before, threads = torch.get_num_threads(), thread_policy(variant.training, machine.device())
        calibration = calibrate(
            state, batches, method, variant.training, threads=threads, world=world, before=prepared.seconds
        )
        set_threads(before)
        return calibration

    if training.steps is None or training.compile:
        compiled, calibration = _compiled_or_not(training, measure, world, display, begun=begun)
        recipe = replace(recipe, training=replace(training, compile=compiled))
        steps = training.steps or calibration.steps
        budget = "" if training.steps else f" in {training.minutes:g} minutes"
        text += f"; {training.batch / calibration.seconds:.0f} samples/s, so {steps} steps of {training.batch}{budget}"
    if world.first:
        display.say(text)
    return recipe, calibration


def _compiled_or_not(
    training: TrainingConfig, measure: Callable[[bool], Calibration], world: World, display: Display, *, begun: float
) -> tuple[bool, Calibration]:
    """Whether to compile, and the cost of a step; `measure` finds it with compiling or without.

    Compiling is tried only if the recipe has it and the run is long, and kept only if it saves more time than it takes."""
    plain = measure(False)
    if not training.compile:
        return False, plain
    work = (training.steps or plain.steps) * plain.seconds
    if work < 60 * LONG_ENOUGH:
        display.say(
            f"training.compile: not used, as {duration(work)} of steps are too few to save the time that compiling takes"
        )
        return False, plain
    mark = time.perf_counter()
    try:
        fast = measure(True)
    except Exception as error:  # a missing or failing compiler must not end the run
        display.say(f"training.compile: not used, as it failed ({type(error).__name__}: {str(error).splitlines()[0]})")
        return False, plain
    now = time.perf_counter()
    spent, total = world.broadcast((now - mark, now - begun))
    wins = spent + work * fast.seconds / plain.seconds < work
    text = f"{duration(spent)} to compile, {fast.seconds / plain.seconds:.2f} times the time per step"
    display.say(f"training.compile: {'used' if wins else 'not used'} ({text})")
    steps = int((work - spent) / fast.seconds) if wins else plain.steps
    return wins, replace(fast if wins else plain, steps=max(1, steps), spent=total)
