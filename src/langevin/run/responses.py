"""What an autoencoder compares copies by with `method.responses=classifier`: responses that the modality fits to the data
before the first step. They are kept in the run's evaluation, so that a resumed run finds the same weights."""

import time
from dataclasses import replace
from typing import Any

from langevin.files import own_folder
from langevin.methods import Autoencoding
from langevin.recipe.build import Built
from langevin.recipe.coupling import within
from langevin.recipe.tree import Recipe
from langevin.run.directory import Run
from langevin.run.display import Display
from langevin.run.teacher import built_for_training
from langevin.training.distributed import World
from langevin.user_function import CodePermission


def fit_responses(
    recipe: Recipe, data: Any, val: Any, world: World, display: Display, *, run: Run | None = None
) -> tuple[Recipe, Any, float]:
    """The recipe with the hash of its responses; these, None if it has none; and the seconds that fitting took.

    Args:
        run: that is resumed, and has kept them.

    Raises:
        ValueError: the data has none, fitting takes too long, or they are others than when the run began."""
    method, fit = recipe.method, getattr(recipe.data, "fit_responses", None)
    if not isinstance(method, Autoencoding.Config) or method.responses == "random_filters":
        return recipe, None, 0.0
    if fit is None:
        raise ValueError(f"{recipe.data.kind} data has no classifier: set method.responses=random_filters")
    begun, folder = time.perf_counter(), None if run is None else own_folder(run.path, "evaluation", create=False)
    budget = None if recipe.training.steps else recipe.training.minutes
    shown, what = display.progress("training the classifier, step"), "training the classifier"
    limited = within(budget, shown, what, "or set method.responses=random_filters")
    found = world.broadcast(fit(data, val, folder, limited, display.say))
    if run is not None and found.sha256 != method.sha256:
        raise ValueError(
            f"the classifier in {folder} has other weights than when the training of this run began: put the old ones "
            "back, or train this run again"
        )
    method = replace(method, sha256=found.sha256)
    return replace(recipe, method=method), found, world.broadcast(time.perf_counter() - begun)


def keep(run: Run, responses: Any) -> None:
    """Keep the responses of a run, if it has any."""
    if responses is not None:
        responses.save(own_folder(run.path, "evaluation"))


def built_with(recipe: Recipe, code: CodePermission, responses: Any) -> Built:
    """`built_for_training`, with the responses in the place of random filters."""
    built = built_for_training(recipe, code)
    if responses is not None:
        assert isinstance(built.model.method, Autoencoding)
        built.model.method.responses = responses
    return built
