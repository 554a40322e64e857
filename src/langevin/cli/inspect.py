"""`langevin inspect`: what a folder or a run holds, and what `train` would do with it."""

import json
import warnings
from dataclasses import asdict

import torch

from langevin.cli.show import counting
from langevin.cli.train import plan
from langevin.cli.verbs import Inspect, Train
from langevin.modalities.image.inspect import inspect
from langevin.modalities.text.inspect import inspect as inspect_text
from langevin.modalities.text.sources import looks_like_text
from langevin.run.directory import open_run
from langevin.training import machine
from langevin.training.checkpoint import Damaged, load, steps


def run(asked: Inspect) -> None:
    """Print it."""
    if (asked.target / "recipe.yaml").is_file():
        facts = of_run(asked)
        print(json.dumps(facts, indent=1) if asked.json else "\n".join(f"{k:14} {v}" for k, v in facts.items()))
        return
    text = looks_like_text(asked.target)
    with counting("reading text" if text else "reading images") as progress, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = inspect_text(str(asked.target), progress=progress) if text else inspect(asked.target, progress=progress)
    try:
        recipe, _, reasons = plan(Train(target=str(asked.target)))
        choice = {"recipe": recipe.name, "reasons": reasons, "network": asdict(recipe.network)}
        lines = ["", "`langevin train` would choose, for 10 minutes on this machine:", *(f"  {r}" for r in reasons)]
    except ValueError as error:
        choice, lines = {"error": str(error)}, ["", f"`langevin train` would refuse: {error}"]
    if asked.json:
        print(json.dumps({**found.as_dict(), "choice": choice}, indent=1))
    else:
        print("\n".join([*found.lines(), *lines]))


_THINGS = {3: "images", 0: "records"}  # by the dimensions of one


def of_run(asked: Inspect) -> dict[str, object]:
    """What a run directory holds."""
    made = open_run(asked.target)
    recipe, shape = made.recipe, made.facts["shape"]
    whole: list[str] = []
    for path in steps(made.checkpoints):
        try:
            load(path, only=())
            whole.append(f"{path.name} (whole)")
        except Damaged as error:
            whole.append(f"{path.name} (damaged: {error})")
    with torch.device("meta"):
        parameters = sum(p.numel() for p in recipe.network.build().parameters())
    return {
        "recipe": recipe.name,
        "about": recipe.about,
        "result": recipe.result,
        "data": f"{made.facts['images']} {_THINGS.get(len(shape), 'rows')}" + (f", {shape}" if shape else ""),
        "network": f"{recipe.network.kind}, {parameters / 1e6:.2f} M parameters",
        "steps": recipe.training.steps,
        "checkpoints": ", ".join(whole) or "none",
        "machine": made.facts.get("machine", {}).get("processor", "unknown"),
        "here": machine.describe()["processor"],
    }
