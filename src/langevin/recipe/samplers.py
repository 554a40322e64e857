"""Samplers by name: the one place where a recipe's word becomes a sampler of the run's process."""

from collections.abc import Callable, Mapping
from typing import Any

from langevin.diffusion.process import Drift, Gaussian
from langevin.diffusion.sampler import (
    DDIM,
    DPM2,
    DPM2M,
    DPM3M,
    IPNDM,
    Adams,
    Adaptive,
    Churn,
    Euler,
    EulerMaruyama,
    Exponential,
    Flow,
    Heun,
    Langevin,
    Restart,
    Reverse,
    Sampler,
    UniPC,
)
from langevin.recipe.tree import SamplerName, Sampling

SAMPLERS: Mapping[SamplerName, Callable[[Gaussian, Sampling], Sampler]] = {
    "dpm2m": lambda process, s: DPM2M(process=process),
    "heun": lambda process, s: Heun(process=process),
    "ddim": lambda process, s: DDIM(process=process, eta=s.eta),
    "euler": lambda process, s: Euler(process=process),
    "ancestral": lambda process, s: DDIM(process=process, eta=1.0),
    "ddpm": lambda process, s: DDIM(process=process, eta=1.0, variance="forward"),
    "euler_maruyama": lambda process, s: EulerMaruyama(process=process),
    "langevin": lambda process, s: Langevin(process=process),
    "dpm2": lambda process, s: DPM2(process=process, form="noise"),
    "dpm2s": lambda process, s: DPM2(process=process, form="data"),
    "sde_dpm2m": lambda process, s: DPM2M(process=process, eta=s.eta or 1.0),
    "dpm3m": lambda process, s: DPM3M(process=process),
    "exponential": lambda process, s: Exponential(process=process, max_order=s.order or 3, eta=s.eta),
    "adams": lambda process, s: Adams(process=process, max_order=s.order or 3),
    "deis": lambda process, s: Adams(process=process, max_order=s.order or 3, clock="vp"),
    "ipndm": lambda process, s: IPNDM(process=process, max_order=s.order or 4),
    "unipc": lambda process, s: UniPC(process=process, p=max(1, (s.order or 3) - 1)),
    "churn": lambda process, s: Churn(process=process),
    "restart": lambda process, s: Restart(process=process),
    "adaptive": lambda process, s: Adaptive(process=process),
}
DRIFT_SAMPLERS: Mapping[SamplerName, Callable[[Drift, Sampling], Sampler]] = {
    "reverse": lambda process, s: Reverse(process=process, corrections=s.corrections),
    "flow": lambda process, s: Flow(process=process),
}


def unfitted(sampling: Sampling) -> Sampler:
    """What parts without a run answer when they are asked for the learned sampler.

    Raises:
        ValueError: always."""
    raise ValueError(
        "the learned sampler is fitted to a trained run and kept with it: `langevin solver RUN --steps "
        f"{sampling.steps}` makes one"
    )


ORDERED = ("exponential", "adams", "deis", "ipndm", "unipc")


def sampler_of(process: Any, sampling: Sampling, learned: Callable[[Sampling], Sampler] = unfitted) -> Sampler:
    """The sampling's sampler of a process.

    Args:
        learned: finds a fitted one.

    Raises:
        ValueError: it is one of another process, or an order for a sampler that has one only, or one that was not fitted.
    """
    gaussian: Mapping[Any, Any] = {**SAMPLERS, "learned": lambda _, s: learned(s)}
    known: Mapping[Any, Any] = DRIFT_SAMPLERS if isinstance(process, Drift) else gaussian
    if sampling.sampler not in known:
        raise ValueError(
            f"the sampler {sampling.sampler} is not one of a {process.kind} process: choose {', '.join(known)}"
        )
    if sampling.order is not None and sampling.sampler not in ORDERED:
        raise ValueError(f"the sampler {sampling.sampler} has one order only; of any order are {', '.join(ORDERED)}")
    return known[sampling.sampler](process, sampling)
