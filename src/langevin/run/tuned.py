"""A run that another one becomes by tuning: what it must be, and how the tuned weights are written as a run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from langevin.diffusion.sampling import Sampling
from langevin.methods import Diffusion
from langevin.modalities.modality import Batches
from langevin.run.directory import Run, create, writing
from langevin.run.generate import RunModel
from langevin.run.plan import require_no_run
from langevin.run.refine import Weights
from langevin.training import checkpoint
from langevin.training.loop import TrainingState


def require_refinable(run: Run, *, ratio: bool = False) -> None:
    """Check that a run can be refined, by a likelihood ratio or without one. Raises `ValueError`."""
    method, process = run.recipe.method, run.recipe.process
    if run.recipe.adapter is not None:
        raise ValueError(f"{run.path} is an adapted run: `langevin merge {run.path}`, and refine what that writes")
    if process.kind != "gaussian" or not isinstance(method, Diffusion.Config):
        raise ValueError(
            f"{run.path} was trained with process.kind {process.kind} and method.kind {method.kind}: this is for "
            "gaussian diffusion"
        )
    if method.coupling is not None:
        raise ValueError(f"{run.path} was trained with method.coupling, and its own samples belong to no noise of it")
    if ratio and method.levels:
        raise ValueError(
            f"{run.path} was trained with method.levels, and a likelihood ratio is of one noise level per example: "
            "refine it --by extrapolation"
        )


def require_one_shape(run: Run, batches: Batches) -> None:
    """Check that own samples like the training examples are one tensor. Raises `ValueError`."""
    buckets = getattr(batches, "buckets", None)
    if buckets is not None and (several := len(buckets.unique())) > 1:
        raise ValueError(
            f"{run.path} was trained on examples of {several} shapes (data.buckets), and this trains with samples of one, "
            f"drawn at once: train on from its weights (`train ... init_from={run.path}`), or take a run without "
            "data.buckets"
        )


def written(
    original: Run, model: RunModel, weights: Weights, out: Path, description: str, *,
    sampling: Sampling | None = None, **further: Any,
) -> Run:  # fmt: skip
    """A finished run with the recipe, the data and the state of another one, and given weights in all of its EMAs.

    Args:
        sampling: in place of the other run's.
        further: facts of the new run."""
    saved, _ = checkpoint.load_latest(original.checkpoints)
    assert saved is not None, "its model was loaded"
    recipe = replace(original.recipe, description=description, measured="", init_from=str(original.path.absolute()))
    recipe = recipe if sampling is None else replace(recipe, sampling=sampling)
    facts = {k: v for k, v in original.facts.items() if k not in ("version", "machine")} | further
    state = TrainingState.new(model.parts.method, original.recipe.training)
    state.load(saved.groups, saved.state)
    groups = {
        name: dict(weights) if name == "model" or name.startswith("ema-") else tensors
        for name, tensors in state.groups().items()
    }
    with writing(out):
        require_no_run(out)
        refined = create(out, recipe, facts)
        checkpoint.save(refined.checkpoints, state.step, groups, state.counters())
    return refined
