"""`langevin merge`: write a run with adapters as one that needs neither its base nor them."""

from dataclasses import replace
from pathlib import Path

from langevin.cli.out import unused
from langevin.cli.show import LiveLine
from langevin.cli.verbs import Merge
from langevin.run import counts
from langevin.run.adapters import AdapterFile, load_with, read_adapter
from langevin.run.directory import Run, create, open_run, writing
from langevin.run.plan import require_no_run
from langevin.training import checkpoint
from langevin.training.loop import TrainingState
from langevin.user_function import CodePermission


def run(args: Merge) -> Run:
    """Write the merged run, and return it.

    Raises:
        ValueError: there is nothing to merge, or the adapters are not the run's."""
    line, original = LiveLine(), open_run(args.run)
    given = adapters_of(args.adapter)
    if not given and original.recipe.adapter is None:
        raise ValueError(f"{args.run} is no adapted run, so there is nothing to merge: name its adapters by --adapter")
    out = args.out or unused(original.path.absolute().with_name(f"{original.path.absolute().name}-merged"))
    require_no_run(out)
    model, step = load_with(original, given, code=CodePermission.of((), allow=args.allow_code), say=line.say)
    built = model.built
    names = [f"{w:g} x {file.path.parent.name}" for file, w in given]
    recipe = replace(
        built.recipe, adapter=None, continual=None, init_from=None, measured="",
        description=" + ".join([original.path.name, *names]), training=replace(built.recipe.training, steps=step),
    )  # fmt: skip
    brings = next((file.facts for file, _ in given if file.recipe.data == recipe.data), None)
    facts = brings or {k: v for k, v in original.facts.items() if k not in ("version", "machine")}
    state = TrainingState.new(built.model.method, recipe.training)
    state.step, state.samples_seen = step, step * recipe.training.batch
    with writing(out):
        require_no_run(out)
        merged = create(out, recipe, facts)
        counts.write(merged.path, counts.read(original.path))
        checkpoint.save(merged.checkpoints, step, state.groups(), state.counters())
    line.say(f"merged: {merged.path}")
    return merged


def adapters_of(given: tuple[str, ...]) -> list[tuple[AdapterFile, float]]:
    """The adapters that a command names, PATH or PATH:WEIGHT.

    Raises:
        ValueError: a weight that is no number, or see `read_adapter`."""
    return [(read_adapter(path), weight) for path, weight in map(named, given)]


def named(text: str) -> tuple[Path, float]:
    """The path and the weight of PATH or PATH:WEIGHT; the weight is 1 where a path has no number after its last colon."""
    path, colon, weight = text.rpartition(":")
    if not colon or Path(text).exists():
        return Path(text), 1.0
    try:
        value = float(weight)
    except ValueError:
        return Path(text), 1.0
    if not abs(value) <= 100:
        raise ValueError(f"the weight of an adapter is a number from -100 to 100, got {text}")
    return Path(path), value
