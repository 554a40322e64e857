"""Marginals of an SDE between data and prior: simulated forward, sampled backward, and solved on a grid in 1-D."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from langevin.diffusion.fokker_planck import GridBox, fokker_planck
from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.process import SDE
from langevin.diffusion.process.sde import sliced
from langevin.diffusion.sampler import sample, start
from langevin.diffusion.sampling import Sampling
from langevin.evaluation.clouds import Curve, lines, plane, png
from langevin.methods.models import SDEModel
from langevin.modalities.points.data import log_density

if TYPE_CHECKING:
    from langevin.modalities.points.modality import Points

TIMES = (0.0, 0.1, 0.3, 0.6, 1.0)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """States (n, d) at time t in [0, 1].

    Args:
        forward: the SDE simulated from training data up to t.
        reverse: the sampler's states as they pass t, on their way from the prior.
        forward_gap, reverse_gap: sliced W1 of each to the SDE simulated from validation data.
        floor: sliced W1 between two halves of the latter.
        truth: the density by the Fokker-Planck equation, or None.
    """

    t: float
    forward: Tensor
    reverse: Tensor
    forward_gap: float
    reverse_gap: float
    floor: float
    truth: Curve | None


def along(
    points: "Points",
    model: SDEModel,
    sampling: Sampling,
    x: Tensor,
    val: Tensor,
    *,
    times: tuple[float, ...] = TIMES,
) -> list[Snapshot]:
    """Snapshots at `times`, from encoded training and validation points (n, d)."""
    process = model.process
    count = min(len(x), len(val))
    back, curves = backward(model, sampling, count, x.shape[1], times), on_grid(points, process, times)
    snapshots: list[Snapshot] = []
    for i, t in enumerate(times):
        forward, other = (
            _simulated(process, part[:count].double(), t, first) for first, part in ((0, x), (10**6, val))
        )
        half = count // 2
        snapshots.append(
            Snapshot(
                t=t, forward=forward, reverse=back[i], truth=curves[i], forward_gap=sliced(forward, other),
                reverse_gap=sliced(back[i], other), floor=sliced(other[:half], other[half : 2 * half]),
            )
        )  # fmt: skip
    return snapshots


def _simulated(process: SDE, x: Tensor, t: float, first: int) -> Tensor:
    rows = torch.arange(len(x))
    noise = SampleNoise(seeds=rows + first, steps=torch.full_like(rows, 3))
    return process.corrupt(x, torch.full((len(x),), t, dtype=torch.float64), noise)


def backward(model: SDEModel, sampling: Sampling, count: int, width: int, times: tuple[float, ...]) -> list[Tensor]:
    """States (count, width) of the run's sampler as it passes each of `times`."""
    process, sampler, device = model.process, sampling.sampler, next(model.network.parameters()).device
    grid = sampling.grid(torch.tensor([sampling.steps]), process.schedule)[0]
    added = torch.tensor([t for t in times if t not in grid.tolist()], dtype=torch.float64)
    grid = torch.cat([grid, added]).sort(descending=True).values  # each of the times is a knot
    like, seeds = torch.zeros(count, width, device=device), torch.arange(count, device=device) + 5_000_000
    state = start(sampler, process, like, grid.to(device).expand(count, -1), seeds)
    states = {float(state.t[0]): state.x.cpu()}
    for state in sample(sampler, process, model.denoiser, state):  # noqa: B020
        states[float(state.t[0])] = state.x.cpu()
    return [states[min(states, key=lambda known: abs(known - t))] for t in times]


def on_grid(points: "Points", process: SDE, times: tuple[float, ...]) -> list[Curve | None]:
    """Densities by the Fokker-Planck equation, for a known distribution in one dimension; else None."""
    if points.distribution is None or points.columns != 1 or callable(process.diffusion):
        return [None] * len(times)
    reach = process.clip or 4 * max(process.rms)
    box = GridBox(low=-reach, high=reach, cells=400)
    log_p = log_density(points.distribution, box.points)
    if log_p is None:
        return [None] * len(times)
    p = fokker_planck(
        process.drift, process.diffusion, box.density(log_p), [process.duration * t for t in times], box=box,
        moving=_moves(process, box.points),
    )  # fmt: skip
    return [Curve(x=box.centres, p=q, label="Fokker-Planck") for q in p]


def _moves(process: SDE, x: Tensor) -> bool:
    """Whether the drift depends on time."""
    first, *later = (process.drift(x, x.new_full((len(x),), process.duration * t)) for t in (0.0, 0.4, 0.8, 1.0))
    return not all(torch.equal(first, value) for value in later)


def picture(snapshots: list[Snapshot]) -> bytes:
    """A PNG with one column per time: in 1-D histograms with the grid's density, else forward above backward."""
    from matplotlib.figure import Figure

    n = len(snapshots)
    if snapshots[0].forward.shape[1] == 1:
        figure = Figure(figsize=(2.6 * n, 2.9), layout="constrained")
        axes: Any = figure.subplots(1, n, squeeze=False)[0]
        for panel, shot in zip(axes, snapshots, strict=True):
            lines(panel, {"sampled backward": shot.reverse, "simulated forward": shot.forward}, curve=shot.truth)
            panel.set(title=f"t = {shot.t:g}", ylabel="")
            panel.get_legend().remove()
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
