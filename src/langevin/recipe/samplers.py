"""Samplers by name: the one place where a recipe's word becomes a sampler of the run's process."""

from collections.abc import Callable, Mapping
from typing import Any

from langevin.diffusion.process import Drift, Gaussian, Hybrid, Masked, Uniform
from langevin.diffusion.sampler import (
    DDIM,
    DPM2,
    DPM2M,
    DPM3M,
    IPNDM,
    Adams,
    Adaptive,
    Ancestral,
    Churn,
    Euler,
    EulerMaruyama,
    Exponential,
    Flow,
    Gibbs,
    Heun,
    Langevin,
    Psi,
    Remask,
    Restart,
    Reveal,
    Reverse,
    Sampler,
    Sure,
    Taste,
    TopK,
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
MASKED_SAMPLERS: Mapping[SamplerName, Callable[[Masked, Sampling], Sampler]] = {
    "ancestral": lambda process, s: Reveal(process=process, taste=_taste(s)),
    "first_hitting": lambda process, s: Reveal(process=process, by="random", taste=_taste(s)),
    "left_to_right": lambda process, s: Reveal(process=process, by="left", taste=_taste(s)),
    "confidence": lambda process, s: TopK(process=process, score="confidence", taste=_taste(s)),
    "margin": lambda process, s: TopK(process=process, score="margin", taste=_taste(s)),
    "entropy": lambda process, s: TopK(process=process, score="entropy", taste=_taste(s)),
    "threshold": lambda process, s: Sure(process=process, level=_level(s, 0.9), taste=_taste(s)),
    "factor": lambda process, s: Sure(process=process, rule="factor", level=_level(s, 1.0), taste=_taste(s)),
    "entropy_bound": lambda process, s: Sure(process=process, rule="entropy", level=_level(s, 0.5), taste=_taste(s)),
    "remask": lambda process, s: Remask(process=process, eta=_level(s, 0.05), taste=_taste(s)),
    "psi": lambda process, s: Psi(process=process, kappa=_level(s, 0.95), taste=_taste(s)),
    "gibbs": lambda process, s: Gibbs(process=process, share=_level(s, 0.05), taste=_taste(s)),
}
WRONG_SAMPLERS: Mapping[SamplerName, Callable[[Uniform | Hybrid, Sampling], Sampler]] = {
    "ancestral": lambda process, s: (
        Psi(process=process, kappa=1.0, taste=_taste(s)) if not _taste(s).neutral else Ancestral(process=process)
    ),
    "psi": lambda process, s: Psi(process=process, kappa=_level(s, 0.95), taste=_taste(s)),
}
ORDERED = ("exponential", "adams", "deis", "ipndm", "unipc")


def _taste(sampling: Sampling) -> Taste:
    return Taste(temperature=sampling.temperature, top_p=sampling.top_p)


def _level(sampling: Sampling, usual: float) -> float:
    return usual if sampling.level is None else sampling.level


def samplers_of(process: Any) -> Mapping[Any, Any]:
    """Those that a process has, by name."""
    match process:
        case Drift():
            return DRIFT_SAMPLERS
        case Masked():
            return MASKED_SAMPLERS
        case Uniform() | Hybrid():
            return WRONG_SAMPLERS
        case _:
            return SAMPLERS


def unfitted(sampling: Sampling) -> Sampler:
    """What parts without a run answer when they are asked for the learned sampler.

    Raises:
        ValueError: always."""
    raise ValueError(
        "the learned sampler is fitted to a trained run and kept with it: `langevin solver RUN --steps "
        f"{sampling.steps}` makes one"
    )


def sampler_of(process: Any, sampling: Sampling, learned: Callable[[Sampling], Sampler] = unfitted) -> Sampler:
    """The sampling's sampler of a process.

    Args:
        learned: finds a fitted one.

    Raises:
        ValueError: it is one of another process, or an order for a sampler that has one only, or one that was not fitted.
    """
    known = samplers_of(process)
    if known is SAMPLERS:
        known = {**SAMPLERS, "learned": lambda _, s: learned(s)}
    if sampling.sampler not in known:
        raise ValueError(
            f"the sampler {sampling.sampler} is not one of a {process.kind} process: choose {', '.join(known)}"
        )
    if sampling.order is not None and sampling.sampler not in ORDERED:
        raise ValueError(f"the sampler {sampling.sampler} has one order only; of any order are {', '.join(ORDERED)}")
    return known[sampling.sampler](process, sampling)
