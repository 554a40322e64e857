"""`langevin forget`: a run that has forgotten a class or a word of captions, if measurements prove it."""

import json
import math
from dataclasses import replace
from typing import Any

from langevin.cli.compare import show_groups
from langevin.cli.out import unused
from langevin.cli.show import LiveLine
from langevin.cli.verbs import Forget
from langevin.evaluation.statistics import share_interval
from langevin.files import own_folder, write_atomic
from langevin.modalities.modality import Measuring
from langevin.run.directory import Run, load_model, open_run
from langevin.run.forget import (
    Divided,
    Measured,
    Shares,
    batches_of,
    concept_of,
    forgetting_of,
    objections,
    require_forgetful,
)
from langevin.run.forget_measure import Trial
from langevin.run.judge import judge_of
from langevin.run.plan import require_no_run
from langevin.run.refine import slowed, trained
from langevin.run.tuned import require_one_shape, written
from langevin.training import checkpoint, machine
from langevin.user_function import CodePermission


def run(args: Forget) -> Run:
    """Train the concept away, measure before and after, and write a run without it.

    Raises:
        ValueError: a run that cannot forget, a concept that it never learned, or no proof, with the figures."""
    require_options(args)
    line, original = LiveLine(), open_run(args.run)
    require_forgetful(original)
    concept = concept_of(original.recipe.data, args.concept, args.instead)
    if args.out is not None:
        require_no_run(args.out)
    code, device = CodePermission.of((), allow=args.allow_code), machine.device()
    model, _ = load_model(original, device=device, code=code, say=line.say)
    base, _ = load_model(original, device=device, code=code)
    train, val = original.open_data(progress=line.progress("reading data"))
    require_one_shape(original, model.batches(train))
    measuring = Measuring(
        model=model, train=train, val=val, folder=own_folder(original.path, "evaluation", create=False),
        facts=original.facts, load=lambda path: load_model(open_run(path), device=device, code=code)[0], say=line.say,
        progress=line.progress, run=original.path,
    )  # fmt: skip
    data = Divided.of(model.batches(train), concept)
    trial = Trial(
        train=data, val=Divided.of(model.batches(val), concept), concept=concept,
        judge=judge_of(measuring, base, concept), count=args.count, seeds=args.seeds, seed=args.seed,
        progress=line.progress("drawing and measuring"),
    )  # fmt: skip
    before = trial.measured(model)  # before any training: what cannot be measured is refused
    config = slowed(model.built.recipe.training, args.rate)
    config = replace(config, minutes=args.minutes, steps=args.train_steps, seed=args.seed)
    method = forgetting_of(model, data, concept, weight=args.weight, keep=args.keep, everywhere=args.everywhere)
    weights = trained(
        batches_of(data, config), method, config, device=device, progress=line.progress("forgetting, step")
    )
    model.parts.network.eval()
    after = trial.measured(model)
    line.close()
    show(before, after, trial.judge.name)
    if against := objections(before, after, tolerance=args.tolerance):
        raise ValueError(
            f"{args.run} does not forget '{args.concept}' and keep the rest: "
            + "; ".join(against)
            + ". The run stays as it "
            "is, and nothing is written"
        )
    out = args.out or unused(original.path.with_name(f"{original.path.name}-forgot"))
    forgot = written(original, model, weights, out, f"{original.path.name}, which forgot '{args.concept}'")
    write_atomic(forgot.path / "forgotten.json", figures(args, original, before, after, trial.judge.name))
    line.say(f"forgot '{args.concept}': {forgot.path}")
    return forgot


def require_options(args: Forget) -> None:
    """Check the options. Raises `ValueError` for one out of range."""
    if not 0 < args.minutes < math.inf or not 8 <= args.count <= 10**5 or not 2 <= args.seeds <= 100:
        raise ValueError(
            f"--minutes is positive, --count 8 to 100,000 and --seeds 2 to 100, got {args.minutes}, {args.count} and "
            f"{args.seeds}"
        )
    if not all(0 <= value < math.inf for value in (args.weight, args.keep, args.tolerance)) or not 0 < args.rate <= 10:
        raise ValueError(
            "--weight, --keep and --tolerance are at least 0 and finite, and --rate above 0 and at most 10, got "
            f"{args.weight}, {args.keep}, {args.tolerance} and {args.rate}"
        )
    if args.everywhere and args.instead is None:
        raise ValueError(
            "--everywhere lets something else take the concept's place where no condition is given: say what by --instead"
        )


def figures(args: Forget, original: Run, before: Measured, after: Measured, judge: str) -> bytes:
    """What was measured, as the content of forgotten.json."""
    content: dict[str, Any] = {
        name: getattr(args, name) for name in ("concept", "instead", "everywhere", "weight", "keep", "rate", "seed")
    }
    content |= {"base": str(original.path.absolute()), "sha256": checkpoint.identity(original.checkpoints)}
    content |= {"judge": judge, "before": before.as_dict(), "after": after.as_dict()}
    return json.dumps(content, indent=1).encode()


def show(before: Measured, after: Measured, judge: str) -> None:
    """Print what was measured before and after."""
    rows = [("asked for the concept, it is shown", shared(before.shown), shared(after.shown), "lower")]
    rows += [
        (f"asked for {name}, it is shown", shared(one), shared(after.back[name]), "")
        for name, one in before.back.items()
    ]
    if before.agreement is not None and after.agreement is not None:
        rows.append(("of the rest, what was asked for", shared(before.agreement), shared(after.agreement), "equal"))
    if before.distances:
        one, other = (
            f"{sum(v) / len(v):.3f} ({min(v):.3f} to {max(v):.3f})" for v in (before.distances, after.distances)
        )
        rows.append(("FD of the rest, principal components", one, other, "equal"))
    for name, wanted in (("concept", "higher"), ("rest", "equal")):
        one, other = (float(getattr(found, f"{name}_losses").mean()) for found in (before, after))
        rows.append((f"held-out loss of the {name}", f"{one:.4f}", f"{other:.4f}", wanted))
    show_groups((f"read by {judge}", "before", "after", "wanted"), {"": rows})


def shared(shares: Shares) -> str:
    """A share with its interval."""
    low, high = share_interval(*shares.all)
    return f"{shares.all[0] / shares.all[1]:.3f} ({low:.3f} to {high:.3f})"
