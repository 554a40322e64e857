"""All parts of every kind: what the laws run over. A new part is tested by being listed here (`test_parts` sees to it)."""

import math
from collections.abc import Callable

from langevin.diffusion.importance import Importance
from langevin.diffusion.objective import LogitNormal, LogNormal, TimeDensity, UniformTime, Weighted
from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampler import (
    DDIM,
    DPM2,
    DPM2M,
    DPM3M,
    IPNDM,
    Adams,
    Ancestral,
    AnySampler,
    Churn,
    Euler,
    EulerMaruyama,
    Exponential,
    Heun,
    Langevin,
    Restart,
    UniPC,
)
from langevin.diffusion.sampler.grid import AnyGrid, Knots, LogSNR, Rho, Shifted, UniformGrid
from langevin.diffusion.schedule import (
    AnySchedule,
    Beta,
    Brownian,
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
    "brownian": Brownian(beta=Beta.tabulate(lambda t: 15_000 * t**5, knots=257)),  # sigma about 50 t^3
    "variance_exploding_cubic": VarianceExploding(sigma_max=30.0, power=3.0),
}

# three that differ most: what is proven slowly is proven on these, as all give the same numbers at the same noise levels
FEW_SCHEDULES = {name: SCHEDULES[name] for name in ("rectified", "variance_preserving", "variance_exploding_cubic")}

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
    "shifted": Shifted(grid=LogSNR(), factor=0.5),
}

# name -> (sampler of a process, order of its first two moments on Gaussian data)
SAMPLERS: dict[str, tuple[Callable[[Gaussian], AnySampler], int]] = {
    "ancestral": (lambda process: Ancestral(process=process), 1),
    "ddim": (lambda process: DDIM(process=process), 1),
    "ddim_half": (lambda process: DDIM(process=process, eta=0.5), 1),
    "ddim_ancestral": (lambda process: DDIM(process=process, eta=1.0), 1),
    "ddpm_forward_variance": (lambda process: DDIM(process=process, eta=1.0, variance="forward"), 1),
    "euler": (lambda process: Euler(process=process), 1),
    "euler_maruyama": (lambda process: EulerMaruyama(process=process), 1),
    "langevin": (lambda process: Langevin(process=process, ratio=0.3), 1),
    "heun": (lambda process: Heun(process=process), 2),
    "dpm2_noise": (lambda process: DPM2(process=process, form="noise"), 2),
    "dpm2_data": (lambda process: DPM2(process=process), 2),
    "churn": (lambda process: Churn(process=process, churn=10.0, low=0.05, high=5.0), 2),
    "restart": (lambda process: Restart(process=process, low=0.3, high=1.0, again=2), 2),
    "dpm2m": (lambda process: DPM2M(process=process), 2),
    "dpm2m_lower_order_final": (lambda process: DPM2M(process=process, lower_order_final=True), 2),
    "sde_dpm2m": (lambda process: DPM2M(process=process, eta=1.0), 2),
    "dpm3m": (lambda process: DPM3M(process=process), 2),
    "exponential_1_half": (lambda process: Exponential(process=process, max_order=1, eta=0.5), 1),
    "exponential_2": (lambda process: Exponential(process=process, max_order=2), 2),
    "exponential_2_half": (lambda process: Exponential(process=process, max_order=2, eta=0.5), 2),
    "exponential_3": (lambda process: Exponential(process=process, max_order=3), 3),
    "exponential_3_rising": (lambda process: Exponential(process=process, max_order=3, full_start=False), 2),
    "exponential_3_noise": (lambda process: Exponential(process=process, max_order=3, eta=1.0), 2),
    "exponential_4": (lambda process: Exponential(process=process, max_order=4), 4),
    "adams_2": (lambda process: Adams(process=process, max_order=2), 2),
    "adams_3": (lambda process: Adams(process=process, max_order=3), 3),
    "adams_4": (lambda process: Adams(process=process, max_order=4), 4),
    "deis_2": (lambda process: Adams(process=process, max_order=2, clock="vp"), 2),
    "deis_3": (lambda process: Adams(process=process, max_order=3, clock="vp"), 3),
    "ipndm": (lambda process: IPNDM(process=process), 2),
    "unipc_1": (lambda process: UniPC(process=process, p=1), 2),
    "unipc_2": (lambda process: UniPC(process=process, p=2), 3),
    "unipc_3": (lambda process: UniPC(process=process, p=3), 4),
    "unipc_3_lower_order_final": (lambda process: UniPC(process=process, p=3, lower_order_final=True), 2),
}

FLOWS = [name for name, (make, _) in SAMPLERS.items() if make(Gaussian()).order is not None]


def sampler(name: str, process: Gaussian) -> AnySampler:
    """The named sampler of a process."""
    return SAMPLERS[name][0](process)


def weighted(name: str, schedule: AnySchedule) -> Weighted:
    """The named weighting on a schedule."""
    return Weighted(process=Gaussian(schedule=schedule), weighting=name)
