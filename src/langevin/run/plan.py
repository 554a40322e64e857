"""What a training run will be, before its first step: its data, its recipe, with reasons, and its directory."""

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from langevin.modalities.dataset_files.subsets import is_dataset_file
from langevin.modalities.modality import Budget
from langevin.modalities.paths import list_entries, shard_remarks
from langevin.recipe.complete import complete
from langevin.recipe.dataset_file import Imported, imported
from langevin.recipe.detect import chosen
from langevin.recipe.read import check, merge, override, read_tree, shipped
from langevin.recipe.tree import Recipe
from langevin.run.base import with_base
from langevin.run.directory import FILES, is_being_written, is_leftover
from langevin.run.display import QUIET, Display
from langevin.run.reporting import NOBODY, Reporting
from langevin.run.teacher import with_teacher
from langevin.training import machine
from langevin.user_function import NO_CODE, CodePermission

# overrides that apply before data is opened and a recipe is suggested; the rest follow the suggestions
OPENING = re.compile(r"data\.(\w+|codec\.kind|codec\.path|buckets\.\w+)=(?!\{)|training\.(minutes|precision)=")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The arguments of a training run.

    Args:
        target: a folder or file of data, the name of a shipped recipe, or the path of a recipe.
        overrides: changes of the recipe, key.key=value.
        minutes: time budget of the whole run; None is 10 for data, else the recipe's.
        out: directory of the run; None is runs/NAME.
        seed: None is the recipe's.
        data: path to the data of a recipe, in place of the recipe's data.path.
        allow_code: allow functions (module:function) that the recipe names to be imported.
        reporting: the trackers and webhooks that are told of it.
    """

    target: str
    overrides: tuple[str, ...] = ()
    minutes: float | None = None
    out: Path | None = None
    seed: int | None = None
    data: Path | None = None
    allow_code: bool = False
    reporting: Reporting = NOBODY

    @property
    def changes(self) -> list[str]:
        """All overrides of the recipe, in order of precedence: explicit overrides come last and win."""
        changes = [] if self.minutes is None else [f"training.minutes={self.minutes!r}", "training.steps=null"]
        return [*changes, *([] if self.seed is None else [f"training.seed={self.seed}"]), *self.overrides]


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A recipe before it is completed, its training and held-out data, and the reasons for its choices."""

    recipe: Recipe
    data: tuple[Any, Any]
    reasons: tuple[str, ...]


def require_target(target: str) -> None:
    """Check that a target of a training is there.

    Raises:
        ValueError: it is neither data nor a recipe."""
    given = Path(target)
    if (given / "recipe.yaml").is_file() and (given / "environment.json").is_file():
        raise ValueError(f"{given} is a run, not data: `langevin resume {given}` trains it to its end")
    if target not in shipped() and given.suffix not in (".yaml", ".yml") and not given.exists():
        near = get_close_matches(target, shipped(), n=1)
        known = f"; did you mean {near[0]}?" if near else f"; shipped are {', '.join(shipped())}"
        raise ValueError(f"'{target}' is neither an existing folder or file nor a shipped recipe{known}")


def plan(wanted: Wanted, display: Display = QUIET) -> Planned:
    """The plan of a run.

    Raises:
        ValueError: the target is neither data nor a recipe, or the recipe with the overrides is not valid.
    """
    require_target(wanted.target)
    given = Path(wanted.target)
    if wanted.target in shipped() or given.suffix in (".yaml", ".yml"):
        tree = read_tree(wanted.target)
        if wanted.data is not None:
            tree["data"] = {**tree.get("data", {}), "path": str(wanted.data)}
        recipe = check(override(tree, wanted.changes), where=f"recipe '{wanted.target}' with your changes")
        reasons = (f"recipe: {recipe.name}, {recipe.description}",)
        return Planned(recipe=recipe, data=_open(recipe, display), reasons=reasons)
    if wanted.data is not None:
        raise ValueError(
            f"--data is the path to the data of a recipe, and '{wanted.target}' is data itself: leave --data out"
        )
    minutes, other = 10.0 if wanted.minutes is None else wanted.minutes, Imported()
    if is_dataset_file(given):
        kind = next((change.split("=", 1)[1] for change in wanted.changes if change.startswith("data.kind=")), None)
        other = imported(given, {field.name for field in fields(chosen(given, kind))})
    planned = choose(given, [*other.changes, *wanted.changes], minutes=minutes, display=display)
    return replace(planned, reasons=(*other.lines, *planned.reasons))


def choose(path: Path, changes: list[str], *, minutes: float, display: Display) -> Planned:
    """A recipe for the data at a path, of the modality that reads it best, sized for the data, the machine and the time.

    Raises:
        ValueError: no modality reads it, or several read it equally well."""
    if not 0 < minutes < 1e6:
        raise ValueError(f"--minutes must be positive, got {minutes}")
    kind = next((change.split("=", 1)[1] for change in changes if change.startswith("data.kind=")), None)
    data = asdict(chosen(path, kind))
    opening = [change for change in changes if OPENING.match(change)]
    first = check(override({"data": data, "training": {"minutes": minutes}}, opening), where="the data section")
    opened = _open(first, display)
    training = replace(first.training, precision=machine.precision(first.training.precision))
    budget = Budget(minutes=training.minutes or minutes, flops=machine.matrix_rate(training.dtype))
    suggested = first.data.suggest(opened[0], budget)
    tree = merge({"data": asdict(first.data), "training": {"minutes": minutes}}, suggested.recipe)
    recipe = check(override(tree, changes), where="the chosen recipe with your changes")
    return Planned(recipe=recipe, data=opened, reasons=tuple(suggested.reasons))


def settle(recipe: Recipe, data: Any, code: CodePermission = NO_CODE) -> Recipe:
    """Complete the recipe from data and machine; paths become absolute, so that the run can be used from any directory."""
    if recipe.training.shuffle_window is not None and getattr(data, "shards", None) is None:
        raise ValueError(
            "training.shuffle_window is for data in shards or Parquet files, and this is not: leave it out"
        )
    recipe = complete(recipe, data, code)
    if recipe.init_from:
        recipe = replace(recipe, init_from=str(Path(recipe.init_from).expanduser().absolute()))
    recipe = with_base(with_teacher(replace(recipe, data=at_absolute_paths(recipe.data))))
    return replace(recipe, training=replace(recipe.training, precision=machine.precision(recipe.training.precision)))


def at_absolute_paths(part: Any) -> Any:
    """A configuration whose paths, also of its sources, codecs and parts, are absolute."""
    if isinstance(part, Mapping):
        return {key: at_absolute_paths(value) for key, value in part.items()}
    if not is_dataclass(part) or isinstance(part, type):
        return part
    changes = {field.name: at_absolute_paths(getattr(part, field.name)) for field in fields(part) if field.init}
    if isinstance(path := changes.get("path"), str) and path:
        changes["path"] = str(Path(path).expanduser().absolute())
    return replace(part, **{name: value for name, value in changes.items() if value is not getattr(part, name)})


def require_no_run(path: Path) -> None:
    """Check that a run can be created at the path without touching what is there."""
    if (path / "recipe.yaml").exists():
        raise ValueError(
            f"{path} already holds a run: continue it by `langevin resume {path}`, or choose another --out"
        )
    held = sorted(FILES & {entry.name for entry in list_entries(path)}) if path.is_dir() else []
    if held and not is_leftover(path):
        raise ValueError(f"{path} holds files that a run would replace, such as {held[0]}: choose another --out")


def directory_of(recipe: Recipe, wanted: Path | None) -> Path:
    """The directory of a new run: `wanted`, or runs/NAME here, or beside the data if the working directory is in it.

    Raises:
        ValueError: `wanted` is the data itself."""
    data, name = recipe.data.path, recipe.name
    folder = Path(data).expanduser().resolve() if data else None
    if wanted is not None:
        if folder is not None and wanted.resolve() == folder:
            raise ValueError(f"--out {wanted} is the data itself: choose another directory for the run")
        return wanted
    inside = folder is not None and folder.is_dir() and Path.cwd().is_relative_to(folder)
    runs = Path(os.path.relpath(folder.parent / "runs")) if folder is not None and inside else Path("runs")
    return _unused(runs / name.split("/")[-1])


def _unused(path: Path) -> Path:
    """The path, or the first of path-2, path-3, ... at which there is nothing, or the leftover of a start that failed."""
    number = 2
    unused = path
    while os.path.lexists(unused) and (not is_leftover(unused) or is_being_written(unused)):
        unused, number = path.with_name(f"{path.name}-{number}"), number + 1
    return unused


def _open(recipe: Recipe, display: Display) -> tuple[Any, Any]:
    for line in shard_remarks(Path(recipe.data.path).expanduser()) if recipe.data.path else ():
        display.say(line)
    return recipe.data.open(progress=display.progress("reading data"))
