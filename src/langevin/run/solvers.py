"""Fitted solvers, stored in their run: RUN/solvers/steps-6-guidance-1.5-ema-0.1.json.

A fitted solver is accurate only for the model, guidance and grid that it was fitted to. With others it gives plausible
samples of unknown error. Fitting takes minutes, so a solver that was fitted to anything else is refused.
"""

import hashlib
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import TypeAdapter
from torch import nn

from langevin.diffusion.guidance import AnyGuidance, active, weight_of
from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampler import FittedSolver
from langevin.diffusion.sampler.grid import AnyGrid
from langevin.diffusion.sampling import Sampling
from langevin.files import own_folder, read_regular, write_atomic


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A fitted solver, and what it was fitted to.

    Args:
        process: the model's.
        guidance, grid: the sampling's; only guidance that is not neutral.
        ema, step, weights: EMA length, training steps and sha256 of the weights.
        trajectories, fine, seed: number of trajectories, reference steps per step of the solver, seed.
        errors: sampler -> root mean square distance from the ends of as many other reference trajectories, in units of
            encoded data, at equal NFE.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}

    solver: FittedSolver
    process: Gaussian
    guidance: tuple[AnyGuidance, ...]
    grid: AnyGrid
    ema: float
    step: int
    weights: str
    trajectories: int
    fine: int
    seed: int
    errors: dict[str, float]
    version: Literal[1] = 1

    def __post_init__(self) -> None:
        if not all(0 <= e < math.inf for e in self.errors.values()):
            raise ValueError(f"errors must be finite and not negative, got {self.errors}")

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


def solver_path(run: Path, steps: int, guidance: float, ema: float) -> Path:
    """Path of a solver in the run."""
    return run / "solvers" / f"steps-{steps}-guidance-{guidance:g}-ema-{ema:g}.json"


def save(run: Path, fitted: Fitted) -> Path:
    """Store a solver in its run; it replaces one of the same steps, guidance and EMA length."""
    path = solver_path(run, fitted.steps, weight_of(fitted.guidance), fitted.ema)
    own_folder(run, "solvers")
    write_atomic(path, _adapter().dump_json(fitted, indent=1))
    return path


def read(path: Path) -> Fitted:
    """Read a stored solver, bit for bit.

    Raises:
        ValueError: it is damaged, or of another version."""
    try:
        return _adapter().validate_json(read_regular(path, most=2**26))
    except (OSError, ValueError) as error:  # pydantic's ValidationError is one
        first = str(error).splitlines()[0]
        raise ValueError(
            f"{path} is damaged or of another version ({first}): remove it, and fit it again by `langevin fit-solver`"
        ) from error


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The stored solvers of a loaded run: sampling -> solver, read when it is needed.

    Args:
        process, network: of the loaded model, to compare with those that a solver was fitted to.
        ema: EMA length of the loaded weights.
    """

    run: Path
    process: Any
    network: nn.Module
    ema: float

    def __call__(self, sampling: Sampling) -> FittedSolver:
        """The solver for the sampling's steps, guidance and grid.

        Raises:
            ValueError: none was fitted, it is damaged, or it was fitted to something else."""
        fitted = find(self.run, sampling, self.ema)
        again = f"fit it again by `{command(self.run, sampling, self.ema)}`"
        if fitted.process != self.process:
            raise ValueError(f"the solver was fitted to another process than that of {self.run}: {again}")
        if fitted.weights != fingerprint(self.network):
            raise ValueError(
                f"the solver was fitted to other weights (after {fitted.step} training steps), so its error on the loaded "
                f"ones is unknown: {again}"
            )
        return fitted.solver


def command(run: Path, sampling: Sampling, ema: float) -> str:
    """The command that fits the sampling's solver."""
    weight = weight_of(sampling.guidance)
    return f"langevin fit-solver {run} --steps {sampling.steps} --guidance {weight:g} --ema {ema:g}"


def find(run: Path, sampling: Sampling, ema: float) -> Fitted:
    """The stored solver for a sampling; does not check process and weights.

    Raises:
        ValueError: there is none, and which there are; or it is damaged, or was fitted to another grid or guidance."""
    weight = weight_of(sampling.guidance)
    path = solver_path(run, sampling.steps, weight, ema)
    fit = command(run, sampling, ema)
    if not path.is_file():
        others = sorted(path.parent.glob("steps-*.json"), key=lambda p: (len(p.name), p.name))
        names = "; there are " + ", ".join(p.stem for p in others) if others else ""
        raise ValueError(
            f"no solver of {sampling.steps} steps, guidance {weight:g} and EMA length {ema:g} has been fitted "
            f"to {run}{names}. Fit it by `{fit}`"
        )
    fitted = read(path)
    same = (fitted.steps, fitted.guidance, fitted.ema) == (sampling.steps, active(sampling.guidance), ema)
    if not same or fitted.grid != sampling.grid:
        raise ValueError(
            f"{path} was fitted to another grid, guidance or guidance interval than the run has: fit it again by `{fit}`"
        )
    return fitted
