"""Training a run on data or by a recipe, and resuming a stopped one."""

import hashlib
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from langevin.diffusion.batch import Batch
from langevin.diffusion.coupling import Coupling
from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.sampler import require_fit
from langevin.methods.models import SDEModel
from langevin.recipe.build import Built, training_batches
from langevin.run.adapters import write_adapter
from langevin.run.agreement import require_agreement
from langevin.run.calibrate import calibrated
from langevin.run.card import kept_weights, write_card
from langevin.run.choose_ema import choose_ema
from langevin.run.directory import Run, create, open_run, writing
from langevin.run.display import QUIET, Display, duration
from langevin.run.mesh import laid_out, require_ranks
from langevin.run.plan import Planned, Wanted, directory_of, plan, require_no_run, settle
from langevin.run.prepared import prepared, resumed
from langevin.run.reporting import NOBODY, Reporter, Reporting, reporting
from langevin.run.requests import Requests
from langevin.run.stop import Stopped, stop_requests
from langevin.run.supervised import note_run
from langevin.run.teacher import built_for_training
from langevin.run.watch import Watch
from langevin.training import machine
from langevin.training.calibration import Calibration
from langevin.training.distributed import World, join_world
from langevin.training.loop import TrainingState
from langevin.training.parallel import WHOLE, Mesh
from langevin.training.placement import placed
from langevin.training.session import Hooks, train
from langevin.user_function import NO_CODE, CodePermission


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
    wanted.reporting.check()
    display = display if world.first else QUIET
    require_agreement(world, {"data": data.fingerprint, "command": repr(replace(wanted, reporting=NOBODY))})
    require_ranks(planned.recipe, world)
    code = CodePermission.of(wanted.overrides, allow=wanted.allow_code)
    recipe = world.broadcast(settle(planned.recipe, data, code))  # measurements may differ between processes
    path = world.broadcast(directory_of(recipe, wanted.out))
    with writing(path) if world.first else nullcontext():
        require_no_run(path)
        if world.first:
            for text in (*(data.notes.lines() if noted else ()), *planned.reasons):
                display.say(text)
        built = built_for_training(recipe, code)
        require_usable(built, data)  # before time is spent on a calibration
        where = laid_out(recipe, built.model.method, world, again=False)
        recipe, made = prepared(recipe, data, val, built, world, display, code)
        recipe, calibration = calibrated(recipe, data, world, display, code, prepared=made, where=where)
        built = made.built(recipe, code)
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
            made.write(run)
        world.barrier()
        run = run or open_run(path)
        if world.first:
            created(path)
        carry_on(
            run, built, data, val, world, to=wanted.reporting, display=display,
            calibration=calibration, code=code, coupling=made.coupling, old=made.memory.old, where=where,
        )  # fmt: skip
    return run


def resume_run(path: Path, *, allow_code: bool = False, to: Reporting = NOBODY, display: Display = QUIET) -> Run:
    """Train a stopped run to its end.

    Args:
        to: the trackers and webhooks that are told of it.

    Raises:
        ValueError: there is no run, or its data has changed."""
    to.check()
    world, run = join_world(), open_run(path)
    display = display if world.first else QUIET
    data, val = run.open_data(progress=display.progress("reading data"))
    require_agreement(
        world, {"data": data.fingerprint, "recipe": hashlib.sha256(repr(run.recipe).encode()).hexdigest()}
    )
    if world.first:
        for text in elsewhere(run):
            display.say(text)
    with writing(path) if world.first else nullcontext():
        code = CodePermission.of((), allow=allow_code)
        built, coupling, memory = resumed(run, data, val, world, display, code)
        where = laid_out(run.recipe, built.model.method, world, again=True)
        carry_on(
            run, built, data, val, world, to=to, display=display, code=code, coupling=coupling, old=memory.old,
            where=where,
        )  # fmt: skip
    return run


def carry_on(
    run: Run, built: Built, data: Any, val: Any, world: World, *, display: Display, to: Reporting = NOBODY, **parts: Any
) -> None:
    """`train_on`, of which the trackers and webhooks `to` are told."""
    with reporting(to, run, display.say, first=world.first) as reporter:
        train_on(run, built, data, val, world, reporter=reporter, display=display, **parts)


def train_on(
    run: Run, built: Built, data: Any, val: Any, world: World, *, reporter: Reporter, display: Display,
    calibration: Calibration | None = None, code: CodePermission = NO_CODE, coupling: Coupling | None = None,
    old: Sequence[tuple[float, Batch]] = (), where: Mesh = WHOLE,
) -> None:  # fmt: skip
    """Train a run to its end, from its newest checkpoint if there is one, and choose the EMA length that it draws with.

    Args:
        old: examples of earlier data, each with their share of a batch.
        where: how the weights are laid out over the ranks.

    Raises:
        Stopped: Ctrl-C or SIGTERM; the state is saved."""
    recipe, method = built.recipe, built.model.method
    lr_factor = recipe.training.init_lr_factor if recipe.init_from else 1.0
    state = TrainingState.new(method, recipe.training, lr_factor=lr_factor, placement=placed(method, where))
    if world.first and world.size > 1:
        display.say(f"{world.size} ranks: {where}")
    note_run(run.path)
    batches = built.batches(data)
    for text in batches.remarks if world.first else ():
        display.say(text)
    watch = Watch(run, built, state, batches, built.batches(val), drawn=reporter.preview, writes=world.first)
    requests = Requests(run=run.path, forget=world.first)
    hooks = Hooks(
        progress=display.training, measure=watch.measure, preview=watch.preview, log=display.say, requests=requests.take,
        record=reporter.record, saved=reporter.saved,
    )  # fmt: skip
    begin, again = time.perf_counter(), f"`langevin resume {run.path}` continues"
    with stop_requests(display.say) as requested:
        try:
            train(
                run.path, state, training_batches(recipe, batches, coupling, old), method, recipe.training,
                hooks=replace(hooks, stop=lambda: requests.stop or requested() > 0), world=world, calibration=calibration,
            )  # fmt: skip
        except KeyboardInterrupt as error:
            text = f"left at step {state.step}: {again} from the newest checkpoint"
            raise Stopped(text, signal=requested() or signal.SIGINT) from error
        finally:
            display.close()
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
        saved = run.last_step
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
        if line := kept_weights(run):
            display.say(line)
        write_adapter(run, code=code)
        write_card(run, step=state.step)
        took = duration(time.perf_counter() - begin)
        display.say(f"trained {state.step} steps, {state.samples_seen} samples, in {took}: {run.path}")
        display.say(f"next: langevin sample {run.path}    langevin evaluate {run.path}")


def require_usable(built: Built, data: Any) -> None:
    """Check, before there is a run, that it can be sampled and that its network gets all that it reads.

    Raises:
        ValueError: a sampler of another process, or a port that the data does not feed."""
    require_fit(built.recipe.sampling.sampler, built.model.process)
    batches = built.batches(data)
    buckets, items = getattr(batches, "buckets", None), torch.arange(1)
    if buckets is not None:  # the network reads any of the shapes, and several in a batch
        items = torch.stack([buckets.argmin(), buckets.argmax()]).unique()
    built.model.network.eval()
    built.model.losses(batches(items), items)
    built.model.network.train()


def begin_from(built: Built, path: str, display: Display, code: CodePermission) -> None:
    """Initialise the networks of the players with the trained weights of another run.

    Raises:
        ValueError: the run has another network, or no checkpoint."""
    other, step, lines = open_run(Path(path)).load(code=code)
    for text in lines:
        display.say(text)
    weights = other.model.network.state_dict()
    for player in built.model.method.players.values():
        if not player.pretrained:
            continue
        network = player.module.get_submodule("network")
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
    factor = built.recipe.training.init_lr_factor
    display.say(
        f"init_from: the weights of {path} after {step} steps; learning rates are {factor:g} times the configured ones "
        "(training.init_lr_factor)"
    )


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
