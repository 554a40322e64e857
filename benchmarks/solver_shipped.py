"""What the schedulers of diffusers and the samplers of k-diffusion do as they ship: their own knots, in float32.

Two things are looked for. Errors that do not fall: DDIM by its spacing of timesteps, and DEIS of third order by its rounded
table. And cells of a lattice of options that end in a number that is not finite, or in an exception.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

import harness
import solver_peers
from solver_peers import DEIS, DPM, EDM, ONE, UNIPC, Clean

Quantile = Callable[[Tensor], Tensor]
STEPS = (1, 2, 3, 5, 8, 10, 14, 15, 20, 30, 50)


def rms(x: Tensor, y: Tensor) -> float:
    return float((x - y).square().mean().sqrt())


def ddim_error(spacing: str, n: int, clean: Clean, quantile: Quantile) -> float:
    """DDIM between its own timesteps, its state in float64, down to the least noise that it knows."""
    scheduler = harness.peer().DDIMScheduler(timestep_spacing=spacing, set_alpha_to_one=False, clip_sample=False)
    scheduler.set_timesteps(n)
    alphas = scheduler.alphas_cumprod.double()
    levels = ((1 - alphas) / alphas).sqrt()
    x = solver_peers.outward("vp", quantile(levels[scheduler.timesteps[0]]), levels[scheduler.timesteps[0]])
    for t in scheduler.timesteps:
        y = solver_peers.inward("vp", x, levels[t])
        x = scheduler.step((y - clean(y, levels[t])) / levels[t], t, x, return_dict=False)[0]
    return rms(solver_peers.inward("vp", x, levels[0]), quantile(levels[0]))


def shipped(name: str, face: str, options: dict[str, Any], n: int, clean: Clean, quantile: Quantile) -> float:
    """The error of a scheduler with one question a step, on its own knots and in float32."""
    scheduler = getattr(harness.peer(), name)(**options)
    scheduler.set_timesteps(n)
    levels = scheduler.sigmas.double()
    x = solver_peers.outward(face, quantile(levels[0]), levels[0]).float()
    for i, t in enumerate(scheduler.timesteps):
        y = solver_peers.inward(face, x.double(), levels[i])
        said = solver_peers.told(scheduler, face, y, levels[i], clean).float()
        x = scheduler.step(said, t, x, return_dict=False)[0]
    return rms(solver_peers.inward(face, x.double(), levels[-1]), quantile(levels[-1]))


def lattice() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(scheduler, face, options): orders, forms, knots and ends."""
    grids = ({}, {"use_karras_sigmas": True}, {"use_exponential_sigmas": True})
    orders, forms, ends = (1, 2, 3), ("midpoint", "heun"), ("zero", "sigma_min")
    for name, algorithm in itertools.product((DPM, ONE), ("dpmsolver++", "dpmsolver")):
        for order, form, grid, end in itertools.product(orders, forms, (*grids, {"use_lu_lambdas": True}), ends):
            if (algorithm == "dpmsolver" and end == "zero") or (name == ONE and "use_lu_lambdas" in grid):
                continue  # which it refuses, or does not have
            form_of = {"solver_type": form, "algorithm_type": algorithm, "final_sigmas_type": end}
            yield name, "vp", {"solver_order": order, **form_of, **grid}
    for order, form, grid, end in itertools.product(orders, ("bh1", "bh2"), grids, ends):
        yield UNIPC, "vp", {"solver_order": order, "solver_type": form, "final_sigmas_type": end, **grid}
    for order, grid in itertools.product(orders, grids):
        yield DEIS, "vp", {"solver_order": order, **grid}
    for order, form, grid, end in itertools.product(orders, forms, ("karras", "exponential"), ends):
        shape = {"solver_type": form, "sigma_schedule": grid, "final_sigmas_type": end}
        yield EDM, "edm", {"solver_order": order, **shape}


def diffusers_cells(clean: Clean, quantile: Quantile, steps: tuple[int, ...]) -> dict[str, Any]:
    """How many cells there are, how many are not finite or raise, and of which options."""
    bad: Counter[str] = Counter()
    raised: Counter[str] = Counter()
    cells = 0
    for name, face, options in lattice():
        for n in steps:
            cells += 1
            order, form, end = (options.get(o, "") for o in ("solver_order", "solver_type", "final_sigmas_type"))
            where = f"{name.removesuffix('Scheduler')} {order} {form} to {end or 'zero'}"
            try:
                error = shipped(name, face, options, n, clean, quantile)
            except (IndexError, ValueError, RuntimeError, TypeError, AssertionError) as problem:
                raised[f"{where}: {type(problem).__name__}"] += 1
                continue
            bad[where] += not error < float("inf")
    return {"cells": cells, "nonfinite": sum(bad.values()), "of": dict(+bad), "raised": dict(raised)}


def k_cells(module: ModuleType, clean: Clean, quantile: Quantile, steps: tuple[int, ...]) -> dict[str, Any]:
    """The same of k-diffusion, its knots ending at 0 or at the smallest noise."""
    bad: Counter[str] = Counter()
    raised: Counter[str] = Counter()
    cells = 0
    grids = (module.get_sigmas_karras, module.get_sigmas_exponential)
    for name, grid, end, n in itertools.product(solver_peers.SAMPLERS, grids, ("zero", "sigma_min"), steps):
        cells += 1
        knots = grid(n if end == "zero" else n + 1, 0.002, 80.0)
        knots = knots if end == "zero" else knots[:-1]
        run = solver_peers.k_run(module, name, clean)
        where = f"{name}, ends at {end}"
        try:
            y, _ = run(knots, quantile(knots[0].double()).float())
        except (IndexError, ValueError, RuntimeError, TypeError, NameError) as problem:
            raised[f"{where}: {type(problem).__name__}"] += 1
            continue
        bad[where] += not bool(torch.isfinite(y).all())
    return {"cells": cells, "nonfinite": sum(bad.values()), "of": dict(+bad), "raised": dict(raised)}
