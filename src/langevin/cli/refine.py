"""`langevin refine`: other weights of a trained run, if held-out measurements prove them better."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from langevin.cli.compare import show_groups
from langevin.cli.out import unused
from langevin.cli.show import LiveLine
from langevin.cli.verbs import Refine
from langevin.files import own_folder, write_atomic
from langevin.methods import Diffusion
from langevin.modalities.modality import Measuring
from langevin.run.directory import Run, create, load_model, open_run, put, writing
from langevin.run.generate import RunModel
from langevin.run.plan import require_no_run
from langevin.run.refine import (
    Measured,
    Weights,
    best_of,
    extrapolated,
    measured,
    objections,
    own_samples,
    slowed,
    trained_on,
    weights_of,
)
from langevin.training import checkpoint, machine
from langevin.training.loop import TrainingState
from langevin.user_function import CodePermission

SLOWER = 0.25  # of the run's learning rates


def run(args: Refine) -> Run:
    """Find other weights, measure them, and write a run with them.

    Raises:
        ValueError: a run that cannot be refined, or no candidate that proves itself, with the figures."""
    if not args.weights or not all(0 < w <= 100 for w in args.weights) or args.seeds < 2:
        raise ValueError(
            f"--weights are one or more numbers above 0 and at most 100, and --seeds 2 or more, got {args.weights} and "
            f"{args.seeds}"
        )
    if not 0 < args.minutes < math.inf or not 8 <= args.samples <= 10**6:
        raise ValueError(f"--minutes is positive and --samples 8 to 1,000,000, got {args.minutes} and {args.samples}")
    if args.out is not None:
        require_no_run(args.out)
    line, original = LiveLine(), open_run(args.run)
    require_refinable(original)
    code = CodePermission.of((), allow=args.allow_code)
    model, _ = load_model(original, device=machine.device(), code=code, say=line.say)
    train, val = original.open_data(progress=line.progress("reading data"))
    measuring = Measuring(
        model=model, train=train, val=val, folder=own_folder(original.path, "evaluation", create=False),
        facts=original.facts, load=lambda path: load_model(open_run(path), device=machine.device(), code=code)[0],
        count=args.count, seeds=args.seeds, say=line.say, progress=line.progress, run=original.path,
    )  # fmt: skip
    found = {0.0: measured(model, measuring)}  # before any training: data that cannot be measured is refused
    candidates = by_extrapolation(args, model, train, line)
    for weight, weights in candidates.items():
        put(model.built, dict(weights))
        found[weight] = measured(model, measuring)
    line.close()
    show(found)
    best = best_of(found)
    if against := objections(found[0.0], found[best]):
        raise ValueError(
            f"no weight refines {args.run}. The best is {best:g}, but "
            + "; ".join(against)
            + ". The run stays as it is"
        )
    out = args.out or unused(original.path.with_name(f"{original.path.name}-refined"))
    refined = written(original, model, candidates[best], out, f"{original.path.name}, extrapolated by {best:g}")
    figures = {"by": args.by, "weight": best, "measured": {f"{w:g}": m.as_dict() for w, m in found.items()}}
    write_atomic(refined.path / "refined.json", json.dumps(figures, indent=1).encode())
    line.say(f"refined with weight {best:g}: {refined.path}")
    return refined


def require_refinable(run: Run) -> None:
    """Check that a run can be refined. Raises `ValueError`."""
    method, process = run.recipe.method, run.recipe.process
    if process.kind != "gaussian" or not isinstance(method, Diffusion.Config):
        raise ValueError(
            f"{run.path} was trained with process.kind {process.kind} and method.kind {method.kind}: refine is for "
            "gaussian diffusion"
        )
    if method.coupling is not None:
        raise ValueError(f"{run.path} was trained with method.coupling, and its own samples belong to no noise of it")


def by_extrapolation(args: Refine, model: RunModel, train: Any, line: LiveLine) -> dict[float, Weights]:
    """The candidates by their weight."""
    reference, config = weights_of(model.parts.method), model.built.recipe.training
    length = f"{args.minutes:g} minutes" if args.train_steps is None else f"{args.train_steps} steps"
    line.say(f"drawing {args.samples} samples, and training on them for {length}")
    x, condition = own_samples(model, train, args.samples, seed=2_000_000 + args.seed)
    config = replace(slowed(config, SLOWER), minutes=args.minutes, steps=args.train_steps, seed=args.seed)
    tuned = trained_on(
        x, condition, model.parts.method, config, device=model.device, progress=line.progress("training, step")
    )
    return {w: extrapolated(reference, tuned, w) for w in args.weights}


def written(original: Run, model: RunModel, weights: Weights, out: Path, description: str) -> Run:
    """A finished run with the recipe, the data and the state of another one, and given weights in all of its EMAs."""
    saved, _ = checkpoint.load_latest(original.checkpoints)
    assert saved is not None, "its model was loaded"
    recipe = replace(original.recipe, description=description, measured="", init_from=str(original.path.absolute()))
    facts = {k: v for k, v in original.facts.items() if k not in ("version", "machine")}
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


def show(found: dict[float, Measured]) -> None:
    """Print what was measured of the candidates."""
    rows = [
        (f"{weight:g}", *(f"{sum(v) / len(v):.3f}" for v in (*one.distances.values(), *one.coverage.values())),
         f"{float(one.losses.mean()):.4f}", "")
        for weight, one in found.items()
    ]  # fmt: skip
    first = next(iter(found.values()))
    heads = [
        *(f"FD held-out, {space}" for space in first.distances),
        *(f"coverage, {space}" for space in first.coverage),
    ]
    show_groups(("weight", *heads, "held-out loss", ""), {"": rows})
