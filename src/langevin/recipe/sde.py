"""Building an `SDE` from its section of a recipe, and measuring its statistics by simulation."""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.process.sde import (
    SDE,
    AnyTerminal,
    EmpiricalTerminal,
    GaussianTerminal,
    PriorMismatch,
    StationaryTerminal,
    blend,
)
from langevin.diffusion.process.sde.equation import Field
from langevin.recipe.tree import SDEConfig, UserFunction
from langevin.user_function import CodePermission, load_function

MEASURED = 2000  # samples in the simulation from which statistics are taken
KEPT = 1000  # number of points of an empirical terminal distribution


def build_sde(config: SDEConfig, *, like: Tensor, code: CodePermission) -> SDE:
    """The process, in closed form if the drift is affine; `like` (1, d) gives the shape of a sample.

    Raises:
        ValueError: a terminal distribution that the drift cannot have, a function that may not be imported, or as `SDE`."""
    f: Field = (
        load_function(config.drift.function, code, takes=("x", "t"))
        if isinstance(config.drift, UserFunction)
        else config.drift
    )
    terminal: AnyTerminal = GaussianTerminal(std=config.terminal_std)
    if config.terminal == "stationary":
        energy = getattr(f, "energy", None)
        if energy is None:
            name = config.drift.function if isinstance(config.drift, UserFunction) else config.drift.kind
            raise ValueError(
                f"process.terminal=stationary needs a drift that is the gradient of an energy, and {name} has no energy; "
                "process.terminal=blend ends in a Gaussian with any drift"
            )
        terminal = StationaryTerminal(energy=partial(energy, g=config.diffusion), start=config.sigma_data)
    elif config.terminal == "empirical" and config.points:
        terminal = EmpiricalTerminal.of(torch.tensor(config.points, dtype=torch.float64))
    elif config.terminal == "blend":
        f, terminal = blend(f, diffusion=config.diffusion, duration=config.duration)
    process = SDE(
        drift=f, diffusion=config.diffusion, duration=config.duration, steps=config.steps, terminal=terminal,
        sigma_data=config.sigma_data, rms=config.rms, max_abs=config.max_abs, clip=config.clip,
    )  # fmt: skip
    process = process.with_closed_form(like)
    return replace(process, rms=config.rms or process.rms)


def measured(config: SDEConfig, x: Tensor, *, code: CodePermission, seed: int = 0) -> tuple[SDEConfig, PriorMismatch]:
    """The section with statistics of a simulation from data x (n, d), and the mismatch of its prior."""
    x = x[torch.arange(min(len(x), MEASURED)) * len(x) // min(len(x), MEASURED)]
    config = replace(config, sigma_data=round(float(x.double().square().mean().sqrt()), 4))
    samples = torch.arange(len(x))
    if config.terminal == "empirical" and not config.points:  # with other noise than the mismatch is measured with
        other = SampleNoise(seeds=samples - 7_000_003 * (seed + 1), steps=torch.zeros_like(samples))
        ends = build_sde(config, like=x[:1].double(), code=code).corrupt(x.double(), torch.ones(len(x)).double(), other)
        kept = ends[:KEPT].flatten(1).tolist()
        config = replace(config, points=tuple(tuple(round(v, 5) for v in point) for point in kept))
    noise = SampleNoise(seeds=samples + 1_000_003 * (seed + 1), steps=torch.zeros_like(samples))
    process, mismatch = build_sde(config, like=x[:1].double(), code=code).with_statistics(x, noise)
    clip = None if process.clip is None else round(process.clip, 4)
    rms, max_abs = (tuple(round(v, 5) for v in values) for values in (process.rms, process.max_abs))
    return replace(config, rms=rms, max_abs=max_abs, clip=clip), mismatch
