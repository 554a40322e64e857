"""`langevin inspect`: describe data, a run or a recipe, and what `train` would choose for the data."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from langevin.cli.show import LiveLine, output
from langevin.cli.verbs import Inspect
from langevin.embed import CARRYING, extract
from langevin.files import read_regular
from langevin.modalities.paths import did_you_mean
from langevin.recipe.detect import candidates, chosen
from langevin.recipe.read import check, check_density, read_tree, shipped
from langevin.run.directory import open_run
from langevin.run.ema_choice import read_choice
from langevin.run.plan import Wanted, plan
from langevin.training import machine
from langevin.training.checkpoint import Damaged, load, steps

MOST = 1 << 28  # bytes of a file that may hold what it was made from


def run(args: Inspect) -> None:
    """Print the description.

    Raises:
        ValueError: the target does not exist, or no modality can read it."""
    target = args.target
    if (target / "recipe.yaml").is_file() and (target / "environment.json").is_file():
        show(of_run(target), json_wanted=args.json)
        return
    if str(target) in shipped() or target.suffix in (".yaml", ".yml"):
        show(of_recipe(str(target)), json_wanted=args.json)
        return
    if not target.exists():
        hint = did_you_mean(str(target), shipped()) or "; the shipped recipes are " + ", ".join(shipped())
        raise ValueError(f"there is no data, run or recipe at {target}{hint}")
    if target.suffix.lower() in CARRYING and target.is_file() and (facts := extract(read_regular(target, most=MOST))):
        show(facts, json_wanted=args.json)
        return
    data(args)


def show(facts: dict[str, Any], *, json_wanted: bool) -> None:
    """Print facts by name, as a table or as JSON."""
    if json_wanted:
        print(json.dumps(facts, indent=1))
        return
    for name, value in facts.items():
        output(f"{name:14} {value}")


def of_recipe(name: str) -> dict[str, Any]:
    """What a recipe is for, by shipped name or path.

    Raises:
        ValueError: there is none, or it is not usable."""
    tree = read_tree(name)
    if "density" in tree:
        density = check_density(tree, where=name)
        return {
            "recipe": density.name, "description": density.description, "measured": density.measured,
            "density": f"{density.density.kind}, {density.dimensions} dimensions", "use": f"langevin sample {name}",
        }  # fmt: skip
    recipe = check(tree, where=f"recipe '{name}'")
    training = recipe.training
    return {
        "recipe": recipe.name, "description": recipe.description, "measured": recipe.measured,
        "data": ", ".join(filter(None, (recipe.data.kind, recipe.data.path))), "network": recipe.network.kind,
        "process": recipe.process.kind,
        "training": f"{training.steps:,} steps" if training.steps else f"{training.minutes:g} minutes",
        "use": f"langevin train {name}",
    }  # fmt: skip


def data(args: Inspect) -> None:
    """Print the description of data, and the recipe that `train` would choose."""
    detected = candidates(args.target)
    best = detected[0].modality if detected else chosen(args.target)
    line = LiveLine()
    inspection = best.inspect(progress=line.progress("reading"))
    line.close()
    read_as = [f"{c.modality.kind} ({c.score:.2f}): {c.reason}" for c in detected]
    try:
        planned = plan(Wanted(target=str(args.target)))
        recipe, reasons = planned.recipe, planned.reasons
        choice = {"recipe": recipe.name, "reasons": reasons, "network": asdict(recipe.network)}
        lines = ["", "`langevin train` would choose, for 10 minutes on this machine:", *(f"  {r}" for r in reasons)]
    except ValueError as error:
        choice, lines = {"error": str(error)}, ["", f"`langevin train` would refuse: {error}"]
    if args.json:
        read = [{"kind": c.modality.kind, "score": c.score, "reason": c.reason} for c in detected]
        print(json.dumps({**inspection.as_dict(), "read_as": read, "choice": choice}, indent=1))
    else:
        output("\n".join([*inspection.lines(), "", "Can be read as:", *(f"  {text}" for text in read_as), *lines]))


def of_run(path: Path) -> dict[str, object]:
    """The description of a run by name, for the table or JSON."""
    run = open_run(path)
    recipe, shape = run.recipe, run.facts["shape"]
    checkpoints, planned = list[str](), recipe.training.steps
    for folder in steps(run.checkpoints):
        try:
            state = load(folder, only=()).state
            planned = planned or state["plan"][-1][1]  # of the newest checkpoint
            checkpoints.append(f"{folder.name} (complete)")
        except (KeyError, TypeError, IndexError):
            checkpoints.append(f"{folder.name} (damaged: its state.json has no plan of steps)")
        except Damaged as error:
            checkpoints.append(f"{folder.name} (damaged: {error})")
    with torch.device("meta"):
        parameters = sum(p.numel() for p in recipe.network.build().parameters())
    return {
        "recipe": recipe.name,
        "description": recipe.description,
        "measured": recipe.measured,
        "data": f"{recipe.data.kind}, {run.facts['items']} items, samples of shape {shape}",
        "network": f"{recipe.network.kind}, {parameters / 1e6:.2f} M parameters",
        "steps": planned,
        "EMA": choice.line().removeprefix("EMA ")
        if (choice := read_choice(path))
        else f"length {run.ema_length(None):g}",
        "checkpoints": ", ".join(checkpoints) or "none",
        "machine": machine_of(run.facts),
        "here": machine.describe()["processor"],
    }


def machine_of(facts: dict[str, Any]) -> str:
    """The processor that a run was trained on, as its environment.json says, which may be of anyone."""
    found = facts.get("machine")
    return str(found.get("processor", "unknown")) if isinstance(found, dict) else "unknown"
