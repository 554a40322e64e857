"""`langevin refine`: other weights of a trained run, if held-out measurements prove them better."""

import json
import math
from dataclasses import replace
from typing import Any, assert_never

from langevin.cli.compare import show_groups
from langevin.cli.out import unused
from langevin.cli.show import LiveLine
from langevin.cli.verbs import Refine
from langevin.diffusion.batch import Batch
from langevin.files import own_folder, write_atomic
from langevin.methods import Method
from langevin.modalities.modality import Measuring
from langevin.recipe.build import training_batches
from langevin.run.directory import Run, load_model, open_run, put
from langevin.run.generate import RunModel
from langevin.run.plan import require_no_run
from langevin.run.refine import (
    Measured,
    Weights,
    batches_of,
    best_of,
    for_ratios,
    measured,
    moved,
    objections,
    own_samples,
    ratio_of,
    slowed,
    trained,
    weights_of,
)
from langevin.run.tuned import require_one_shape, require_refinable, written
from langevin.training import machine
from langevin.user_function import CodePermission

SLOWER = {"extrapolation": 0.25, "likelihood_ratio": 0.05}  # of the run's learning rates
WITH = {"extrapolation": "on them", "likelihood_ratio": "to tell the data from them"}


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
    if args.beta is not None and (args.by != "likelihood_ratio" or not 0 < args.beta < math.inf):
        raise ValueError(
            f"--beta is a positive number, and of --by likelihood_ratio, got {args.beta} with --by {args.by}"
        )
    if args.out is not None:
        require_no_run(args.out)
    line, original = LiveLine(), open_run(args.run)
    require_refinable(original, ratio=args.by == "likelihood_ratio")
    code = CodePermission.of((), allow=args.allow_code)
    model, _ = load_model(original, device=machine.device(), code=code, say=line.say)
    train, val = original.open_data(progress=line.progress("reading data"))
    require_one_shape(original, model.batches(train))
    measuring = Measuring(
        model=model, train=train, val=val, folder=own_folder(original.path, "evaluation", create=False),
        facts=original.facts, load=lambda path: load_model(open_run(path), device=machine.device(), code=code)[0],
        count=args.count, seeds=args.seeds, say=line.say, progress=line.progress, run=original.path,
    )  # fmt: skip
    found = {0.0: measured(model, measuring)}  # before any training: data that cannot be measured is refused
    candidates = candidates_of(args, model, train, line)
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
    description = f"{original.path.name}, refined by {args.by} with {best:g}"
    refined = written(original, model, candidates[best], out, description)
    figures = {"by": args.by, "beta": args.beta, "weight": best}
    figures |= {"measured": {f"{w:g}": m.as_dict() for w, m in found.items()}}
    write_atomic(refined.path / "refined.json", json.dumps(figures, indent=1).encode())
    line.say(f"refined with weight {best:g}: {refined.path}")
    return refined


def candidates_of(args: Refine, model: RunModel, train: Any, line: LiveLine) -> dict[float, Weights]:
    """The candidates by their weight."""
    reference, training = weights_of(model.parts.method), model.built.recipe.training
    length = f"{args.minutes:g} minutes" if args.train_steps is None else f"{args.train_steps} steps"
    line.say(f"drawing {args.samples} samples, and training {WITH[args.by]} for {length}")
    x, condition = own_samples(model, train, args.samples, seed=2_000_000 + args.seed)
    config = replace(slowed(training, SLOWER[args.by]), minutes=args.minutes, steps=args.train_steps, seed=args.seed)
    method: Method
    match args.by:
        case "extrapolation":
            way, method = -1.0, model.parts.method
            batches = batches_of(x, condition, config, model.device)
        case "likelihood_ratio":
            config = for_ratios(config)
            fakes = Batch(x=x.to(model.device), condition=None if condition is None else condition.to(model.device))
            way, method = 1.0, ratio_of(model, fakes, 1.0 if args.beta is None else args.beta)
            batches = training_batches(replace(model.built.recipe, training=config), model.batches(train))
        case _:
            assert_never(args.by)
    tuned = trained(batches, method, config, device=model.device, progress=line.progress("training, step"))
    return {w: moved(reference, tuned, way * w) for w in args.weights}


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
