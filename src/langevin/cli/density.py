"""`langevin sample` of a density: chains, or the path from a Gaussian, and whether they settled."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from langevin.cli.show import LiveLine, counting, duration
from langevin.cli.verbs import Sample
from langevin.diffusion.chain import Adjusted, Chains, Density, Unadjusted, anneal, judge, run_chains
from langevin.diffusion.noise import RowNoise
from langevin.modalities.toy.preview import clouds
from langevin.recipe.density import ChainConfig, DensityRecipe
from langevin.recipe.entry import Code
from langevin.recipe.read import check_density, is_density, read_tree
from langevin.training.checkpoint import write_atomic


def asked_for_density(asked: Sample) -> bool:
    """Whether the target is a density's recipe or a function, and no run."""
    name = str(asked.run)
    return not asked.run.is_dir() and (":" in name or is_density(name))


def run(asked: Sample) -> Path:
    """Draw, judge, write, and say.

    Raises:
        ValueError: options of a run, or what the density does wrong."""
    line, begin = LiveLine(), time.perf_counter()
    recipe = plan(asked)
    out = asked.out or Path(f"{recipe.name.rpartition('/')[2]}.png")
    if out.suffix not in (".png", ".npz"):
        raise ValueError(f"draws of a density are written as .npz, or shown as .png; got --out {out}")
    density = recipe.build(Code.of([str(asked.run)], allow=asked.allow_code))
    line.say(f"density: {recipe.name}{', ' + recipe.about if recipe.about else ''}")
    points, lines, extra = draws(recipe, density, asked.seed)
    for text in lines:
        line.say(text)
    keep = torch.arange(min(len(points), asked.count)) * len(points) // min(len(points), asked.count)
    write(points, points[keep], out, extra | {"seed": np.int64(asked.seed)})
    line.say(f"{min(len(points), asked.count)} draws in {duration(time.perf_counter() - begin)}: {out}")
    return out


def plan(asked: Sample) -> DensityRecipe:
    """The recipe with the command's changes."""
    of_runs = {
        "steps": asked.steps,
        "sampler": asked.sampler,
        "guidance": asked.guidance,
        "eta": asked.eta,
        "gif": asked.gif,
    }
    meant = [f"--{name}" for name, value in of_runs.items() if value]
    if meant or asked.condition:
        raise ValueError(
            f"{', '.join(meant) or '--condition'} is for runs; a density takes --moves, --chains and --method"
        )
    name = str(asked.run)
    if ":" in name:
        if asked.dimensions is None:
            raise ValueError(f"say how many numbers a state of {name} has: --dimensions 2")
        tree = {
            "name": name.rpartition(":")[2],
            "density": {"kind": "entry", "function": name},
            "dimensions": asked.dimensions,
        }
    else:
        tree = read_tree(name) | ({} if asked.dimensions is None else {"dimensions": asked.dimensions})
    recipe = check_density(tree, where=name)
    changes = {"chains": asked.chains, "moves": asked.moves, "method": asked.method, "start": asked.start}
    chains = replace(recipe.chains, **{k: v for k, v in changes.items() if v is not None})
    return replace(
        recipe, chains=chains, box=asked.box or recipe.box, confine=asked.confine or recipe.confine,
        energy=asked.energy or recipe.energy,
    )  # fmt: skip


def draws(recipe: DensityRecipe, density: Density, seed: int) -> tuple[Tensor, list[str], dict[str, Any]]:
    """Points (n, d), what to say of them, and arrays to keep beside them."""
    config = recipe.chains
    seeds = seed + torch.arange(config.chains)
    like = torch.zeros(config.chains, recipe.dimensions, dtype=torch.float64)
    if config.method == "annealed":
        found = anneal(density, like, start=config.start, seeds=seeds, rungs=config.rungs, size=config.size)
        say = (
            f"path of {config.rungs} rungs from N(0, {config.start:g}^2): ln of the integral {found.log_constant:.3f}, "
            f"{found.effective_size:.0f} effective of {config.chains} draws"
        )
        if found.effective_size < 0.1 * config.chains:
            say += "; that is few: take more rungs or a wider start, or the density has no integral (--box, --confine)"
        return found.draws, [say], {"log_weights": found.log_weights.numpy()}
    with counting("moves") as progress:
        chains = walk(config, density, like, seeds, progress)
    verdict = judge(chains.draws)
    share = float(chains.accepted.mean())
    lines = [
        f"{config.chains} chains of {config.moves} moves after {config.warmup}, {share:.0%} taken",
        *verdict.lines(),
    ]
    facts = {"r_hat": np.float64(verdict.r_hat), "effective_size": np.float64(verdict.effective_size)}
    return (
        chains.draws.flatten(0, 1),
        lines,
        facts | {"chains": chains.draws.numpy(), "settled": np.bool_(verdict.settled)},
    )


def walk(config: ChainConfig, density: Density, like: Tensor, seeds: Tensor, progress) -> Chains:  # noqa: ANN001
    """The chains from their starts, which a box holds."""
    start = config.start * RowNoise(seeds=seeds, steps=torch.full_like(seeds, -1)).normal(like)
    if density.box is not None:
        low, high = density.box
        middle, half = (low + high) / 2, 0.98 * (high - low) / 2
        start = middle + half * torch.tanh((start - middle) / half)
    move = Unadjusted(size=config.size) if config.method == "unadjusted" else Adjusted(size=config.size)
    every = max(1, config.moves // 1000)
    return run_chains(
        density, start, move=move, seeds=seeds, warmup=config.warmup, moves=config.moves, keep_every=every,
        progress=progress,
    )  # fmt: skip


def write(points: Tensor, kept: Tensor, out: Path, extra: dict[str, Any]) -> None:
    """`points` and what belongs to them into an array, or all of them into a picture."""
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".npz":
        with out.open("wb") as file:
            np.savez_compressed(file, points=kept.numpy(), **extra)
    else:
        write_atomic(out, clouds({"draws": points.float()}))
