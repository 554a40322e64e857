"""The pictures of docs/drift.md: `python benchmarks/drift.py docs/pictures`. Seconds to a minute, no training.

drift-wells.png     the double well's density: simulated, and by Fokker and Planck's equation
drift-flow.png      a mixture in the plane carried to noise by a turning pull, and back by the exact score
drift-field.png     the vector field of the limit cycle, its law at rest and the flow of that law
drift-cycle.png     a blob on the limit cycle: simulated above, the grid below
"""

import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure

from langevin.diffusion.chain.densities import THREE_BUMPS
from langevin.diffusion.fokker_planck import GridBox, fokker_planck, score_on_grid
from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.posterior import Score
from langevin.diffusion.process.sde import SDE, DoubleWell, LimitCycle, OrnsteinUhlenbeck
from langevin.diffusion.sampler import ReverseSDE, UniformTimeGrid, sample, start
from langevin.evaluation.clouds import Curve, lines, plane
from langevin.modalities.points.data import draw, log_density

ROWS = 8000


def states(process, x, t):
    """x_t of every row."""
    rows = torch.arange(len(x))
    return process.corrupt(
        x, torch.full((len(x),), t).double(), SampleNoise(seeds=rows, steps=torch.full_like(rows, 1))
    )


def save(figure, path, dpi=80):
    figure.savefig(path, dpi=dpi)
    print(path, path.stat().st_size // 1024, "kB")


def wells(folder):
    well, times = DoubleWell(), (0.0, 0.1, 0.3, 0.6, 1.0)
    process, x = SDE(drift=well, duration=1.5), draw("two_bumps", ROWS).double()
    box = GridBox(low=-3.2, high=3.2, cells=320)
    p = fokker_planck(well, 1.0, box.density(log_density("two_bumps", box.points)), [1.5 * t for t in times], box=box)
    figure = Figure(figsize=(13, 3.0), layout="constrained")
    for axes, t, density in zip(figure.subplots(1, 5), times, p, strict=True):
        lines(
            axes,
            {"simulated": states(process, x, t).float()},
            curve=Curve(x=box.centres, p=density, label="Fokker-Planck"),
        )
        axes.set(title=f"t = {t:g}", ylabel="", xlim=(-3, 2.2))
        axes.get_legend().remove()
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    save(figure, folder / "drift-wells.png")


def mixture_score(process):
    """The score of the mixture of `toy/mixture` under an affine drift, in closed form."""
    m, s, w = (torch.tensor(v, dtype=torch.float64) for v in (THREE_BUMPS.means, THREE_BUMPS.stds, THREE_BUMPS.weights))

    def denoiser(x, t, condition=None):
        phi, shift, cov = process.kernel.at(t)
        means = torch.einsum("bij,kj->bki", phi, m) + shift[:, None]
        totals = torch.einsum("bij,k,blj->bkil", phi, s * s, phi) + cov[:, None]
        precision = torch.linalg.inv(totals)
        pull = -(precision @ (x[:, None] - means)[..., None])[..., 0]
        fit = w.log() + 0.5 * ((x[:, None] - means) * pull).sum(-1) + 0.5 * torch.linalg.slogdet(precision).logabsdet
        return Score((fit.softmax(1)[..., None] * pull).sum(1))

    return denoiser


def flow(folder):
    times = (0.0, 0.15, 0.3, 0.6, 1.0)
    process = SDE(drift=OrnsteinUhlenbeck(rate=1.0, turn=1.5), diffusion=2**0.5, duration=2.5).with_closed_form(
        torch.zeros(1, 2)
    )
    x = draw("mixture", ROWS).double()
    grid = UniformTimeGrid()(torch.tensor([200]), process.schedule)
    tool, rows = ReverseSDE(), torch.arange(ROWS)
    state = start(tool, process, torch.zeros_like(x), grid.expand(ROWS, -1), rows + 10**6)
    seen = {round(float(state.t[0]), 6): state.x}
    for told in sample(tool, process, mixture_score(process), state):
        seen[round(float(told.t[0]), 6)] = told.x
    figure = Figure(figsize=(12, 4.9), layout="constrained")
    axes = figure.subplots(2, len(times))
    for i, t in enumerate(times):
        plane(axes[0, i], states(process, x, t), reach=3.2, title=f"t = {t:g}")
        plane(axes[1, i], seen[min(seen, key=lambda known, t=t: abs(known - t))], reach=3.2, title="")
    axes[0, 0].set_ylabel("forward: data to noise")
    axes[1, 0].set_ylabel("backward: noise to data")
    save(figure, folder / "drift-flow.png", dpi=64)


def field(folder):
    cycle, box = LimitCycle(), GridBox(low=-2.4, high=2.4, cells=96, dimensions=2)
    rest = fokker_planck(cycle, 0.8, box.density(-box.points.square().sum(1)), [0.0, 10.0], box=box)[1]
    f = cycle(box.points, box.points[:, 0]).reshape(96, 96, 2)
    v = f - 0.5 * 0.8**2 * score_on_grid(rest, box)
    figure = Figure(figsize=(9.6, 5.2), layout="constrained")
    few = slice(4, None, 8)
    for axes, vectors, title in zip(
        figure.subplots(1, 2), (f, v), ("the drift f", "its flow at rest, f - g² score / 2"), strict=True
    ):
        axes.imshow(rest.T, origin="lower", extent=(-2.4, 2.4, -2.4, 2.4), cmap="Blues")
        side = box.centres[few]
        arrows = vectors[few, few].clone()
        arrows /= 1 + arrows.norm(dim=-1, keepdim=True) / 3  # the longest are shown shorter
        axes.quiver(side, side, arrows[..., 0].T, arrows[..., 1].T, color="#8c2f39", angles="xy", width=0.004)
        axes.set(title=title, xlabel="x1", ylabel="x2", aspect="equal")
    save(figure, folder / "drift-field.png")


def cycle(folder):
    times, box = (0.0, 0.25, 0.5, 1.0, 2.0), GridBox(low=-2.4, high=2.4, cells=96, dimensions=2)
    p = fokker_planck(LimitCycle(), 0.8, box.density(log_density("blob", box.points)), times, box=box)
    process, x = SDE(drift=LimitCycle(), diffusion=0.8, duration=2.0, steps=100), draw("blob", 3 * ROWS).double()
    figure = Figure(figsize=(12, 4.9), layout="constrained")
    axes = figure.subplots(2, len(times))
    for i, (t, density) in enumerate(zip(times, p, strict=True)):
        plane(axes[0, i], states(process, x, t / 2), reach=2.4, title=f"time {t:g}")
        axes[1, i].imshow(density.T, origin="lower", extent=(-2.4, 2.4, -2.4, 2.4), cmap="magma")
        axes[1, i].set(xticks=[], yticks=[])
    axes[0, 0].set_ylabel("simulated")
    axes[1, 0].set_ylabel("Fokker-Planck on a grid")
    save(figure, folder / "drift-cycle.png", dpi=64)


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/pictures")
    target.mkdir(parents=True, exist_ok=True)
    for make in (wells, flow, field, cycle):
        make(target)
