"""A drift's densities on the way between data and prior: simulated forward, sampled backward, and by the grid on a line."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.fokker_planck import GridBox, fokker_planck
from langevin.diffusion.noise import RowNoise
from langevin.diffusion.process import Drift
from langevin.diffusion.process.drift import sliced
from langevin.diffusion.sampler import sample, start
from langevin.modalities.toy import data as toy_data
from langevin.modalities.toy.preview import Curve, lines, plane, png
from langevin.recipe.build import Built
from langevin.recipe.samplers import sampler_of

TIMES = (0.0, 0.1, 0.3, 0.6, 1.0)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """States at the house's t: simulated from training data, and on the way back from the prior.

    Args:
        forward_gap, reverse_gap: sliced W1 of each to the states simulated from held-out data; `floor` is that of two
            halves of these.
        truth: the grid's density, where there is one.
    """

    t: float
    forward: Tensor
    reverse: Tensor
    forward_gap: float
    reverse_gap: float
    floor: float
    truth: Curve | None


def along(built: Built, x: Tensor, held_out: Tensor, *, times: tuple[float, ...] = TIMES) -> list[Snapshot]:
    """Snapshots at `times`, from encoded training and held-out points (n, d)."""
    process: Drift = built.process
    count = min(len(x), len(held_out))
    back, curves = backward(built, count, x.shape[1], times), on_grid(built, times)
    found: list[Snapshot] = []
    for i, t in enumerate(times):
        forward, other = (
            _simulated(process, part[:count].double(), t, first) for first, part in ((0, x), (10**6, held_out))
        )
        half = count // 2
        found.append(
            Snapshot(
                t=t, forward=forward, reverse=back[i], truth=curves[i], forward_gap=sliced(forward, other),
                reverse_gap=sliced(back[i], other), floor=sliced(other[:half], other[half : 2 * half]),
            )
        )  # fmt: skip
    return found


def _simulated(process: Drift, x: Tensor, t: float, first: int) -> Tensor:
    rows = torch.arange(len(x))
    noise = RowNoise(seeds=rows + first, steps=torch.full_like(rows, 3))
    return process.corrupt(x, torch.full((len(x),), t, dtype=torch.float64), noise)


def backward(built: Built, count: int, width: int, times: tuple[float, ...]) -> list[Tensor]:
    """(count, width) states of the run's own sampler as it passes each of `times`."""
    sampling, process = built.recipe.sampling, built.process
    sampler = sampler_of(built.process, sampling)
    grid = sampling.grid(torch.tensor([sampling.steps]), process.schedule)[0]
    seen = torch.tensor([t for t in times if t not in grid.tolist()], dtype=torch.float64)
    grid = torch.cat([grid, seen]).sort(descending=True).values  # each of the times is a knot
    state = start(sampler, process, torch.zeros(count, width), grid.expand(count, -1), torch.arange(count) + 5_000_000)
    states = {float(state.t[0]): state.x}
    for state in sample(sampler, built.denoiser, state):  # noqa: B020
        states[float(state.t[0])] = state.x
    return [states[min(states, key=lambda known: abs(known - t))] for t in times]


def on_grid(built: Built, times: tuple[float, ...]) -> list[Curve | None]:
    """Densities by Fokker and Planck's equation, on a line from a law that is known; else None."""
    recipe, process = built.recipe, built.process
    if (
        not isinstance(recipe.data, toy_data.Toy)
        or recipe.network.kind != "mlp"
        or recipe.network.channels != 1
        or callable(process.g)
    ):
        return [None] * len(times)
    reach = process.reach or 4 * max(process.spreads)
    box = GridBox(low=-reach, high=reach, cells=400)
    log_p = toy_data.log_density(recipe.data.law, box.points)
    if log_p is None:
        return [None] * len(times)
    p = fokker_planck(
        process.f, process.g, box.density(log_p), [process.horizon * t for t in times], box=box,
        moving=recipe.process.kind == "drift" and recipe.process.end == "blend",
    )  # fmt: skip
    return [Curve(x=box.centres, p=q, label="Fokker-Planck") for q in p]


def picture(built: Built, snapshots: list[Snapshot]) -> bytes:
    """One column a time: densities on a line with the grid's over them, or forward above backward in the plane."""
    from matplotlib.figure import Figure

    n = len(snapshots)
    if snapshots[0].forward.shape[1] == 1:
        figure = Figure(figsize=(2.6 * n, 2.9), layout="constrained")
        axes: Any = figure.subplots(1, n, squeeze=False)[0]
        for place, shot in zip(axes, snapshots, strict=True):
            lines(place, {"sampled backward": shot.reverse, "simulated forward": shot.forward}, curve=shot.truth)
            place.set(title=f"t = {shot.t:g}", ylabel="")
            place.get_legend().remove()
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
        return png(figure)
    figure = Figure(figsize=(2.4 * n, 5.0), layout="constrained")
    grid: Any = figure.subplots(2, n, squeeze=False)
    reach = 1.1 * max(float(shot.forward[:, :2].abs().quantile(0.998)) for shot in snapshots)
    for i, shot in enumerate(snapshots):
        plane(grid[0, i], shot.forward, reach=reach, title=f"t = {shot.t:g}")
        plane(grid[1, i], shot.reverse, reach=reach, title="")
    grid[0, 0].set_ylabel("simulated forward")
    grid[1, 0].set_ylabel("sampled backward")
    return png(figure)
