"""`langevin train`: from a folder or a recipe to a run."""

import time
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from langevin.cli.show import LiveLine, counting, duration
from langevin.cli.verbs import Train
from langevin.diffusion.noise import RowNoise
from langevin.diffusion.process import Drift
from langevin.modalities.text.sources import looks_like_text
from langevin.recipe.build import Built, build, complete, open_data, reader, training_batches
from langevin.recipe.choose import choose, source_of
from langevin.recipe.choose_text import choose_text, source_of_text
from langevin.recipe.entry import NO_CODE, Code
from langevin.recipe.read import check, merge, override, read_tree, shipped
from langevin.recipe.tree import Recipe
from langevin.run.directory import Run, create, open_run, writing
from langevin.run.watch import Watch
from langevin.training import machine
from langevin.training.distributed import World, join_world
from langevin.training.loop import TrainingState
from langevin.training.session import Hooks, calibrate, train

LONG_ENOUGH = 20.0  # minutes of a run below which compiling is not tried


def run(asked: Train) -> Run:
    """Train by `asked`, and return the finished run."""
    world = join_world()
    line = LiveLine()
    if asked.out is not None:
        _require_no_run(asked.out)
    recipe, (data, held_out), reasons = plan(asked)
    code = Code.of(asked.overrides, allow=asked.allow_code)
    recipe = world.share(settle(recipe, data, code))  # what was measured here may differ from process to process
    path = world.share(asked.out or _free(Path("runs") / recipe.name.split("/")[-1]))
    with writing(path) if world.first else nullcontext():
        _require_no_run(path)
        if world.first:
            for text in (*data.notes.lines(), *reasons):
                line.say(text)
        recipe = _count_steps(recipe, data, world, line, code)
        built = build(recipe, device=machine.device(), code=code)
        if recipe.start:
            begin_from(built, recipe.start, line)
        if world.first:
            for text in remarks(built, data):
                line.say(text)
        facts = {"data": data.fingerprint, "images": len(data), "shape": list(data.shape)}
        facts |= {"broken": dict(data.notes.broken)} if data.notes.broken else {}
        world.wait()  # until all have seen that there was no run here
        made = create(path, recipe, facts) if world.first else None
        world.wait()
        made = made or open_run(path)
        carry_on(made, built, data, held_out, world, tensorboard=asked.tensorboard, line=line)
    return made


def plan(asked: Train) -> tuple[Recipe, tuple[Any, Any], list[str]]:
    """The recipe before it is completed, the two parts of its data, and why.

    Raises:
        ValueError: neither a folder nor a recipe, or one that does not fit.
    """
    given = Path(asked.target)
    changes = [] if asked.minutes is None else [f"training.minutes={asked.minutes!r}", "training.steps=null"]
    changes += [] if asked.seed is None else [f"training.seed={asked.seed}"]
    changes += asked.overrides  # last, so that what is spelled out wins
    if asked.target in shipped() or given.suffix in (".yaml", ".yml"):
        tree = read_tree(asked.target)
        if asked.data is not None:
            tree["data"] = _elsewhere(tree.get("data", {}), asked.data)
        recipe = check(override(tree, changes), where=f"recipe '{asked.target}' with your changes")
        return recipe, _open(recipe), [f"recipe: {recipe.name}, {recipe.about}"]
    if not given.exists():
        known = ", ".join(shipped())
        raise ValueError(f"'{asked.target}' is neither a folder or file that exists nor a shipped recipe ({known})")
    if asked.data is not None:
        raise ValueError(f"--data says where a recipe's data is; '{asked.target}' is data itself, so leave --data out")
    minutes = 10.0 if asked.minutes is None else asked.minutes
    if not 0 < minutes < 1e6:
        raise ValueError(f"--minutes must be positive, got {minutes}")
    own = [c for c in changes if c.startswith("data.")]
    text = looks_like_text(given)
    kind = {"network": {"kind": "transformer"}, "data": source_of_text(given)} if text else {
        "network": {"kind": "dit"}, "data": source_of(given)}  # fmt: skip
    first = check(override({"name": "custom", **kind}, own))
    data = _open(first)
    here = replace(first.training, precision=machine.precision("auto"))
    rate = machine.matrix_rate(here.dtype)
    chosen = (choose_text if text else choose)(given, data[0], minutes=minutes, rate=rate)
    tree = override(asdict(chosen.recipe), changes)
    recipe = check(tree, where="the chosen recipe with your changes")
    same = (recipe.data, recipe.held_out) == (chosen.recipe.data, first.held_out)
    return recipe, data if same else _open(recipe), list(chosen.reasons)


def _elsewhere(data: dict[str, Any], path: Path) -> dict[str, Any]:
    """A recipe's data section with another path; what it says of a folder or of texts stays."""
    if data.get("kind") == "text":
        return merge(data, source_of_text(path))
    return merge(
        {k: v for k, v in data.items() if k != "kind"} if data.get("kind") == "folder" else {}, source_of(path)
    )


def settle(recipe: Recipe, data: Any, code: Code = NO_CODE) -> Recipe:
    """Complete the recipe from data and machine; a path to data becomes absolute, so that the run can go on anywhere."""
    recipe = complete(recipe, data, code)
    path = getattr(recipe.data, "path", None)
    if recipe.start:
        recipe = replace(recipe, start=str(Path(recipe.start).expanduser().absolute()))
    if path:
        recipe = replace(recipe, data=replace(recipe.data, path=str(Path(path).expanduser().absolute())))
    return replace(recipe, training=replace(recipe.training, precision=machine.precision(recipe.training.precision)))


def carry_on(
    made: Run, built: Built, data: Any, held_out: Any, world: World, *, tensorboard: bool, line: LiveLine
) -> None:
    """Train a run to its end, from wherever it stands."""
    recipe = built.recipe
    state = TrainingState.new(built.method, recipe.training, edges=built.edges)
    read = reader(recipe, data, device=machine.device())
    for text in read.remarks if world.first else ():
        line.say(text)
    watch = Watch(made, built, state, read, reader(recipe, held_out, device=machine.device()), tensorboard=tensorboard)
    hooks = Hooks(progress=line.training, measure=watch.measure, sheet=watch.sheet, say=line.say)
    begin = time.perf_counter()
    train(made.path, state, training_batches(recipe, read), built.method, recipe.training, hooks=hooks, world=world)
    line.close()
    watch.close()
    if world.first:
        what = "images" if len(read.part.shape) == 3 else "rows"
        line.say(
            f"trained {state.step} steps, {state.images} {what}, in {duration(time.perf_counter() - begin)}: {made.path}"
        )
        line.say(f"next: langevin sample {made.path}    langevin evaluate {made.path}")


def begin_from(built: Built, path: str, line: LiveLine) -> None:
    """Give the parts the trained weights of another run, whose network must be the same.

    Raises:
        ValueError: it is another network, or has no checkpoint."""
    other, step, lines = open_run(Path(path)).load()
    for text in lines:
        line.say(text)
    weights = other.network.state_dict()
    new = ("beside.", "neighbours_beside.")
    fresh = {name: own for name, own in built.network.state_dict().items() if name.startswith(new)}
    try:  # what is told beside is new to a network that was trained without it
        built.network.load_state_dict(fresh | weights)
    except RuntimeError as error:
        raise ValueError(
            f"start: the network of {path} is of other sizes than this one; give this recipe its network section"
        ) from error
    line.say(f"start: the weights of {path} after {step} steps")


def _count_steps(recipe: Recipe, data: Any, world: World, line: LiveLine, code: Code) -> Recipe:
    """Turn a time budget into steps, and say what to expect."""
    training = recipe.training
    with torch.device("meta"):
        parameters = sum(p.numel() for p in recipe.network.build().parameters())
    text = (
        f"network: {recipe.network.kind}, {parameters / 1e6:.2f} M weights, {training.precision} on {machine.device()}"
    )
    if training.steps is None or training.compile:
        recipe, seconds = _calibrated(recipe, data, world, line, code)
        training = recipe.training
        given = "" if training.minutes is None else f" in {training.minutes:g} minutes"
        text += f"; {training.batch / seconds:.0f} samples/s, so {training.steps} steps of {training.batch}{given}"
    if world.first:
        line.say(text)
    return recipe


def _calibrated(recipe: Recipe, data: Any, world: World, line: LiveLine, code: Code) -> tuple[Recipe, float]:
    """The recipe with its number of steps, compiled or not, whichever ends first; and seconds a step.

    Compiling is tried only if asked for and the run is long, and kept only if it wins back what it costs."""

    def measured(compiled: bool) -> tuple[int, float]:
        training = replace(recipe.training, compile=compiled, minutes=recipe.training.minutes or 1.0)
        changed = replace(recipe, training=training)
        built = build(changed, device=machine.device(), code=code)
        state = TrainingState.new(built.method, training, edges=built.edges)
        batches = training_batches(changed, reader(changed, data, device=machine.device()))
        return calibrate(state, batches, built.method, training, world=world)

    def settled(compiled: bool, steps: int) -> Recipe:
        return replace(
            recipe, training=replace(recipe.training, compile=compiled, steps=recipe.training.steps or steps)
        )

    affordable, plain = measured(False)
    steps = recipe.training.steps or affordable
    if not recipe.training.compile:
        return settled(False, steps), plain
    if steps * plain < 60 * LONG_ENOUGH:
        line.say(
            f"training.compile: not taken, {duration(steps * plain)} of steps are too few to win back what compiling costs"
        )
        return settled(False, steps), plain
    begin = time.perf_counter()
    try:
        _, fast = measured(True)
    except Exception as error:  # a compiler that is missing or fails must not cost the run
        line.say(f"training.compile: not taken, it failed here ({type(error).__name__}: {str(error).splitlines()[0]})")
        return settled(False, steps), plain
    spent = world.share(time.perf_counter() - begin)
    wins = spent + steps * fast < steps * plain
    told = f"{duration(spent)} to compile, {fast / plain:.2f} times the time a step"
    line.say(f"training.compile: {'taken' if wins else 'not taken'} ({told})")
    return settled(wins, int((steps * plain - spent) / fast) if wins else steps), fast if wins else plain


def remarks(built: Built, data: Any) -> list[str]:
    """What the process says of the data: how far the simulated end of a drift is from its prior."""
    if not isinstance(built.process, Drift):
        return []
    x = built.recipe.codec.encode(data.read(torch.arange(min(len(data), 4000))))
    rows = torch.arange(len(x))
    form = "affine, in closed form" if built.process.kernel is not None else f"simulated in {built.process.steps} steps"
    gap = built.process.measured(x, RowNoise(seeds=rows, steps=torch.full_like(rows, 1)))[1]
    return [f"drift: {form}, ending in {built.process.end.name}", str(gap)]  # fmt: skip


def _open(recipe: Recipe) -> tuple[Any, Any]:
    with counting("reading data") as progress:
        return open_data(recipe, progress=progress)


def _require_no_run(path: Path) -> None:
    if (path / "recipe.yaml").exists():
        raise ValueError(
            f"{path} already holds a run: go on with it by `langevin resume {path}`, or choose another --out"
        )


def _free(path: Path) -> Path:
    """The path, or the first of path-2, path-3, ... that is not taken."""
    number = 2
    free = path
    while free.exists():
        free, number = path.with_name(f"{path.name}-{number}"), number + 1
    return free
