"""From the recipe's equation to a `Drift`."""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from langevin.diffusion.noise import RowNoise
from langevin.diffusion.process.drift import AnyEnd, Drift, Gap, Normal, Reservoir, Stationary, blend
from langevin.diffusion.process.drift.equation import Field
from langevin.recipe.entry import Code, load_entry
from langevin.recipe.tree import Entry, Equation

MEASURED = 2000  # rows that the simulation is measured on
KEPT = 1000  # end points of a reservoir


def drift_of(config: Equation, *, like: Tensor, code: Code) -> Drift:
    """The process, with its closed form where the drift is affine; `like` (1, d) is a row.

    Raises:
        ValueError: an end law that the drift cannot have, code that is not allowed, or what the drift does wrong."""
    f: Field = load_entry(config.f.function, code) if isinstance(config.f, Entry) else config.f
    end: AnyEnd = Normal(std=config.end_std)
    if config.end == "stationary":
        energy = getattr(f, "energy", None)
        if energy is None:
            name = config.f.function if isinstance(config.f, Entry) else config.f.kind
            raise ValueError(
                f"process.end stationary needs the energy that {name} goes down, and it has none; "
                "process.end=blend ends in a Gaussian whatever the drift"
            )
        end = Stationary(energy=partial(energy, g=config.g), start=config.sigma_data)
    elif config.end == "reservoir" and config.points:
        end = Reservoir.of(torch.tensor(config.points, dtype=torch.float64))
    elif config.end == "blend":
        f, end = blend(f, g=config.g, horizon=config.horizon)
    made = Drift(
        f=f, g=config.g, horizon=config.horizon, steps=config.steps, end=end,
        sigma_data=config.sigma_data, spreads=config.spreads, edges=config.edges, reach=config.reach,
    )  # fmt: skip
    found = made.settled(like)
    return replace(found, spreads=config.spreads or found.spreads)


def measured(config: Equation, x: Tensor, *, code: Code, seed: int = 0) -> tuple[Equation, Gap]:
    """The equation with what a simulation from data x (n, d) measures, and the gap between its end and its end law."""
    x = x[torch.arange(min(len(x), MEASURED)) * len(x) // min(len(x), MEASURED)]
    config = replace(config, sigma_data=round(float(x.double().square().mean().sqrt()), 4))
    rows = torch.arange(len(x))
    if config.end == "reservoir" and not config.points:  # of other noise than the gap is measured with
        other = RowNoise(seeds=rows - 7_000_003 * (seed + 1), steps=torch.zeros_like(rows))
        ends = drift_of(config, like=x[:1].double(), code=code).corrupt(x.double(), torch.ones(len(x)).double(), other)
        kept = ends[:KEPT].flatten(1).tolist()
        config = replace(config, points=tuple(tuple(round(v, 5) for v in point) for point in kept))
    noise = RowNoise(seeds=rows + 1_000_003 * (seed + 1), steps=torch.zeros_like(rows))
    made, gap = drift_of(config, like=x[:1].double(), code=code).measured(x, noise)
    reach = None if made.reach is None else round(made.reach, 4)
    spreads, edges = (tuple(round(v, 5) for v in values) for values in (made.spreads, made.edges))
    return replace(config, spreads=spreads, edges=edges, reach=reach), gap
