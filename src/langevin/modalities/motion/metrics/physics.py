"""Whether trajectories obey the physics of their system, and how they are distributed."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.modalities.motion.systems import AnySystem
from langevin.modalities.motion.systems.system import energies, residual

QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True, kw_only=True)
class Physics:
    """Measurements of n trajectories.

    Args:
        energy_deviation: standard deviation of the energy over time, median over trajectories.
        residual: of the equation of motion, root mean square, in units of acceleration.
        amplitudes: 10, 50 and 90 % quantiles of the greatest distance of a trajectory from its data's mean.
        energies: the same quantiles of the mean energy of a trajectory.
    """

    energy_deviation: float
    residual: float
    amplitudes: tuple[float, ...]
    energies: tuple[float, ...]


def measured(system: AnySystem, x: Tensor, mean: Tensor) -> Physics:
    """Measurements of trajectories x (n, frames, d), whose data have the mean (d,)."""
    x = x.double()
    energy = energies(system, x)
    reach = (x - mean.double()).abs().flatten(1).amax(1)
    return Physics(
        energy_deviation=float(energy.std(1).median()), amplitudes=quantiles(reach), energies=quantiles(energy.mean(1)),
        residual=float(residual(system, x).square().mean().sqrt()) / system.dt**2,
    )  # fmt: skip


def quantiles(values: Tensor) -> tuple[float, ...]:
    """The 10, 50 and 90 % quantiles of values (n,)."""
    at = torch.tensor(QUANTILES, dtype=values.dtype)
    return tuple(values.quantile(at).tolist())


@dataclass(frozen=True, kw_only=True)
class Continued:
    """Motions that were begun by some frames of real ones.

    Args:
        error: root mean square distance from the real ones, in standard deviations of the data.
        still: the same if the last velocity went on as it was.
        physics: of the motions as a whole.
    """

    error: float
    still: float
    physics: Physics


def error_of(drawn: Tensor, real: Tensor, shown: int, std: Tensor) -> tuple[float, float]:
    """(error, still) of `Continued` for trajectories (n, frames, d), of which the first `shown` frames were given."""
    steps = torch.arange(1, real.shape[1] - shown + 1, dtype=real.dtype)[None, :, None]
    line = real[:, shown - 1 : shown] + steps * (real[:, shown - 1 : shown] - real[:, shown - 2 : shown - 1])

    def rms(x: Tensor) -> float:
        return float(((x - real[:, shown:]) / std).square().mean().sqrt())

    return rms(drawn[:, shown:]), rms(line)


def by_name(found: Physics) -> Mapping[str, float]:
    """The numbers by name."""
    return {
        "energy deviation": found.energy_deviation, "equation residual": found.residual,
        **{f"amplitude, {round(100 * q)} %": v for q, v in zip(QUANTILES, found.amplitudes, strict=True)},
        **{f"energy, {round(100 * q)} %": v for q, v in zip(QUANTILES, found.energies, strict=True)},
    }  # fmt: skip
