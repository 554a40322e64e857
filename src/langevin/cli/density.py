"""`langevin sample` of a density: Markov chains with convergence diagnostics, or annealing from a Gaussian."""

import io
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from langevin.cli.out import require_writable, unused
from langevin.cli.sample import MOST, check_seed
from langevin.cli.show import LiveLine
from langevin.cli.verbs import SampleDensity
from langevin.diffusion.chain import MALA, ULA, Chains, Density, anneal, diagnose, run_chains
from langevin.diffusion.noise import SampleNoise
from langevin.evaluation.clouds import clouds
from langevin.files import write_atomic
from langevin.modalities.files import file_name
from langevin.modalities.modality import Progress
from langevin.recipe.density import ChainConfig, DensityRecipe
from langevin.recipe.read import check_density, read_tree
from langevin.run.display import duration
from langevin.user_function import CodePermission

KEPT = 2**29  # coordinates of all draws together, 4 GB


def run(args: SampleDensity) -> Path:
    """Draw, print the diagnostics, and write the draws.

    Raises:
        ValueError: unusable options, or a density that returns wrong shapes or values."""
    line, begin = LiveLine(), time.perf_counter()
    recipe = plan(args)
    out = args.out or unused(Path(f"{file_name(recipe.name.rpartition('/')[2])}.png"))
    if out.suffix not in (".png", ".npz"):
        raise ValueError(f"draws of a density are written as .npz or plotted as .png, got --out {out}")
    out = require_writable(out, folder=False)
    density = recipe.build(CodePermission.of([args.target], allow=args.allow_code))
    line.say(f"density: {recipe.name}{', ' + recipe.description if recipe.description else ''}")
    points, lines, arrays = draws(recipe, density, args.seed, line.progress("iterations"))
    for text in lines:
        line.say(text)
    keep = torch.arange(min(len(points), args.count)) * len(points) // min(len(points), args.count)
    write(points, points[keep], out, arrays | {"seed": np.int64(args.seed)})
    line.say(f"{min(len(points), args.count)} draws in {duration(time.perf_counter() - begin)}: {out}")
    return out


def plan(args: SampleDensity) -> DensityRecipe:
    """The density's recipe with the options of the command."""
    name = args.target
    if ":" in name:
        if args.dimensions is None:
            raise ValueError(
                f"{name} names a function (module:function), and --dimensions says how many dimensions a state has, as "
                "--dimensions 2; a run is the path of its directory"
            )
        tree = {
            "name": name.rpartition(":")[2],
            "density": {"kind": "function", "function": name},
            "dimensions": args.dimensions,
        }
    else:
        tree = read_tree(name) | ({} if args.dimensions is None else {"dimensions": args.dimensions})
    recipe = check_density(tree, where=name)
    if not 1 <= args.count <= MOST:
        raise ValueError(f"--count must be 1 to {MOST:,}, got {args.count}")
    check_seed(args.seed)
    changes = {"chains": args.chains, "iterations": args.iterations, "method": args.method, "start": args.start}
    chains = replace(recipe.chains, **{k: v for k, v in changes.items() if v is not None})
    kept = chains.chains * (1 if chains.method == "annealed" else min(chains.iterations, 2000)) * recipe.dimensions
    if kept > KEPT or chains.iterations > 10_000_000:
        raise ValueError(
            f"{chains.chains:,} chains of {chains.iterations:,} iterations in {recipe.dimensions} dimensions are too many "
            "to keep: ask for fewer --chains or --iterations"
        )
    if chains.method == "annealed" and args.iterations is not None:
        raise ValueError(
            "annealing has no iterations, so --iterations has no effect: leave it out, or use --method adjusted"
        )
    given = {"box": args.box, "gaussian_envelope": args.gaussian_envelope, "energy": args.energy or None}
    return replace(recipe, chains=chains, **{k: v for k, v in given.items() if v is not None})


def draws(
    recipe: DensityRecipe, density: Density, seed: int, progress: Progress
) -> tuple[Tensor, list[str], dict[str, Any]]:
    """Draws (n, d), lines of diagnostics to print, and further arrays for the .npz file."""
    config = recipe.chains
    seeds = seed + torch.arange(config.chains)
    like = torch.zeros(config.chains, recipe.dimensions, dtype=torch.float64)
    if config.method == "annealed":
        annealed = anneal(
            density, like, start=config.start, seeds=seeds, temperatures=config.temperatures, size=config.size
        )
        text = (
            f"annealed in {config.temperatures} temperatures from N(0, {config.start:g}^2): ln of the integral "
            f"{annealed.log_constant:.3f}, effective sample size {annealed.effective_size:.0f} of {config.chains}"
        )
        if annealed.effective_size < 0.1 * config.chains:
            text += (
                ", which is low: take more temperatures or a wider start, or bound it by --box or --gaussian-envelope "
                "if it has no finite integral"
            )
        return annealed.draws, [text], {"log_weights": annealed.log_weights.numpy()}
    chains = walk(config, density, like, seeds, progress)
    diagnostics = diagnose(chains.draws)
    accepted = float(chains.accepted.mean())
    lines = [
        f"{config.chains} chains of {config.iterations} iterations after {config.warmup}, {accepted:.0%} accepted",
        *diagnostics.lines(),
    ]
    arrays = {"r_hat": np.float64(diagnostics.r_hat), "effective_size": np.float64(diagnostics.effective_size)}
    return (
        chains.draws.flatten(0, 1),
        lines,
        arrays | {"chains": chains.draws.numpy(), "converged": np.bool_(diagnostics.converged)},
    )


def walk(config: ChainConfig, density: Density, like: Tensor, seeds: Tensor, progress: Progress) -> Chains:
    """Run the chains from Gaussian starts, squeezed into the box if there is one."""
    start = config.start * SampleNoise(seeds=seeds, steps=torch.full_like(seeds, -1)).normal(like)
    if density.box is not None:
        low, high = density.box
        middle, half = (low + high) / 2, 0.98 * (high - low) / 2
        start = middle + half * torch.tanh((start - middle) / half)
    move = ULA(size=config.size) if config.method == "unadjusted" else MALA(size=config.size)
    every = max(1, config.iterations // 1000)
    return run_chains(
        density, start, move=move, seeds=seeds, warmup=config.warmup, moves=config.iterations, keep_every=every,
        progress=progress,
    )  # fmt: skip


def write(points: Tensor, kept: Tensor, out: Path, arrays: dict[str, Any]) -> None:
    """Write `kept` and further arrays as .npz, or a scatter plot of all `points` as .png."""
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".npz":
        content = io.BytesIO()
        np.savez_compressed(content, points=kept.numpy(), **arrays)
        write_atomic(out, content.getvalue())
    else:
        write_atomic(out, clouds({"draws": points.float()}))
