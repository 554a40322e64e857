"""All parts of every kind: what the laws run over. A new part is tested by being listed here (`test_parts` sees to it)."""

import math
from collections.abc import Callable

from langevin.diffusion.importance import Importance
from langevin.diffusion.objective import LogitNormal, LogNormal, TimeDensity, UniformTime, Weighted
from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampler import DDIM, DPM2M, Ancestral, AnySampler, Euler, Heun
from langevin.diffusion.sampler.grid import AnyGrid, Knots, LogSNR, Rho, UniformGrid
from langevin.diffusion.schedule import (
    AnySchedule,
    Beta,
    Cosine,
    Rectified,
    VarianceExploding,
    VariancePreserving,
)

SCHEDULES: dict[str, AnySchedule] = {
    "rectified": Rectified(),
    "cosine": Cosine(),
    "variance_preserving": VariancePreserving(),
    "variance_preserving_sin2": VariancePreserving(
        beta=Beta.tabulate(lambda t: 20 * math.sin(math.pi * t / 2) ** 2, knots=65)
    ),
    "variance_exploding": VarianceExploding(),
    "variance_exploding_cubic": VarianceExploding(sigma_max=30.0, power=3.0),
}

PREDICTIONS = ("clean", "noise", "velocity", "edm")

WEIGHTINGS = ("edm", "velocity", "noise", "min_snr")

DENSITIES: dict[str, TimeDensity] = {
    "uniform": UniformTime(low=0.1, high=0.9),
    "log_normal": LogNormal(),
    "logit_normal": LogitNormal(mean=-0.4, std=1.1),
    "importance": Importance(log_snr=(-12.0, -4.0, 0.5, 6.0, 13.0), weight=(0.2, 1.0, 3.0, 0.7)),
}

GRIDS: dict[str, AnyGrid] = {
    "rho": Rho(),
    "log_snr": LogSNR(),
    "uniform": UniformGrid(),
    "uniform_from_80": UniformGrid(high=80.0),
    "knots": Knots(),
    "knots_beyond_reach": Knots(log_snr=(-12.0, -9.0, -3.0, 0.0, 4.0, 11.0)),
}

# name -> (sampler of a process, order of its first two moments on Gaussian data)
SAMPLERS: dict[str, tuple[Callable[[Gaussian], AnySampler], int]] = {
    "ancestral": (lambda process: Ancestral(process=process), 1),
    "ddim": (lambda process: DDIM(process=process), 1),
    "ddim_half": (lambda process: DDIM(process=process, eta=0.5), 1),
    "ddim_ancestral": (lambda process: DDIM(process=process, eta=1.0), 1),
    "euler": (lambda process: Euler(process=process), 1),
    "heun": (lambda process: Heun(process=process), 2),
    "dpm2m": (lambda process: DPM2M(process=process), 2),
    "dpm2m_lower_order_final": (lambda process: DPM2M(process=process, lower_order_final=True), 2),
}

FLOWS = [name for name, (make, _) in SAMPLERS.items() if make(Gaussian()).order is not None]


def sampler(name: str, process: Gaussian) -> AnySampler:
    """The named sampler of a process."""
    return SAMPLERS[name][0](process)


def weighted(name: str, schedule: AnySchedule) -> Weighted:
    """The named weighting on a schedule."""
    return Weighted(process=Gaussian(schedule=schedule), weighting=name)
