"""`langevin continue`: teach a trained run new data without forgetting the old."""

import json
import math
import re
from dataclasses import asdict
from typing import Any

from langevin.cli.adapt import data_with, held_out_loss, reasons_of, recipe_with, require_alike
from langevin.cli.out import unused
from langevin.cli.show import LiveLine
from langevin.cli.verbs import Continue
from langevin.files import write_atomic
from langevin.networks.adapters import Adapter
from langevin.run.directory import Run, load_model, open_run
from langevin.run.plan import Planned, Wanted, require_no_run
from langevin.run.train import train_planned
from langevin.training import checkpoint, machine
from langevin.training.continual import Continual
from langevin.training.distributed import join_world
from langevin.user_function import CodePermission

UNITS = {"": 1, "B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30}
LEAST, MOST = 0.5, 0.8  # share of old examples in a batch that is chosen by the number of classes


def run(args: Continue) -> Run:
    """Train on new and old data, and return the new run.

    Raises:
        ValueError: options out of range, or data that does not fit the run; or see `run.continual`."""
    if not 0 < args.minutes < math.inf:
        raise ValueError(f"--minutes is positive, got {args.minutes}")
    budget = bytes_of(args.exemplars)
    out = args.out or unused(args.run.absolute().with_name(f"{args.run.absolute().name}-{args.data.absolute().stem}"))
    require_no_run(out)
    line, base = LiveLine(), open_run(args.run)
    checkpoint.identity(base.checkpoints)  # it is trained
    adapter = Adapter(kind=args.adapter or "full", path=str(base.path.absolute()))
    recipe = recipe_with(args, base, adapter, continual_of(args, base, budget), "continued")
    data = recipe.data.open(progress=line.progress("reading data"))
    require_alike(base, recipe, data)
    wanted = Wanted(target=str(args.run), overrides=args.overrides, out=out, allow_code=args.allow_code)
    reasons = (*reasons_of(recipe, base), said(recipe.continual))
    made = train_planned(Planned(recipe=recipe, data=data, reasons=reasons), wanted, line.display())
    if join_world().first:
        measure(args, base, made, data, line)
    return made


def bytes_of(text: str) -> int:
    """A number of bytes, as 65536, 64KB or 1.5MB. Raises `ValueError`."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?B?)\s*", text.upper())
    unit = "" if found is None else found[2] + "B" * (len(found[2]) == 1 and found[2] != "B")
    size = -1 if found is None or unit not in UNITS else int(float(found[1]) * UNITS[unit])
    if not 0 <= size <= 2**33:
        raise ValueError(f"--exemplars is a size of at most 8GB, as 64KB, or 0 for none; got '{text}'")
    return size


def continual_of(args: Continue, base: Run, budget: int) -> Continual | None:
    """What keeps the old data from being forgotten; None with an adapter, which changes nothing of it.

    Raises:
        ValueError: options that do not fit each other, or out of range."""
    given = [name for name in ("replay", "exemplar_share") if getattr(args, name) is not None]
    given += ["anchor"] * bool(args.anchor)
    if args.adapter is not None:
        given += [name for name in ("exemplars", "samples") if getattr(args, name) != getattr(Continue, name)]
        if given:
            raise ValueError(
                f"--adapter forgets nothing, so --{given[0].replace('_', '-')} has no effect: leave one of them out"
            )
        return None
    if not budget and args.exemplar_share:
        raise ValueError("--exemplar-share needs stored examples: give --exemplars a size")
    known, all_of = (len(getattr(data, "classes", ())) for data in (base.recipe.data, data_with(args, base)))
    old = min(MOST, max(LEAST, known / all_of if all_of > known else 0.0))
    sources = (args.replay != 0) + (budget > 0 and args.exemplar_share != 0)
    share = old / max(1, sources)
    replay = share if args.replay is None else args.replay
    stored = (share if args.exemplar_share is None else args.exemplar_share) if budget else 0.0
    return Continual(
        replay=replay, samples=args.samples, exemplars=stored, budget=budget or Continual.budget, anchor=args.anchor
    )


def said(continual: Continual | None) -> str:
    """What keeps the old data from being forgotten, in words."""
    if continual is None:
        return "old data: an adapter leaves the run as it is, which draws it as before"
    parts = [
        f"{continual.replay:.0%} of each batch are the run's own samples" * bool(continual.replay),
        f"{continual.exemplars:.0%} are stored examples" * bool(continual.exemplars),
        f"weights are anchored ({continual.anchor:g})" * bool(continual.anchor),
    ]
    found = [part for part in parts if part]
    return f"old data: {', '.join(found)}" if found else "old data: nothing keeps it from being forgotten"


def measure(args: Continue, base: Run, made: Run, data: tuple[Any, Any], line: LiveLine) -> None:
    """Measure the held-out loss of the old data before and after, and of the new; say it, and write continued.json."""
    code = CodePermission.of((), allow=args.allow_code)

    def loss(run: Run, val: Any) -> float:
        return held_out_loss(load_model(run, device=machine.device(), code=code)[0], val)

    figures: dict[str, Any] = {"continual": None if made.recipe.continual is None else asdict(made.recipe.continual)}
    try:
        old = base.open_data()[1]
        figures |= {"old_before": loss(base, old), "old_after": loss(made, old)}
    except ValueError as error:  # the data is gone
        line.say(f"the old data is not measured: {error}")
    figures["new"] = loss(made, data[1])
    line.close()
    write_atomic(made.path / "continued.json", json.dumps(figures, indent=1).encode())
    names = {"old_before": "old data before", "old_after": "old data now", "new": "new data"}
    line.say("held-out loss: " + ", ".join(f"{words} {figures[n]:.4f}" for n, words in names.items() if n in figures))
