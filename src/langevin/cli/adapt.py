"""`langevin adapt`: teach a trained run new data by few weights, and measure it beside the run and full fine-tuning."""

import json
import math
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from langevin.cli.out import unused
from langevin.cli.show import LiveLine
from langevin.cli.table import show_groups
from langevin.cli.verbs import Adapt, Continue
from langevin.files import own_folder, write_atomic
from langevin.modalities.modality import Measuring, spread
from langevin.networks.adapters import Adapter
from langevin.recipe.detect import candidates, chosen
from langevin.recipe.read import check, override
from langevin.recipe.tree import Recipe
from langevin.run.adapters import FILE
from langevin.run.directory import Run, load_model, open_run
from langevin.run.generate import RunModel
from langevin.run.plan import Planned, Wanted, require_no_run
from langevin.run.ranking import Ranking
from langevin.run.train import train_planned
from langevin.training import checkpoint, machine
from langevin.training.continual import Continual
from langevin.training.distributed import join_world
from langevin.user_function import CodePermission

MOST = 100_000  # samples that are measured
HELD_OUT = 256  # examples whose loss is measured, at most
RATE = 0.02  # learning rate of AdamW; all weights are trained with the optimizer of the base


def run(args: Adapt) -> Run:
    """Train the adapter, measure it, and return its run.

    Raises:
        ValueError: options out of range, a base that cannot be adapted, or data that does not fit it."""
    if not 0 < args.minutes < math.inf or not (args.count == 0 or 10 <= args.count <= MOST):
        raise ValueError(f"--minutes is positive and --count 0 or 10 to {MOST:,}, got {args.minutes} and {args.count}")
    out = args.out or unused(args.run.absolute().with_name(f"{args.run.absolute().name}-{args.data.absolute().stem}"))
    outs = [out, *([out.with_name(f"{out.name}-full")] if args.compare_full else [])]
    for path in outs:
        require_no_run(path)
    line, base = LiveLine(), open_run(args.run)
    checkpoint.identity(base.checkpoints)  # it is trained
    recipes = [recipe_with(args, base, adapter) for adapter in adapters(args, base)]
    recipe, made = recipes[0], list[Trained]()
    data = recipe.data.open(progress=line.progress("reading data"))
    require_alike(base, recipe, data)
    for path, one in zip(outs, recipes, strict=False):
        wanted = Wanted(target=str(args.run), overrides=args.overrides, out=path, allow_code=args.allow_code)
        planned = Planned(recipe=one, data=data, reasons=reasons_of(recipe, base))
        begun = time.perf_counter()
        adapted = train_planned(planned, wanted, line.display(), noted=not made)
        made.append(Trained.of(adapted, time.perf_counter() - begun))
    if args.count and join_world().first:
        measure(args, base, made, data, line)
    return made[0].run


def adapters(args: Adapt, base: Run) -> list[Adapter]:
    """The adapter that is asked for, and that of all weights."""
    path, share = str(base.path.absolute()), Adapter.share if args.share is None else args.share
    return [Adapter(kind=args.kind, rank=args.rank, share=share, path=path), Adapter(kind="full", path=path)]


def data_with(args: Adapt | Continue, base: Run) -> Any:
    """The modality of the new data for the base.

    Raises:
        ValueError: the data is of another modality, or its classes do not fit the base's."""
    known, path = base.recipe.data, args.data.absolute()
    if not any(found.modality.kind == known.kind for found in candidates(path)):
        raise ValueError(
            f"{args.run} is a run of {known.kind}, and {args.data} is {chosen(path).kind}: take a run of that"
        )
    join = getattr(known, "joined", None)
    return replace(known, path=str(path)) if join is None else join(path, same_classes=args.same_classes)  # type: ignore[call-arg]


def recipe_with(
    args: Adapt | Continue, base: Run, adapter: Adapter, continual: Continual | None = None, verb: str = "adapted"
) -> Recipe:
    """The recipe of the base with the new data, an adapter, and the changes of the command.

    Raises:
        ValueError: see `data_with`; or a change is not valid."""
    data = data_with(args, base)
    description = f"{base.path.name}, {verb} to {args.data.absolute().name}"
    recipe = replace(
        base.recipe,
        data=data,
        init_from=None,
        adapter=adapter,
        continual=continual,
        description=description,
        measured="",
    )
    rate = [] if adapter.kind == "full" else [f"training.optimizer={{kind: adamw, lr: {RATE:g}}}"]
    seed = [] if args.seed is None else [f"training.seed={args.seed}"]
    changes = [f"training.minutes={args.minutes!r}", "training.steps=null", *rate, *seed, *args.overrides]
    return check(override(asdict(recipe), changes), where="the base's recipe with your changes")


def require_alike(base: Run, recipe: Recipe, data: tuple[Any, Any]) -> None:
    """Check that an example of the new data has the shape of the base's. Raises `ValueError`."""
    fitted = recipe.data.fitted(data[0], base=recipe.data)  # type: ignore[arg-type]
    shape = list(fitted.batches(data[0], device=torch.device("cpu")).shape)
    if shape != base.facts["shape"]:
        raise ValueError(
            f"examples of {recipe.data.path} have the shape {shape}, and those of {base.path} {base.facts['shape']}: take "
            "data of that shape, as an adapter changes a network and not what it reads"
        )


def reasons_of(recipe: Recipe, base: Run) -> tuple[str, ...]:
    """What is said of the new data before training."""
    known, all_of = (tuple(getattr(data, "classes", ())) for data in (base.recipe.data, recipe.data))
    new = f": classes {', '.join(all_of[len(known) :][:20])} are new" if len(all_of) > len(known) else ""
    return (f"base: {base.path}{new}",)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What was trained, and what that took.

    Args:
        weights, all_weights: numbers of trained weights, and of those of the network.
        seconds: from the first to the last step, with evaluations.
        step_seconds: per step.
        state_bytes: of trained weights, their gradients, the optimizer's moments and EMAs.
        file_bytes: of the weights that are stored.
    """

    run: Run
    weights: int
    all_weights: int
    seconds: float
    step_seconds: float
    state_bytes: int
    file_bytes: int

    @classmethod
    def of(cls, run: Run, seconds: float) -> "Trained":
        saved, _ = checkpoint.load_latest(run.checkpoints)
        assert saved is not None, "it was trained to its end"
        groups = {
            name: sum(t.numel() * t.element_size() for t in group.values()) for name, group in saved.groups.items()
        }
        with torch.device("meta"):
            everything = sum(p.numel() for p in run.recipe.network.build().parameters())
        stored = run.path / FILE
        return cls(
            run=run, weights=sum(t.numel() for t in saved.groups["model"].values()), all_weights=everything,
            seconds=seconds, step_seconds=saved.state["seconds"] / max(1, saved.state["step"]),
            state_bytes=sum(groups.values()) + groups["model"], file_bytes=stored.stat().st_size if stored.is_file() else 0,
        )  # fmt: skip

    @property
    def figures(self) -> dict[str, Any]:
        adapter = self.run.recipe.adapter
        assert adapter is not None, "it is an adapted run"
        return {
            "kind": adapter.kind, "rank": adapter.rank, "weights": self.weights, "share": self.weights / self.all_weights,
            "seconds": round(self.seconds, 2), "step_seconds": round(self.step_seconds, 5), "state_bytes": self.state_bytes,
            "file_bytes": self.file_bytes,
        }  # fmt: skip


def measure(args: Adapt, base: Run, made: list[Trained], data: tuple[Any, Any], line: LiveLine) -> None:
    """Measure the base and what was trained on the new data; print it, and write it as adapted.json."""
    code, first = CodePermission.of((), allow=args.allow_code), made[0].run
    train, val = data

    def loaded(run: Run) -> RunModel:
        return load_model(run, device=machine.device(), code=code, say=line.say)[0]

    models = {name: loaded(one.run) for name, one in zip(("adapted", "full"), made, strict=False)}
    measuring = Measuring(
        model=models["adapted"], train=train, val=val, folder=own_folder(first.path, "evaluation"), facts=first.facts,
        load=lambda path: loaded(open_run(path)), count=args.count, say=line.say, progress=line.progress, run=first.path,
    )  # fmt: skip
    ranking, before = Ranking.of(measuring), loaded(base)
    known = [len(getattr(run.recipe.data, "classes", ())) for run in (base, first)]
    models |= {"base": before} if known[0] == known[1] else {}  # which has no row for a new class
    figures = dict[str, dict[str, Any]]()
    for name, model in models.items():
        figures[name] = {"score": ranking.rank(model).score, "held_out_loss": held_out_loss(model, val)}
    for name, one in zip(("adapted", "full"), made, strict=False):
        figures[name] |= one.figures
    line.close()
    scorer = ranking.scorer
    content = {"measure": scorer.name, "count": args.count, "real_against_real": scorer.floor, **figures}
    write_atomic(first.path / "adapted.json", json.dumps(content, indent=1).encode())
    show(figures, scorer.name, scorer.floor)


def held_out_loss(model: RunModel, val: Any) -> float:
    """The mean loss of held-out examples over the levels that are logged, on fixed noise."""
    items = spread(len(val), HELD_OUT)
    batches = model.batches(val)
    with torch.no_grad():
        return float(torch.cat([model.parts.losses(batches(at), at) for at in items.split(64)], 1).mean())


def show(figures: dict[str, dict[str, Any]], measure: str, floor: float) -> None:
    """Print what was measured."""
    rows: list[tuple[str, ...]] = [("real data", "", "", "", "", f"{floor:.3f}", "", "")]
    for name, one in figures.items():
        trained = ("", "", "", "")
        if "weights" in one:
            size = f"{one['weights']:,} ({100 * one['share']:.1f} %)"
            memory = f"{one['state_bytes'] / 1e6:.2f} MB"
            trained = (size, f"{one['seconds']:.0f}", f"{1e3 * one['step_seconds']:.1f}", memory)
        label = f"{one['kind']}" + ("" if one["rank"] is None else f" {one['rank']}") if "kind" in one else name
        rows.append((label, *trained, f"{one['score']:.3f}", f"{one['held_out_loss']:.4f}", ""))
    heads = ("", "trained weights", "seconds", "ms a step", "training state", measure, "held-out loss", "")
    show_groups(heads, {"": rows})
