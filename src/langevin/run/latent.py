"""Training in latents: an autoencoder of the data, and then a run that draws its latents, in one time budget.

"High-Resolution Image Synthesis with Latent Diffusion Models" (2021, arXiv 2112.10752)."""

import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from langevin.modalities.modality import Budget
from langevin.recipe.read import check, merge, override
from langevin.recipe.tree import Recipe
from langevin.run.directory import Run, open_run
from langevin.run.display import QUIET, Display, duration
from langevin.run.plan import Planned, Wanted, directory_of, plan, require_no_run
from langevin.run.train import resume_run, train_planned
from langevin.training import machine
from langevin.training.distributed import World, join_world

SHARE = 0.4  # of the time budget for the autoencoder
OF_BOTH = re.compile(r"(data|training)[.=]")  # changes that both runs get; others are of the second one
OWN = re.compile(r"training\.(minutes|optimizer|batch)\b")  # but these are not of the autoencoder


@dataclass(frozen=True, kw_only=True)
class Data:
    """The opened data of both runs, and their time budget in minutes."""

    recipe: Recipe
    parts: tuple[Any, Any]
    minutes: float

    def planned(self, tree: Any, suggest: Callable[[Any, Budget], Any], changes: list[str], minutes: float) -> Planned:
        """The recipe that `suggest` makes of a data section within `minutes`, with changes."""
        training = replace(self.recipe.training, precision=machine.precision(self.recipe.training.precision))
        suggested = suggest(self.parts[0], Budget(minutes=minutes, flops=machine.matrix_rate(training.dtype)))
        tree = merge({"data": tree, "training": {"minutes": minutes}}, suggested.recipe)
        recipe = check(override(tree, changes), where="the chosen recipe with your changes")
        return Planned(recipe=recipe, data=self.parts, reasons=tuple(suggested.reasons))


def train_in_latents(
    wanted: Wanted, display: Display = QUIET, *, created: Callable[[Path], None] = lambda path: None
) -> Run:
    """Train an autoencoder and then a run that draws its latents, and return the latter. With a `process.kind` of tokens
    the autoencoder is quantised, and its codes are drawn. Of a recipe only the data is used: the rest is chosen. If the
    autoencoder was begun before, it is trained to its end, and then used.

    Args:
        created: called with the directory of the second run before its first step.

    Raises:
        ValueError: the data has no autoencoder, or see `train_run`."""
    world, begun = join_world(), time.monotonic()
    if wanted.out is not None:
        require_no_run(wanted.out)
    first = plan(replace(wanted, overrides=tuple(filter(OF_BOTH.match, wanted.overrides))), display)
    process: Any = override({}, [text for text in wanted.changes if text.startswith("process")]).get("process", {})
    codes = process.get("kind", "gaussian") != "gaussian"
    suggest = getattr(first.recipe.data, "suggest_autoencoder", None)
    if suggest is None:
        raise ValueError(
            f"--latent trains an autoencoder of the data, and {first.recipe.data.kind} has none: leave it out"
        )
    minutes = wanted.minutes or first.recipe.training.minutes or 10.0
    data, out = Data(recipe=first.recipe, parts=first.data, minutes=minutes), directory_of(first.recipe, wanted.out)
    if world.first:
        for text in first.data[0].notes.lines():
            display.say(text)
    path = out.with_name(f"{out.name}-autoencoder")
    tree = asdict(first.recipe.data) | {
        "codec": {"kind": "codes" if codes else "latents", "path": str(path.absolute())}
    }
    changes = [text for text in wanted.changes if not text.startswith("training.minutes=")]
    stand_in: Any = {"network": {"kind": "transformer"}, "process": {"kind": "masked"}}
    if not codes:
        stand_in = first.recipe.data.suggest(first.data[0], Budget(minutes=minutes, flops=1e9)).recipe
    stand_in = merge({"data": tree, "training": {"minutes": minutes}}, stand_in)
    check(override(stand_in, changes), where="the run in latents with your changes")  # before an autoencoder is trained
    autoencoder(data, partial(suggest, codes=codes), path, wanted, display, world)
    modality = check(override({"data": tree}, []), where="the data section").data
    left = max(minutes - (time.monotonic() - begun) / 60, 0.5 * (1 - SHARE) * minutes)
    second = data.planned(tree, modality.suggest, changes, round(left, 2))
    return train_planned(second, replace(wanted, out=out), display, created=created)


def autoencoder(
    data: Data, suggest: Callable[[Any, Budget], Any], path: Path, wanted: Wanted, display: Display, world: World
) -> Run:
    """The trained autoencoder at a path: a run that is there already, or a new one.

    Raises:
        ValueError: what is there is another run, or one of other data."""
    if not (path / "recipe.yaml").is_file():
        changes = [text for text in wanted.changes if OF_BOTH.match(text) and not OWN.match(text)]
        planned = data.planned(asdict(data.recipe.data), suggest, changes, round(SHARE * data.minutes, 2))
        if world.first:
            display.say(f"first an autoencoder, in {duration(60 * SHARE * data.minutes)}: {path}")
        return train_planned(planned, replace(wanted, out=path), display, noted=False)
    run = open_run(path)
    if run.recipe.network.kind != "autoencoder":
        raise ValueError(f"{path}, where the autoencoder would be, is another run: choose another --out")
    run.require_same(data.parts[0])
    if world.first:
        display.say(f"the autoencoder {path} is there already, and is used")
    return resume_run(path, allow_code=wanted.allow_code, display=display)
