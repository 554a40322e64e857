"""Fitted solvers kept with their run: RUN/solvers/steps-6-guidance-1.5-average-0.1.json.

A fitted solver is good for what it was fitted to and for nothing that it could be told apart from: another guidance, other
weights or another grid give samples that look like samples, with an error that nobody has measured. Fitting takes minutes,
so whatever differs is refused.
"""

import hashlib
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import TypeAdapter
from torch import nn

from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampler import Learned
from langevin.diffusion.sampler.grid import AnyGrid
from langevin.recipe.tree import Sampling
from langevin.training.checkpoint import write_atomic


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A fitted solver, and what it was fitted to.

    Args:
        guidance, interval, grid: of the sampling.
        average, step, weights: width of the average of the weights, steps that they were trained for, their sha256.
        trajectories, fine, seed: how many it was fitted to, steps of the fine solver to one of its own, their name.
        errors: root mean square distance from the fine trajectories' ends, in units of coded data, on as many others; by
            sampler, at equal network calls.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}

    solver: Learned
    guidance: float
    interval: tuple[float, float] | None
    grid: AnyGrid
    average: float
    step: int
    weights: str
    trajectories: int
    fine: int
    seed: int
    errors: dict[str, float]
    version: Literal[1] = 1

    def __post_init__(self) -> None:
        if not math.isfinite(self.guidance) or not all(0 <= e < math.inf for e in self.errors.values()):
            raise ValueError(f"guidance and errors are finite numbers, got {self.guidance} and {self.errors}")

    @property
    def steps(self) -> int:
        return len(self.solver.rows)


@cache
def _adapter() -> TypeAdapter[Fitted]:
    return TypeAdapter(Fitted)


def fingerprint(network: nn.Module) -> str:
    """The sha256 of a network's weights, by name."""
    digest = hashlib.sha256()
    for name, parameter in sorted(network.named_parameters()):
        digest.update(name.encode())
        digest.update(parameter.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def place(run: Path, steps: int, guidance: float, average: float) -> Path:
    """Where the run keeps the solver of so many steps."""
    return run / "solvers" / f"steps-{steps}-guidance-{guidance:g}-average-{average:g}.json"


def save(run: Path, fitted: Fitted) -> Path:
    """Keep a solver with its run, in place of one of the same steps, guidance and average."""
    path = place(run, fitted.steps, fitted.guidance, fitted.average)
    path.parent.mkdir(exist_ok=True)
    write_atomic(path, _adapter().dump_json(fitted, indent=1))
    return path


def read(path: Path) -> Fitted:
    """A kept solver, to the bit.

    Raises:
        ValueError: it is damaged."""
    try:
        return _adapter().validate_json(path.read_bytes())
    except ValueError as error:  # pydantic's are such
        first = str(error).splitlines()[0]
        raise ValueError(
            f"{path} is damaged or of another version ({first}): remove it, and fit it again by `langevin solver`"
        ) from error


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The solvers of a run that has been loaded: a sampling's is looked for when it is asked for.

    Args:
        average: width of the average of the weights that were loaded.
    """

    run: Path
    process: Any
    network: nn.Module
    average: float

    def __call__(self, sampling: Sampling) -> Learned:
        """The solver of the sampling's steps and guidance.

        Raises:
            ValueError: none was fitted, it is damaged, or it was fitted to something else."""
        fitted = find(self.run, sampling, self.average)
        again = f"fit it again by `{command(self.run, sampling, self.average)}`"
        if not isinstance(self.process, Gaussian) or fitted.solver.process != self.process:
            raise ValueError(f"the solver was fitted to another process than that of {self.run}: {again}")
        if fitted.weights != fingerprint(self.network):
            raise ValueError(
                f"the solver was fitted to other weights (after {fitted.step} training steps) than are to be drawn from, "
                f"and its error on these is not known: {again}"
            )
        return fitted.solver


def command(run: Path, sampling: Sampling, average: float) -> str:
    """What makes the sampling's solver."""
    return f"langevin solver {run} --steps {sampling.steps} --guidance {sampling.guidance:g} --average {average:g}"


def find(run: Path, sampling: Sampling, average: float) -> Fitted:
    """The solver that a run keeps for a sampling; its weights are not compared.

    Raises:
        ValueError: there is none, naming those that there are; it is damaged; or of another grid or interval."""
    path = place(run, sampling.steps, sampling.guidance, average)
    make = command(run, sampling, average)
    if not path.is_file():
        there = sorted(path.parent.glob("steps-*.json"), key=lambda p: (len(p.name), p.name))
        names = "; there are " + ", ".join(p.stem for p in there) if there else ""
        raise ValueError(
            f"no solver of {sampling.steps} steps, guidance {sampling.guidance:g} and average {average:g} has been fitted "
            f"to {run}{names}. Make it by `{make}`"
        )
    fitted = read(path)
    same = (fitted.steps, fitted.guidance, fitted.average) == (sampling.steps, sampling.guidance, average)
    if not same or fitted.grid != sampling.grid or fitted.interval != sampling.interval:
        raise ValueError(
            f"{path} was fitted to another grid, guidance or interval of guidance than the run has now: make it by `{make}`"
        )
    return fitted
