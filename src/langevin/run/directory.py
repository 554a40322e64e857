"""The directory of a run, runs/<name>/: recipe.yaml (complete), environment.json, metrics.jsonl, samples/, checkpoints/,
ema/, solvers/, report.html, card.md, and requests/ to the process that trains it.

A lock ensures that one process writes at a time. Any number may read.
"""

import errno
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout
from torch import Tensor

from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.guidance import OtherModel
from langevin.files import explain, is_temporary, own_folder, remove, sweep, write_atomic
from langevin.modalities.modality import Progress
from langevin.networks.adapters import Adapter, merge
from langevin.recipe.build import Built, build
from langevin.recipe.read import check, dump_checked, read_tree
from langevin.recipe.tree import Recipe
from langevin.run import counts
from langevin.run.ema_choice import read_choice
from langevin.run.generate import RunModel, changed
from langevin.run.solvers import Kept
from langevin.run.version import VERSION, read_environment
from langevin.training import checkpoint
from langevin.training.checkpoint import BEST
from langevin.training.ema import standard_length
from langevin.training.machine import describe, precision
from langevin.training.references import require_weights
from langevin.training.snapshots import ema_of_length
from langevin.user_function import NO_CODE, CodePermission

LOCK = ".lock"
MOMENT = 0.3  # seconds, longer than another process takes to ask whether the lock is held
_PROBING = threading.Lock()
FILES = {  # that are written into a run
    "recipe.yaml", "environment.json", "metrics.jsonl", "report.html", "report.json", "evaluation.json", "checkpoints",
    "samples", "ema", "solvers", "evaluation", "latents", "tensorboard", "comparison", "requests", "explanations",
    "card.md", "coupling.safetensors", "counts.safetensors", "adapter.safetensors", "continual", "figures.json",
    "hub.json", "light.json", "stress.json", "forgotten.json", "rewarded.json", "continued.json", "attributions",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run directory.

    Args:
        facts: the content of environment.json: version, data fingerprint, number of items, shape of a sample, machine.
    """

    path: Path
    recipe: Recipe
    facts: dict[str, Any]

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def last_step(self) -> int:
        """The step of the newest checkpoint; 0 if there is none."""
        return max(map(checkpoint.step_of, checkpoint.steps(self.checkpoints)), default=0)

    @property
    def samples(self) -> Path:
        return own_folder(self.path, "samples")

    def require_same(self, train: Any) -> None:
        """Check that `train` is the data that the run was trained on.

        Raises:
            ValueError: it is not, so classes, split and metrics would not be those of the run."""
        if train.fingerprint != self.facts.get("data"):
            raise ValueError(
                f"the data of {self.path} has changed since it was started ({len(train)} training items now, "
                f"{self.facts.get('items')} then), so it cannot be used with this run. Restore the data, or train a new run"
            )

    def open_data(self, *, progress: Progress | None = None) -> tuple[Any, Any]:
        """The training and the held-out data of the run.

        Raises:
            ValueError: the data is not what the run was trained on."""
        train, val = self.recipe.data.open(progress=progress)
        self.require_same(train)
        return train, val

    def load(
        self, *, ema: float | None = None, device: torch.device | None = None, code: CodePermission = NO_CODE,
        at: Path | None = None, merged: bool = True,
    ) -> tuple[Built, int, list[str]]:  # fmt: skip
        """The run's parts with trained weights, the step of these, and messages for the user.

        Args:
            ema: length of the EMA of the weights; 0 is the last weights, which a run without EMAs always gives; None is
                the recipe's, or what was chosen at the end of the run.
            code: the user functions that may be imported.
            at: one of the run's checkpoints; None is the newest, or that of the least held-out loss (`training.keep_best`).
            merged: whether the network of an adapted run is a plain one; else what it changes stays apart.

        Raises:
            ValueError: there is no complete checkpoint yet, or the recipe names a function that may not be imported.
        """
        length = self.ema_length(ema, at=at)
        groups, lines = ("model", f"ema-{length:g}"), list[str]()
        saved = None if at is None else checkpoint.load(at, only=groups)
        if saved is None and self.recipe.training.keep_best:
            saved, lines = checkpoint.load_latest(self.checkpoints / BEST, only=groups)
        if saved is None:
            saved, more = checkpoint.load_latest(self.checkpoints, only=groups)
            lines += more
        if saved is None:
            complaints = "\n".join(lines)
            raise ValueError(f"{self.path} has no complete checkpoint to load. {complaints}".strip())
        recipe = self.recipe
        if recipe.training.precision == "bfloat16" and precision("auto") == "float32":
            recipe = replace(recipe, training=replace(recipe.training, precision="float32"))
            lines.append("the run was trained in bf16, which is slow on this machine: sampling in float32")
        base = partial(base_weights, device, code)
        built = replace(build(recipe, device=device, code=code, base=base), recipe=self.recipe)
        step = int(saved.state["step"])
        tensors = saved.groups["model"]  # also of players without EMAs
        only = saved.state.get("drawn_ema")
        if only is not None and length != only:
            raise ValueError(
                f"{self.path} was pulled, with weights of the EMA length {only:g} alone, and {length:g} is asked for"
            )
        if length == 0 or only is not None:
            pass
        elif f"ema-{length:g}" in saved.groups:
            tensors |= saved.groups[f"ema-{length:g}"]
        elif at is not None or (saved.path.parent.name == BEST and step < self.last_step):
            raise ValueError(
                f"{saved.path} has no EMA of length {length:g}, and one reconstructed from snapshots is of the run's end"
            )
        else:
            tensors |= ema_of_length(self.path, length)
            lines.append(f"EMA of length {length:g} reconstructed from the run's snapshots")
        put(built, tensors)
        if recipe.adapter is not None and merged:
            merge(built.model.network)
        counts.put(built.model.network, counts.read(self.path))
        models = lru_cache(maxsize=2)(partial(other_model, self, device, code))
        kept = Kept(run=self.path, process=built.model.process, network=built.model.network, ema=length)
        return replace(built, learned=kept, models=models), step, lines

    def ema_length(self, ema: float | Literal["auto"] | None, *, at: Path | None = None) -> float:
        """The EMA length of the weights that `load` returns: the recipe's for None, 0 for a run without EMAs.

        If the recipe leaves it open, it is what was chosen at the end of the run, and the standard one before that and for
        older checkpoints, `at`.

        Raises:
            ValueError: the record of the choice is damaged."""
        length, kept = self.recipe.sampling.ema if ema is None else ema, self.recipe.training.ema_lengths
        if not kept or length != "auto":
            return length if kept and length != "auto" else 0.0
        choice = read_choice(self.path) if at is None else None
        return standard_length(kept) if choice is None else choice.length


def base_weights(device: torch.device | None, code: CodePermission, adapter: Adapter) -> dict[str, dict[str, Tensor]]:
    """The weights that an adapter changes, by player and parameter.

    Raises:
        ValueError: the run that it names has others, or is gone."""
    require_weights("base", adapter.path, adapter.sha256)
    built, _, _ = open_run(Path(adapter.path)).load(ema=adapter.ema, device=device, code=code)
    return {name: dict(player.module.named_parameters()) for name, player in built.model.method.players.items()}


def other_model(run: Run, device: torch.device | None, code: CodePermission, other: OtherModel) -> Denoiser[Any]:
    """The second model of autoguidance: another run, one of its checkpoints, or `run` at another EMA length.

    Raises:
        ValueError: it does not exist, or it does not read the same x_t, t and condition."""
    path = run.path if other.run is None else Path(other.run)
    at = path if path.parent.name == "checkpoints" and path.name.startswith("step-") else None
    weaker = open_run(path if at is None else at.parent.parent)
    ours, theirs = _input_of(run), _input_of(weaker)
    if wrong := [name for name in ours if ours[name] != theirs[name]]:
        raise ValueError(
            f"guidance of {run.path} cannot compare with {path}: they differ in {', '.join(wrong)}, and both must read the "
            "same data, noise and condition"
        )
    built, _, _ = weaker.load(ema=other.ema, device=device, code=code, at=at)
    return built.model.denoiser


def _input_of(run: Run) -> dict[str, Any]:
    """What determines the input of a run's network: runs that agree read the same x_t, t and condition."""
    process = asdict(run.recipe.process) | {"sigma_data": None}
    data = {k: v for k, v in asdict(run.recipe.data).items() if k not in ("path", "val_fraction")}
    return {"shape": run.facts["shape"], "process": process, "data": data}


@torch.no_grad()
def put(built: Built, tensors: dict[str, Tensor]) -> None:
    """Copy weights, named player.parameter, into the players, and set these to evaluation mode.

    Raises:
        ValueError: the weights are not those of this network."""
    for name_of, player in built.model.method.players.items():
        for name, parameter in player.weights.items():
            saved = tensors.get(f"{name_of}.{name}")
            if saved is None or saved.shape != parameter.shape or not saved.is_floating_point():
                raise ValueError(
                    f"the weights are of another network: '{name}' is missing, or of another shape or type"
                )
            parameter.copy_(saved)
        player.module.eval()


def load_model(
    run: Run,
    *,
    ema: float | None = None,
    device: torch.device | None = None,
    code: CodePermission = NO_CODE,
    say: Callable[[str], None] = lambda line: None,
    steps: int | None = None,
    sampler: str | None = None,
    guidance: float | None = None,
) -> tuple[RunModel, int]:
    """The run's model as modalities see it, and the training step of its weights.

    Args:
        say: called with each message for the user.
        ema, steps, sampler, guidance: changes of the run's sampling; None keeps a setting.

    Raises:
        ValueError: see `Run.load` and `changed`."""
    built, step, lines = run.load(ema=ema, device=device, code=code)
    for line in lines:
        say(line)
    sampling = replace(run.recipe.sampling, ema=run.ema_length(ema))
    model = RunModel(
        built=built, sampling=sampling, data_fingerprint=str(run.facts.get("data")),
        others=other_runs(run.recipe, device=device, code=code),
    )  # fmt: skip
    return changed(model, steps=steps, sampler=sampler, guidance=guidance), step


def other_runs(
    recipe: Recipe, *, device: torch.device | None = None, code: CodePermission = NO_CODE
) -> dict[str, RunModel]:
    """The models of other runs that the modality's plans request, by name.

    Raises:
        ValueError: one is gone, or its weights are others than when this run was trained."""
    found = dict[str, RunModel]()
    wanted: Mapping[str, tuple[str, str]] = getattr(recipe.data, "models", {})
    for name, (path, sha256) in wanted.items():
        require_weights(name, path, sha256)
        found[name] = load_model(open_run(Path(path)), device=device, code=code)[0]
    return found


def create(path: Path, recipe: Recipe, facts: dict[str, Any]) -> Run:
    """Create a run directory.

    The recipe is written last, so a directory with a recipe is complete.

    Raises:
        ValueError: the recipe could not be read back, so that the run could never be opened."""
    text = dump_checked(recipe)
    path.mkdir(parents=True, exist_ok=True)
    environment = {"version": VERSION, **facts, "machine": describe()}
    write_atomic(path / "environment.json", json.dumps(environment, indent=1).encode())
    write_atomic(path / "recipe.yaml", text.encode())
    return Run(path=path, recipe=recipe, facts=environment)


def open_run(path: Path) -> Run:
    """Open a run directory.

    Raises:
        ValueError: it is not a run, or it is damaged or of another version.
    """
    if not path.is_dir():
        near = sorted(p.parent for p in path.parent.glob("*/recipe.yaml")) if path.parent.is_dir() else []
        known = f"; there are {', '.join(map(str, near[:5]))}" if near else "; `langevin train` creates one"
        raise ValueError(f"there is no run at {path}{known}")
    if not (path / "recipe.yaml").is_file():
        raise ValueError(f"{path} is not a run, as it has no recipe.yaml; `langevin train` creates runs")
    facts = read_environment(path)
    if not _describes_data(facts):
        raise ValueError(f"{path}/environment.json is damaged: it does not describe the data of the run")
    tree = read_tree(path / "recipe.yaml")
    last = fields(Recipe)[-1].name
    if last not in tree:
        raise ValueError(f"{path}/recipe.yaml is truncated: a run's recipe is complete and ends with '{last}'")
    recipe = check(tree, where=f"{path}/recipe.yaml")
    return Run(path=path, recipe=recipe, facts=facts)


def _describes_data(facts: dict[str, Any]) -> bool:
    shape, machine = facts.get("shape"), facts.get("machine", {})
    return (
        isinstance(facts.get("data"), str)
        and type(facts.get("items")) is int
        and isinstance(shape, list)
        and all(type(size) is int and 0 < size < 2**31 for size in shape)
        and isinstance(machine, dict)
        and all(isinstance(value, str | int | float | bool | None) for value in machine.values())
    )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Hold the lock of a run directory, which a process needs to write in it. A directory is created, and is removed again
    if there is no run in it at the end.

    Raises:
        ValueError: another process holds it, or the path is not a directory.
    """
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file, and a run is a directory: choose another --out")
    before = set(os.listdir(path)) if path.exists() else None
    path.mkdir(parents=True, exist_ok=True)
    lock = _lock(path)
    for name in (".", "samples", "ema", "solvers", "evaluation"):
        if not (path / name).is_symlink():
            sweep(path / name)
    try:
        yield
    finally:
        if is_leftover(path):
            for name in set(os.listdir(path)) - (before or set()):
                remove(path / name)
        lock.release()
        if before is None and path.is_dir() and not os.listdir(path):
            path.rmdir()


def is_leftover(path: Path) -> bool:
    """Whether a directory holds no more than what is left of a start that failed or was killed before there was a run."""
    return path.is_dir() and all(name in (LOCK, "environment.json") or is_temporary(name) for name in os.listdir(path))


def is_being_written(path: Path) -> bool:
    """Whether a process holds the lock of a directory."""
    try:
        with _PROBING, FileLock(path / LOCK, timeout=0):  # two who ask at once must not see each other
            return False
    except Timeout:
        return True
    except (OSError, NotImplementedError):
        return (path / LOCK).exists()  # no locks here: the file stands for one


def _lock(path: Path) -> BaseFileLock:
    """The lock of a directory, acquired. The system releases it when the process ends, even if it is killed."""
    file = path / LOCK
    if file.is_symlink():
        file.unlink()
    taken = f"{path} is being written by another process; wait for it, or use another --out"
    try:
        lock = FileLock(file)
        lock.acquire(timeout=MOMENT)
    except Timeout as error:
        raise ValueError(taken) from error
    except (OSError, NotImplementedError) as error:
        if getattr(error, "errno", None) not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, None):
            raise explain(error, file) from error
        lock = SoftFileLock(file)  # network file systems without locks: one who finds the file waits for its owner
        try:
            lock.acquire(timeout=0)
        except Timeout as held:
            raise ValueError(f"{taken}; if there is none, remove {file}: this file system has no locks") from held
    return lock
