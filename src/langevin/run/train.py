"""Training a run on data or by a recipe, and resuming a stopped one."""

import os
import re
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch

from langevin.diffusion.coupling import Coupling
from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.sampler import require_fit
from langevin.extras import require
from langevin.methods.models import SDEModel
from langevin.modalities.modality import Budget
from langevin.modalities.paths import list_entries
from langevin.recipe.build import Built, build, training_batches
from langevin.recipe.complete import complete
from langevin.recipe.detect import chosen
from langevin.recipe.read import check, merge, override, read_tree, shipped
from langevin.recipe.tree import Recipe
from langevin.run.card import write_card
from langevin.run.choose_ema import choose_ema
from langevin.run.coupling import fit_coupling, stored, write
from langevin.run.directory import FILES, Run, create, is_being_written, is_leftover, open_run, writing
from langevin.run.display import QUIET, Display, duration
from langevin.run.requests import Requests
from langevin.run.stop import Stopped, stop_requests
from langevin.run.watch import Watch
from langevin.training import checkpoint, machine
from langevin.training.calibration import Calibration, calibrate, set_threads, thread_policy
from langevin.training.distributed import World, join_world
from langevin.training.loop import TrainingState
from langevin.training.session import Hooks, train
from langevin.user_function import NO_CODE, CodePermission

# overrides that apply before data is opened and a recipe is suggested; the rest follow the suggestions
OPENING = re.compile(r"data\.(\w+|codec\.kind|codec\.path)=(?!\{)|training\.(minutes|precision)=")
LONG_ENOUGH = 20.0  # minutes: in shorter runs compiling is not tried


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The arguments of a training run.

    Args:
        target: a folder or file of data, the name of a shipped recipe, or the path of a recipe.
        overrides: changes of the recipe, key.key=value.
        minutes: time budget of the whole run; None is 10 for data, else the recipe's.
        out: directory of the run; None is runs/NAME.
        seed: None is the recipe's.
        data: path to the data of a recipe, in place of the recipe's data.path.
        allow_code: allow functions (module:function) that the recipe names to be imported.
        tensorboard: also write TensorBoard events.
    """

    target: str
    overrides: tuple[str, ...] = ()
    minutes: float | None = None
    out: Path | None = None
    seed: int | None = None
    data: Path | None = None
    allow_code: bool = False
    tensorboard: bool = False

    @property
    def changes(self) -> list[str]:
        """All overrides of the recipe, in order of precedence: explicit overrides come last and win."""
        changes = [] if self.minutes is None else [f"training.minutes={self.minutes!r}", "training.steps=null"]
        return [*changes, *([] if self.seed is None else [f"training.seed={self.seed}"]), *self.overrides]


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A recipe before it is completed, its training and held-out data, and the reasons for its choices."""

    recipe: Recipe
    data: tuple[Any, Any]
    reasons: tuple[str, ...]


def train_run(
    wanted: Wanted, display: Display = QUIET, *, created: Callable[[Path], None] = lambda path: None
) -> Run:  # fmt: skip
    """Train, and return the finished run.

    Args:
        created: called with the directory of the run before its first step.

    Raises:
        ValueError: the target is neither data nor a recipe, or options do not fit it."""
    if wanted.out is not None:
        require_no_run(wanted.out)
    return train_planned(plan(wanted, display), wanted, display, created=created)


def train_planned(
    planned: Planned, wanted: Wanted, display: Display = QUIET, *,
    created: Callable[[Path], None] = lambda path: None, noted: bool = True,
) -> Run:  # fmt: skip
    """Train a run that is planned, and return it when it is finished.

    Args:
        created: called with the directory of the run before its first step.
        noted: whether to say what was found in the data.

    Raises:
        ValueError: the parts of the recipe do not fit each other or the data, or there is something at its place."""
    world, (data, val) = join_world(), planned.data
    if wanted.tensorboard:
        require("tensorboard", "--tensorboard")
    code = CodePermission.of(wanted.overrides, allow=wanted.allow_code)
    recipe = world.broadcast(settle(planned.recipe, data, code))  # measurements may differ between processes
    path = world.broadcast(directory_of(recipe, wanted.out))
    with writing(path) if world.first else nullcontext():
        require_no_run(path)
        if world.first:
            for text in (*(data.notes.lines() if noted else ()), *planned.reasons):
                display.say(text)
        built = build(recipe, device=machine.device(), code=code)
        require_usable(built, data)  # before time is spent on a calibration
        prepared = prepare(built, data, display)
        coupling, spent = fit_coupling(recipe, data, world, display)
        recipe, calibration = _calibrate(
            recipe, data, world, display, code, coupling=coupling, before=spent + world.broadcast(prepared)
        )
        built = build(recipe, device=machine.device(), code=code)
        if recipe.init_from:
            begin_from(built, recipe.init_from, display, code)
        if world.first:
            for text in remarks(built, data):
                display.say(text)
        shape = list(built.batches(data).shape)
        facts: dict[str, Any] = {"data": data.fingerprint, "items": len(data), "shape": shape}
        facts |= {"broken": dict(data.notes.broken)} if data.notes.broken else {}
        world.barrier()  # all processes have checked that there is no run yet
        run = create(path, recipe, facts) if world.first else None
        if run is not None:
            write(run, coupling)
        world.barrier()
        run = run or open_run(path)
        if world.first:
            created(path)
        carry_on(
            run, built, data, val, world, tensorboard=wanted.tensorboard, display=display,
            calibration=calibration, code=code, coupling=coupling,
        )  # fmt: skip
    return run


def resume_run(path: Path, *, allow_code: bool = False, tensorboard: bool = False, display: Display = QUIET) -> Run:
    """Train a stopped run to its end.

    Raises:
        ValueError: there is no run, or its data has changed."""
    if tensorboard:
        require("tensorboard", "--tensorboard")
    world, run = join_world(), open_run(path)
    data, val = run.open_data(progress=display.progress("reading data"))
    if world.first:
        for text in elsewhere(run):
            display.say(text)
    with writing(path) if world.first else nullcontext():
        code = CodePermission.of((), allow=allow_code)
        built = build(run.recipe, device=machine.device(), code=code)
        prepare(built, data, display)
        coupling = stored(run, data, world, display)
        carry_on(run, built, data, val, world, tensorboard=tensorboard, display=display, code=code, coupling=coupling)
    return run


def prepare(built: Built, data: Any, display: Display) -> float:
    """Let the batches make what they make once before the first step, if anything; returns the seconds that it took."""
    begun, prepared = time.perf_counter(), getattr(built.batches(data), "prepare", None)
    if prepared is not None:
        prepared(display.progress("encoding data"))
    return time.perf_counter() - begun


def plan(wanted: Wanted, display: Display = QUIET) -> Planned:
    """The plan of a run.

    Raises:
        ValueError: the target is neither data nor a recipe, or the recipe with the overrides is not valid.
    """
    given = Path(wanted.target)
    if (given / "recipe.yaml").is_file() and (given / "environment.json").is_file():
        raise ValueError(f"{given} is a run, not data: `langevin resume {given}` trains it to its end")
    if wanted.target in shipped() or given.suffix in (".yaml", ".yml"):
        tree = read_tree(wanted.target)
        if wanted.data is not None:
            tree["data"] = {**tree.get("data", {}), "path": str(wanted.data)}
        recipe = check(override(tree, wanted.changes), where=f"recipe '{wanted.target}' with your changes")
        reasons = (f"recipe: {recipe.name}, {recipe.description}",)
        return Planned(recipe=recipe, data=_open(recipe, display), reasons=reasons)
    if not given.exists():
        near = get_close_matches(wanted.target, shipped(), n=1)
        known = f"; did you mean {near[0]}?" if near else f"; shipped are {', '.join(shipped())}"
        raise ValueError(f"'{wanted.target}' is neither an existing folder or file nor a shipped recipe{known}")
    if wanted.data is not None:
        raise ValueError(
            f"--data is the path to the data of a recipe, and '{wanted.target}' is data itself: leave --data out"
        )
    return choose(given, wanted.changes, minutes=10.0 if wanted.minutes is None else wanted.minutes, display=display)


def choose(path: Path, changes: list[str], *, minutes: float, display: Display) -> Planned:
    """A recipe for the data at a path, of the modality that reads it best, sized for the data, the machine and the time.

    Raises:
        ValueError: no modality reads it, or several read it equally well."""
    if not 0 < minutes < 1e6:
        raise ValueError(f"--minutes must be positive, got {minutes}")
    kind = next((change.split("=", 1)[1] for change in changes if change.startswith("data.kind=")), None)
    data = asdict(chosen(path, kind))
    opening = [change for change in changes if OPENING.match(change)]
    first = check(override({"data": data, "training": {"minutes": minutes}}, opening), where="the data section")
    opened = _open(first, display)
    training = replace(first.training, precision=machine.precision(first.training.precision))
    budget = Budget(minutes=training.minutes or minutes, flops=machine.matrix_rate(training.dtype))
    suggested = first.data.suggest(opened[0], budget)
    tree = merge({"data": asdict(first.data), "training": {"minutes": minutes}}, suggested.recipe)
    recipe = check(override(tree, changes), where="the chosen recipe with your changes")
    return Planned(recipe=recipe, data=opened, reasons=tuple(suggested.reasons))


def settle(recipe: Recipe, data: Any, code: CodePermission = NO_CODE) -> Recipe:
    """Complete the recipe from data and machine; paths become absolute, so that the run can be used from any directory."""
    recipe = complete(recipe, data, code)
    if recipe.init_from:
        recipe = replace(recipe, init_from=str(Path(recipe.init_from).expanduser().absolute()))
    recipe = replace(recipe, data=at_absolute_paths(recipe.data))
    return replace(recipe, training=replace(recipe.training, precision=machine.precision(recipe.training.precision)))


def at_absolute_paths(part: Any) -> Any:
    """A configuration whose paths, also of its sources, codecs and parts, are absolute."""
    if isinstance(part, Mapping):
        return {key: at_absolute_paths(value) for key, value in part.items()}
    if not is_dataclass(part) or isinstance(part, type):
        return part
    changes = {field.name: at_absolute_paths(getattr(part, field.name)) for field in fields(part) if field.init}
    if isinstance(path := changes.get("path"), str) and path:
        changes["path"] = str(Path(path).expanduser().absolute())
    return replace(part, **{name: value for name, value in changes.items() if value is not getattr(part, name)})


def carry_on(
    run: Run, built: Built, data: Any, val: Any, world: World, *, tensorboard: bool, display: Display,
    calibration: Calibration | None = None, code: CodePermission = NO_CODE, coupling: Coupling | None = None,
) -> None:  # fmt: skip
    """Train a run to its end, from its newest checkpoint if there is one, and choose the EMA length that it draws with.

    Raises:
        Stopped: Ctrl-C or SIGTERM; the state is saved."""
    recipe, method = built.recipe, built.model.method
    state = TrainingState.new(method, recipe.training)
    batches = built.batches(data)
    for text in batches.remarks if world.first else ():
        display.say(text)
    watch = Watch(run, built, state, batches, built.batches(val), tensorboard=tensorboard)
    requests = Requests(run=run.path)
    hooks = Hooks(
        progress=display.training, measure=watch.measure, preview=watch.preview, log=display.say, requests=requests.take
    )
    begin, again = time.perf_counter(), f"`langevin resume {run.path}` continues"
    with stop_requests(display.say) as requested:
        try:
            train(
                run.path, state, training_batches(recipe, batches, coupling), method, recipe.training,
                hooks=replace(hooks, stop=lambda: requests.stop or requested() > 0), world=world, calibration=calibration,
            )  # fmt: skip
        except KeyboardInterrupt as error:
            text = f"left at step {state.step}: {again} from the newest checkpoint"
            raise Stopped(text, signal=requested() or signal.SIGINT) from error
        finally:
            display.close()
            watch.close()
        step, total = state.step, state.plan.total if state.plan else 0
        try:
            if world.first and step == total and not requested():
                choose_ema(
                    run, data, val, step=step, evaluations=3 * state.samples_seen / world.size, seconds=state.seconds,
                    code=code, display=display, stop=lambda: requested() > 0,
                )  # fmt: skip
            number = requested()
        except KeyboardInterrupt:
            number = requested() or signal.SIGINT
    if step < total:
        saved = max(map(checkpoint.step_of, checkpoint.steps(run.checkpoints)), default=0)
        which = "which is saved" if saved == step else f"and step {saved} is saved"
        raise Stopped(f"stopped after step {step} of {total}, {which}: {again}", signal=number or signal.SIGTERM)
    if number:
        raise Stopped(f"interrupted after the last step: {run.path} is complete", signal=number)
    if world.first:
        if state.loss.is_far:
            display.say(
                f"the loss rose from {state.loss.best:.3g} to {state.loss.smooth:.3g}, so the samples are worth little: "
                "train again with a lower learning rate (training.optimizer.lr)"
            )
        write_card(run, step=state.step)
        took = duration(time.perf_counter() - begin)
        display.say(f"trained {state.step} steps, {state.samples_seen} samples, in {took}: {run.path}")
        display.say(f"next: langevin sample {run.path}    langevin evaluate {run.path}")


def require_usable(built: Built, data: Any) -> None:
    """Check, before there is a run, that it can be sampled and that its network gets all that it reads.

    Raises:
        ValueError: a sampler of another process, or a port that the data does not feed."""
    require_fit(built.recipe.sampling.sampler, built.model.process)
    item = torch.arange(1)
    built.model.network.eval()
    built.model.losses(built.batches(data)(item), item)
    built.model.network.train()


def begin_from(built: Built, path: str, display: Display, code: CodePermission) -> None:
    """Initialise the network with the trained weights of another run.

    Raises:
        ValueError: the run has another network, or no checkpoint."""
    other, step, lines = open_run(Path(path)).load(code=code)
    for text in lines:
        display.say(text)
    network, weights = built.model.network, other.model.network.state_dict()
    # layers of side inputs, which the other network may lack, keep their fresh weights
    fresh = {
        name: value
        for name, value in network.state_dict().items()
        if name.startswith(getattr(network, "side_inputs", ()))
    }
    try:
        network.load_state_dict(fresh | weights)
    except RuntimeError as error:
        raise ValueError(
            f"init_from: the network of {path} has other sizes than this one; use its network section in this recipe"
        ) from error
    display.say(f"init_from: the weights of {path} after {step} steps")


def _calibrate(
    recipe: Recipe,
    data: Any,
    world: World,
    display: Display,
    code: CodePermission,
    *,
    coupling: Coupling | None,
    before: float,
) -> tuple[Recipe, Calibration | None]:
    """Time some steps if the recipe has a time budget, decide whether to compile, and show the expected length."""
    training = recipe.training
    with torch.device("meta"):
        parameters = sum(p.numel() for p in recipe.network.build().parameters())
    text = (
        f"network: {recipe.network.kind}, {parameters / 1e6:.2f} M weights, {training.precision} on {machine.device()}"
    )
    calibration: Calibration | None = None
    if training.steps is None or training.compile:
        recipe, calibration = _compiled_or_not(recipe, data, world, display, code, coupling=coupling, before=before)
        steps = training.steps or calibration.steps
        budget = "" if training.steps else f" in {training.minutes:g} minutes"
        text += f"; {training.batch / calibration.seconds:.0f} samples/s, so {steps} steps of {training.batch}{budget}"
    if world.first:
        display.say(text)
    return recipe, calibration


def _compiled_or_not(
    recipe: Recipe,
    data: Any,
    world: World,
    display: Display,
    code: CodePermission,
    *,
    coupling: Coupling | None,
    before: float,
) -> tuple[Recipe, Calibration]:
    """The recipe with `training.compile` decided, and the cost of its steps.

    Compiling is tried only if the recipe has it and the run is long, and kept only if it saves more time than it takes."""

    def measure(compiled: bool) -> Calibration:
        training = replace(recipe.training, compile=compiled, minutes=recipe.training.minutes or 1.0)
        variant = replace(recipe, training=training)
        built = build(variant, device=machine.device(), code=code)
        state = TrainingState.new(built.model.method, training)
        batches = training_batches(variant, built.batches(data), coupling)
        threads_before = torch.get_num_threads()
        threads = thread_policy(training, machine.device())
        calibration = calibrate(
            state, batches, built.model.method, training, threads=threads, world=world, before=before
        )
        set_threads(threads_before)
        return calibration

    def with_compile(compiled: bool) -> Recipe:
        return replace(recipe, training=replace(recipe.training, compile=compiled))

    begin, plain = time.perf_counter() - before, measure(False)
    if not recipe.training.compile:
        return with_compile(False), plain
    work = (recipe.training.steps or plain.steps) * plain.seconds
    if work < 60 * LONG_ENOUGH:
        display.say(
            f"training.compile: not used, as {duration(work)} of steps are too few to save the time that compiling takes"
        )
        return with_compile(False), plain
    mark = time.perf_counter()
    try:
        fast = measure(True)
    except Exception as error:  # a missing or failing compiler must not end the run
        display.say(f"training.compile: not used, as it failed ({type(error).__name__}: {str(error).splitlines()[0]})")
        return with_compile(False), plain
    now = time.perf_counter()
    spent, total = world.broadcast((now - mark, now - begin))
    wins = spent + work * fast.seconds / plain.seconds < work
    text = f"{duration(spent)} to compile, {fast.seconds / plain.seconds:.2f} times the time per step"
    display.say(f"training.compile: {'used' if wins else 'not used'} ({text})")
    steps = int((work - spent) / fast.seconds) if wins else plain.steps
    return with_compile(wins), replace(fast if wins else plain, steps=max(1, steps), spent=total)


def elsewhere(run: Run) -> list[str]:
    """A sentence if a run continues on another machine or version of torch than it was started on."""
    then, now = run.facts.get("machine", {}), machine.describe()
    keys = ("processor", "torch", "vector_units", "gpu")
    changed = [f"{key} {then.get(key)} then, {now.get(key)} now" for key in keys if then.get(key) != now.get(key)]
    return [f"the last bits of the result depend on the machine, which has changed: {'; '.join(changed)}"] * bool(
        changed
    )


def remarks(built: Built, data: Any) -> list[str]:
    """Remarks on the process and the data: for an SDE, the distance of its simulated end from its terminal distribution."""
    if not isinstance(built.model, SDEModel):
        return []
    batches, process = built.batches(data), built.model.process
    x = batches(torch.arange(min(len(batches), 4000))).x
    seeds = torch.arange(len(x))
    form = "affine, in closed form" if process.kernel is not None else f"simulated in {process.steps} steps"
    mismatch = process.with_statistics(x, SampleNoise(seeds=seeds, steps=torch.full_like(seeds, 1)))[1]
    return [f"drift: {form}, ending in {process.terminal.name}", str(mismatch)]


def _open(recipe: Recipe, display: Display) -> tuple[Any, Any]:
    return recipe.data.open(progress=display.progress("reading data"))


def require_no_run(path: Path) -> None:
    """Check that a run can be created at the path without touching what is there."""
    if (path / "recipe.yaml").exists():
        raise ValueError(
            f"{path} already holds a run: continue it by `langevin resume {path}`, or choose another --out"
        )
    held = sorted(FILES & {entry.name for entry in list_entries(path)}) if path.is_dir() else []
    if held and not is_leftover(path):
        raise ValueError(f"{path} holds files that a run would replace, such as {held[0]}: choose another --out")


def directory_of(recipe: Recipe, wanted: Path | None) -> Path:
    """The directory of a new run: `wanted`, or runs/NAME here, or beside the data if the working directory is in it.

    Raises:
        ValueError: `wanted` is the data itself."""
    data, name = recipe.data.path, recipe.name
    folder = Path(data).expanduser().resolve() if data else None
    if wanted is not None:
        if folder is not None and wanted.resolve() == folder:
            raise ValueError(f"--out {wanted} is the data itself: choose another directory for the run")
        return wanted
    inside = folder is not None and folder.is_dir() and Path.cwd().is_relative_to(folder)
    runs = Path(os.path.relpath(folder.parent / "runs")) if folder is not None and inside else Path("runs")
    return _unused(runs / name.split("/")[-1])


def _unused(path: Path) -> Path:
    """The path, or the first of path-2, path-3, ... at which there is nothing, or the leftover of a start that failed."""
    number = 2
    unused = path
    while os.path.lexists(unused) and (not is_leftover(unused) or is_being_written(unused)):
        unused, number = path.with_name(f"{path.name}-{number}"), number + 1
    return unused
