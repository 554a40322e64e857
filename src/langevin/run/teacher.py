"""The teacher of a student that is trained: another run, by its path and the hash of its weights."""

from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.guidance import ByCondition, active, weighted
from langevin.diffusion.posterior import Prediction
from langevin.diffusion.process import Gaussian
from langevin.methods import Diffusion, DistributionMatching
from langevin.recipe.build import Built, build, guided
from langevin.recipe.tree import Recipe
from langevin.run.directory import Run, base_weights, open_run
from langevin.training import checkpoint, machine
from langevin.training.references import require_weights
from langevin.user_function import CodePermission


def with_teacher(student: Recipe) -> Recipe:
    """The recipe with the absolute path and the hash of its method's teacher, if it has one.

    Raises:
        ValueError: no run is named, or one that reads other data, noise or conditions, or that would be asked for what it
            predicts without its condition and has not learned it."""
    method = student.method
    if not isinstance(method, DistributionMatching.Config):
        return student
    if not method.teacher:
        raise ValueError("method.kind=distribution_matching matches a trained run: name it by method.teacher=RUN")
    run = open_run(Path(method.teacher).expanduser().absolute())
    if isinstance(run.recipe.method, Diffusion.Config) and run.recipe.method.coupling is not None:
        raise ValueError(
            f"the teacher at {run.path} was trained with method.coupling, so it has learned no score, which this method "
            "matches: take a run without, or --method consistency"
        )
    theirs, ours = _read(run.recipe), _read(student)
    if differ := [name for name in ours if theirs[name] != ours[name]]:
        raise ValueError(
            f"the teacher at {run.path} differs from the student in {' and '.join(differ)}, and both must have the same. A "
            "teacher is a run of method.kind=diffusion with the data, process and conditions of its student"
        )
    require_unconditional(method, run)
    sha256 = method.sha256 or checkpoint.identity(run.checkpoints)
    return replace(student, method=replace(method, teacher=str(run.path), sha256=sha256))


def require_unconditional(method: DistributionMatching.Config, run: Run) -> None:
    """Check that a teacher has learned what it predicts without its condition, if it will be asked for it.

    Raises:
        ValueError: it has not."""
    theirs = run.recipe.method
    assert isinstance(theirs, Diffusion.Config), "checked by the caller"
    if theirs.condition_dropout or theirs.port_dropout or not run.recipe.network.conditioning.ports:
        return
    compared = [g.kind for g in active(run.recipe.sampling.guidance) if isinstance(g, ByCondition)]
    if method.guidance and compared:
        asks, change = f"its guidance ({compared[0]}) compares with that", "method.guidance=false"
    elif method.condition_dropout:
        asks, change = "its student would ask for it at method.condition_dropout", "method.condition_dropout=0"
    else:
        return
    raise ValueError(
        f"the teacher at {run.path} has not learned what it predicts without its condition (its "
        f"method.condition_dropout is 0), and {asks}: set {change}, or train it with method.condition_dropout=0.1"
    )


def _read(recipe: Recipe) -> dict[str, Any]:
    """What a student and its teacher have in common."""
    process = replace(recipe.process, sigma_data=1.0) if isinstance(recipe.process, Gaussian) else recipe.process
    conditioning = replace(recipe.network.conditioning, span=False)
    method = recipe.method.kind.replace("distribution_matching", Diffusion.Config.kind)
    return {
        "data.kind": recipe.data.kind,
        "process": process,
        "network.conditioning": conditioning,
        "method.kind": method,
    }


def teacher_of(device: torch.device, code: CodePermission, config: DistributionMatching.Config) -> Denoiser[Any]:
    """The denoiser of the run that a method names, of the weights that the run is sampled with, which are not trained; with
    the guidance that it is sampled with, if the method says so.

    Raises:
        ValueError: the weights are not those of the hash."""
    require_weights("teacher", config.teacher, config.sha256)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):  # within a step, which has its own
        built, _, _ = open_run(Path(config.teacher)).load(device=device, code=code)
        denoiser = as_drawn(built) if config.guidance else built.model.denoiser
    built.model.network.requires_grad_(False)
    return denoiser


def as_drawn(built: Built) -> Denoiser[Any]:
    """The denoiser of a run with the guidance of its recipe, for conditions without weights of guidance."""
    sampling = built.recipe.sampling
    denoiser = guided(built, sampling)

    def call(x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Prediction:
        return denoiser(x_t, t, weighted(condition, sampling.guidance, len(x_t), x_t.device))

    return call


def built_for_training(recipe: Recipe, code: CodePermission) -> Built:
    """The parts of a recipe on this machine, with its method's teacher and its adapter's base."""
    device = machine.device()
    return build(
        recipe, device=device, code=code, teacher=lru_cache(partial(teacher_of, device, code)),
        base=partial(base_weights, device, code),
    )  # fmt: skip
