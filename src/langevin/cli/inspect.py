"""`langevin inspect`: describe data or a run, and what `train` would choose for the data."""

import json
from dataclasses import asdict
from pathlib import Path

import torch

from langevin.cli.show import LiveLine
from langevin.cli.verbs import Inspect
from langevin.recipe.detect import candidates, chosen
from langevin.run.directory import open_run
from langevin.run.train import Wanted, plan
from langevin.training import machine
from langevin.training.checkpoint import Damaged, load, steps


def run(args: Inspect) -> None:
    """Print the description.

    Raises:
        ValueError: the target does not exist, or no modality can read it."""
    if (args.target / "recipe.yaml").is_file():
        facts = of_run(args.target)
        print(json.dumps(facts, indent=1) if args.json else "\n".join(f"{k:14} {v}" for k, v in facts.items()))
        return
    detected = candidates(args.target)
    best = detected[0].modality if detected else chosen(args.target)
    line = LiveLine()
    inspection = best.inspect(progress=line.progress("reading"))
    line.close()
    read_as = [f"{c.modality.kind} ({c.score:.2f}): {c.reason}" for c in detected]
    try:
        recipe, _, reasons = plan(Wanted(target=str(args.target)))
        choice = {"recipe": recipe.name, "reasons": reasons, "network": asdict(recipe.network)}
        lines = ["", "`langevin train` would choose, for 10 minutes on this machine:", *(f"  {r}" for r in reasons)]
    except ValueError as error:
        choice, lines = {"error": str(error)}, ["", f"`langevin train` would refuse: {error}"]
    if args.json:
        read = [{"kind": c.modality.kind, "score": c.score, "reason": c.reason} for c in detected]
        print(json.dumps({**inspection.as_dict(), "read_as": read, "choice": choice}, indent=1))
    else:
        print("\n".join([*inspection.lines(), "", "Can be read as:", *(f"  {text}" for text in read_as), *lines]))


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
        "checkpoints": ", ".join(checkpoints) or "none",
        "machine": run.facts.get("machine", {}).get("processor", "unknown"),
        "here": machine.describe()["processor"],
    }
