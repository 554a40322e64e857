"""Training on a Ray cluster: Ray Train's TorchTrainer around `train_run` and `resume_run`.

Ray makes the process group, which the ranks join as they join that of torchrun. Checkpoints are those of the run, in its
directory, which all machines share; Ray is given their path and keeps none. When a worker is lost, or machines come and go,
Ray starts all ranks again, and they go on from the newest checkpoint, at any number of ranks: the order of the data and the
randomness of a step do not depend on it.
"""

import os
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from langevin.run.board import Board
from langevin.run.directory import Run, is_being_written, open_run
from langevin.run.display import QUIET, Display
from langevin.run.plan import Wanted, require_no_run
from langevin.run.ray import POLL, accelerators, cluster, enter, require_ray
from langevin.run.reporting import NOBODY, Reporting
from langevin.run.requests import request
from langevin.run.stop import Stopped, stop_requests
from langevin.run.train import resume_run, train_run
from langevin.training.loop import Diverged
from langevin.training.session import Progress

EXPECTED = (ValueError, OSError, MemoryError, Diverged)  # errors that another start would meet again
RELEASE = 60.0  # seconds in which a rank that was lost lets go of the run
EVERY = 0.5  # seconds between two reports of progress


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """A run that is to be trained to its end; the arguments of `resume_run`."""

    run: Path
    allow_code: bool = False
    reporting: Reporting = NOBODY


@dataclass(frozen=True, kw_only=True)
class OnRay:
    """Where and how often ranks are started.

    Args:
        least, most: number of ranks; as many as there is room for.
        address: of a running cluster; None starts one on this machine.
        restarts: how often ranks are started again after one was lost. Machines that are taken away are not counted.
    """

    least: int
    most: int
    address: str | None = None
    restarts: int = 3

    def __post_init__(self) -> None:
        if not 0 <= self.restarts <= 10_000:
            raise ValueError(f"--restarts must be 0 to 10,000, got {self.restarts}")


def train_on_ray(
    wanted: Wanted | Resumed, where: OnRay, display: Display = QUIET, *,
    created: Callable[[Path], None] = lambda path: None,
) -> Run:  # fmt: skip
    """Train a run, or a stopped run to its end, on a Ray cluster.

    Args:
        created: called with the directory of the run when it is known.

    Raises:
        ValueError: what training raises; or there is no cluster, or ranks were lost too often.
        Stopped: a signal; the state is saved."""
    match wanted:
        case Resumed():
            open_run(wanted.run)
        case Wanted() if wanted.out is not None:
            require_no_run(wanted.out)
        case _:
            pass
    with cluster(where.address, workers=where.most) as ray, tempfile.TemporaryDirectory() as storage:
        board = ray.remote(num_cpus=0)(Board).remote()
        fitting = _Fitting(run=_trainer(ray, wanted, where, board, storage).fit)
        room = int(ray.cluster_resources().get("CPU", 0))
        if room < where.least:
            display.say(f"the cluster has {room} cores now, and {where.least} workers need one each: waiting for more")
        if 0 < (gpus := accelerators(ray)) < where.least:
            display.say(f"the cluster has {gpus} GPUs, fewer than {where.least} workers: they train on CPU cores")
        with stop_requests(display.say) as requested:
            told = _followed(ray, board, fitting, display, created, requested)
    return _outcome(told, fitting, where, requested())


@dataclass(eq=False, kw_only=True)
class _Fitting:
    """`TorchTrainer.fit` in a thread, as in the main one it would take the signals."""

    run: Callable[[], Any]
    error: BaseException | None = None
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._call, daemon=True)
        self.thread.start()

    def _call(self) -> None:
        try:
            self.run()
        except BaseException as error:
            self.error = error


def _trainer(ray: Any, wanted: Wanted | Resumed, where: OnRay, board: Any, storage: str) -> Any:
    from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig  # pyright: ignore[reportMissingImports]
    from ray.train.torch import TorchTrainer  # pyright: ignore[reportMissingImports]

    told = replace(wanted, reporting=wanted.reporting.elsewhere())
    workers = where.least if where.least == where.most else (where.least, where.most)
    return TorchTrainer(
        _rank,
        train_loop_config={"wanted": told, "board": board, "folder": os.getcwd()},
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=accelerators(ray) >= where.least),
        run_config=RunConfig(
            name="langevin", storage_path=storage, failure_config=FailureConfig(max_failures=where.restarts),
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )  # fmt: skip


def _followed(
    ray: Any,
    board: Any,
    fitting: _Fitting,
    display: Display,
    created: Callable[[Path], None],
    requested: Callable[[], int],
) -> dict[str, Any]:
    """Show what the ranks say until they have ended; returns what they left. A signal asks them to stop."""
    shown, run, starts = 0, "", 0
    progress = dict[str, Any]()
    while True:
        ended = not fitting.thread.is_alive()
        told = ray.get(board.read.remote(shown))
        for line in told["lines"]:
            display.say(line)
        shown += len(told["lines"])
        if told["starts"] > max(starts, 1):
            display.say(f"a worker was lost: all ranks are started again, for the {told['starts'] - 1}. time")
        starts = told["starts"]
        if told["progress"] != progress:
            progress = told["progress"]
            display.training(Progress(**progress))
        if told["run"] and not run:
            run = told["run"]
            created(Path(run))
        if ended:
            return told
        if requested():
            if not run:
                raise KeyboardInterrupt
            with suppress(OSError):
                request(Path(run), "stop")  # again each time, as ranks that begin forget what was requested before
        time.sleep(POLL)


def _outcome(told: dict[str, Any], fitting: _Fitting, where: OnRay, number: int) -> Run:
    if told["error"]:
        raise ValueError(told["error"])
    if fitting.error is not None:
        again = f"; `langevin resume {told['run']} --on ray` continues" if told["run"] else ""
        why = str(fitting.error).strip().rpartition("\n")[2]
        raise ValueError(
            f"the ranks were lost {where.restarts + 1} times, more than --restarts {where.restarts}: {why}{again}"
        ) from fitting.error
    text, signal = told["stopped"]
    if text:
        raise Stopped(text, signal=number or signal)
    return open_run(Path(told["run"]))


# ---------------------------------------------------------------------------------------------------------------- ranks


def _rank(config: dict[str, Any]) -> None:
    """What each rank does: it begins the run, or goes on with it after a start that was lost."""
    ray, board, wanted = require_ray(), config["board"], config["wanted"]
    context = ray.train.get_context()
    before: dict[str, Any] = ray.get(board.read.remote())
    first = context.get_world_rank() == 0
    if before["error"]:
        raise RuntimeError(before["error"])
    if first:
        ranks = context.get_world_size()
        ray.get(board.say.remote(f"{ranks} ranks of a Ray cluster" if ranks > 1 else "one rank of a Ray cluster"))
        ray.get(board.put.remote("starts", before["starts"] + 1))
    try:
        enter(config["folder"])
        run = _train(wanted, before["run"], _display(board) if first else QUIET, board if first else None)
    except Stopped as stop:
        ray.get(board.put.remote("stopped", (str(stop), stop.signal)))
        return
    except ConnectionError:  # of a rank that was lost
        raise
    except EXPECTED as error:
        ray.get(board.put.remote("error", str(error) or type(error).__name__))
        raise RuntimeError(str(error)) from error
    ray.train.report({"run": str(run.path.absolute()), "checkpoint": str(run.checkpoints), "step": run.last_step})


def _train(wanted: Wanted | Resumed, before: str, display: Display, board: Any) -> Run:
    """Begin a run, or go on with the one that was begun."""

    def created(path: Path) -> None:
        if board is not None:
            require_ray().get(board.put.remote("run", str(path.absolute())))

    if before:
        wanted = Resumed(run=Path(before), allow_code=wanted.allow_code, reporting=wanted.reporting)
    if isinstance(wanted, Wanted):
        return train_run(wanted, display, created=created)
    created(wanted.run)
    deadline = time.monotonic() + RELEASE
    while before and board is not None and is_being_written(wanted.run) and time.monotonic() < deadline:
        time.sleep(0.2)
    return resume_run(wanted.run, allow_code=wanted.allow_code, to=wanted.reporting, display=display)


def _display(board: Any) -> Display:
    """A display that the command shows."""
    last = 0.0

    def training(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= EVERY or progress.step == progress.total:
            last = now
            with suppress(Exception):  # what is shown must not end a training
                board.put.remote("progress", asdict(progress))

    return Display(say=lambda line: board.say.remote(line), training=training)
