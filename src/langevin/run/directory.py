"""runs/<name>/: recipe.yaml (complete), environment.json, metrics.jsonl, samples/, checkpoints/, averages/, solvers/,
report.html.

One process writes at a time, which a lock makes sure of; any number may read.
"""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from langevin.recipe.build import Built, build
from langevin.recipe.entry import NO_CODE, Code
from langevin.recipe.read import check, dump, read_tree
from langevin.recipe.tree import Recipe
from langevin.run.solvers import Kept
from langevin.training import checkpoint
from langevin.training.machine import describe, precision
from langevin.training.snapshots import average_of_width

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run directory that has a recipe."""

    path: Path
    recipe: Recipe
    facts: dict[str, Any]

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        folder = self.path / "samples"
        folder.mkdir(exist_ok=True)
        return folder

    def require_same(self, fingerprint: str, images: int) -> None:
        """Check that data is what the run was trained on.

        Raises:
            ValueError: it is not: class numbers, parts and figures would not be the run's."""
        if fingerprint != self.facts.get("data"):
            raise ValueError(
                f"the data of {self.path} has changed since it was started ({images} training rows now, "
                f"{self.facts.get('images')} then): what is done with it would not be of the same run. "
                "Put it back, or train anew"
            )

    def load(
        self, *, average: float | None = None, device: torch.device | None = None, code: Code = NO_CODE
    ) -> tuple[Built, int, list[str]]:
        """The run's parts with its trained weights, the step they are of, and lines the user should read.

        Args:
            average: width of the average of the weights; 0 for the weights themselves, which a run without averages
                gives for any width; None as the recipe says.
            code: which functions of the user's own the command at hand may import.

        Raises:
            ValueError: there is no whole checkpoint yet, or the recipe names code that is not allowed.
        """
        width = self.width(average)
        found, lines = checkpoint.load_latest(self.checkpoints, only=("model", f"average-{width:g}"))
        if found is None:
            told = "\n".join(lines)
            raise ValueError(f"{self.path} has no whole checkpoint to load. {told}".strip())
        recipe = self.recipe
        if recipe.training.precision == "bfloat16" and precision("auto") == "float32":
            recipe = replace(recipe, training=replace(recipe.training, precision="float32"))
            lines.append("the run was trained in bf16, which is slow on this machine: drawing in float32")
        built = replace(build(recipe, device=device, code=code), recipe=self.recipe)
        step = int(found.state["step"])
        if width == 0:
            tensors = found.groups["model"]
        elif f"average-{width:g}" in found.groups:
            tensors = found.groups[f"average-{width:g}"]
        else:
            tensors = average_of_width(self.path, width)
            lines.append(f"average of width {width:g} reconstructed from the run's snapshots")
        put(built, tensors)
        kept = Kept(run=self.path, process=built.process, network=built.network, average=width)
        return replace(built, learned=kept), step, lines

    def width(self, average: float | None) -> float:
        """The width of average that `load` gives: the recipe's for None, 0 for a run without averages."""
        width = self.recipe.sampling.average if average is None else average
        return width if self.recipe.training.averages else 0.0


@torch.no_grad()
def put(built: Built, tensors: dict[str, Tensor]) -> None:
    """Copy weights, named player.parameter, into the parts, and make them ready to answer.

    Raises:
        ValueError: the weights are not those of this network."""
    for player, module in built.method.players.items():
        for name, parameter in module.named_parameters():
            saved = tensors.get(f"{player}.{name}")
            if saved is None or saved.shape != parameter.shape:
                raise ValueError(f"the checkpoint is of another network: '{name}' is missing or of another shape")
            parameter.copy_(saved)
        module.eval()


def create(path: Path, recipe: Recipe, facts: dict[str, Any]) -> Run:
    """Make a run directory, or bring an existing one of the same run up to date.

    The recipe comes last: where it is, the run is whole."""
    path.mkdir(parents=True, exist_ok=True)
    environment = {"version": VERSION, **facts, "machine": describe()}
    checkpoint.write_atomic(path / "environment.json", json.dumps(environment, indent=1).encode())
    checkpoint.write_atomic(path / "recipe.yaml", dump(recipe).encode())
    return Run(path=path, recipe=recipe, facts=environment)


def open_run(path: Path) -> Run:
    """Read a run directory.

    Raises:
        ValueError: it is not one, is damaged, or is of another version: what is missing and what to do.
    """
    if not path.is_dir():
        near = sorted(p.parent for p in path.parent.glob("*/recipe.yaml")) if path.parent.is_dir() else []
        known = f"; there are {', '.join(map(str, near[:5]))}" if near else "; `langevin train` makes one"
        raise ValueError(f"there is no run at {path}{known}")
    if not (path / "recipe.yaml").is_file():
        raise ValueError(f"{path} is no run: it has no recipe.yaml. A run directory is what `langevin train` writes")
    try:
        facts = json.loads((path / "environment.json").read_text())
        version = facts["version"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}/environment.json is missing or damaged ({error!r})") from error
    if version != VERSION:
        raise ValueError(f"{path} was written as version {version} of a run; this langevin reads {VERSION}")
    if not {"data", "images", "shape"} <= facts.keys():
        raise ValueError(f"{path}/environment.json is damaged: it does not say what data the run is of")
    tree = read_tree(path / "recipe.yaml")
    last = fields(Recipe)[-1].name
    if last not in tree:
        raise ValueError(f"{path}/recipe.yaml is cut: a run's recipe is complete and ends with '{last}'")
    recipe = check(tree, where=f"{path}/recipe.yaml")
    return Run(path=path, recipe=recipe, facts=facts)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Hold the right to write in a run directory.

    Raises:
        ValueError: another process holds it.
    """
    path.mkdir(parents=True, exist_ok=True)
    with (path / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ValueError(
                f"{path} is being written by another process; wait for it, or use another --out"
            ) from error
        yield
