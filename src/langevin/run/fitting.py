"""A solver of a few steps fitted to a run's own model, and compared with others at equal network calls."""

from collections.abc import Callable

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.posterior import Point
from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampler import DDIM, DPM2M, IPNDM, Sampler, sample, start
from langevin.diffusion.sampler.learned import fine_path, fit_solver
from langevin.methods.diffusion import told
from langevin.modalities.image.reader import tell
from langevin.recipe.build import Built, guided, open_data
from langevin.recipe.tree import Sampling
from langevin.run.directory import Run
from langevin.run.measure import what_to_tell
from langevin.run.solvers import Fitted, fingerprint

FIRST = 2**40  # names of trajectories: none that `sample` or `evaluate` draw by
OTHERS = {"ddim": DDIM, "dpm2m": DPM2M, "ipndm": IPNDM}


def condition_of(made: Run, built: Built, rows: int) -> Condition | None:
    """What `rows` rows are told, in the proportions of the training data; None where the network is told nothing.

    Raises:
        ValueError: the data is not that of the run."""
    if not built.recipe.classes and built.recipe.words is None:
        return None
    train, _ = open_data(built.recipe)
    made.require_same(train.fingerprint, len(train))
    labels, captions = what_to_tell(built.recipe, train, rows)
    return tell(labels, captions, built.recipe.words, next(built.network.parameters()).device)


def calls_of(steps: int, fine: int) -> int:
    """Network calls of a fit, for each row."""
    return 2 * (steps * fine + 1) + steps * (2 + len(OTHERS))


def fit(
    built: Built, sampling: Sampling, condition: Condition | None, *, shape: tuple[int, ...], count: int, fine: int = 12,
    seed: int = 0, average: float, step: int, batch: int = 64, progress: Callable[[int, int], None] | None = None,
) -> Fitted:  # fmt: skip
    """A solver of `sampling.steps` steps, with its errors on trajectories that it was not fitted to.

    Args:
        sampling: whose grid and guidance it is to be used with.
        condition: of 2 count rows; every second one is for the comparison.
        shape: of a row.
        average, step: of the weights that `built` holds, to be written down.
        batch: rows at once.
        progress: called with (network calls done, all).

    Raises:
        ValueError: a process that is not Gaussian, or too few or too many steps."""
    process = built.process
    if not isinstance(process, Gaussian):
        raise ValueError("solvers are fitted to a gaussian process; a drift has the samplers reverse and flow")
    if not 2 <= sampling.steps <= 32 or count < 2 or fine < 2:
        raise ValueError(
            f"a fitted solver makes 2 to 32 steps, of 2 or more fine ones, and is fitted to 2 or more trajectories, got "
            f"{sampling.steps}, {fine} and {count}; with more steps `dpm2m` and `unipc` are as good"
        )
    device = next(built.network.parameters()).device
    built.network.eval()
    times = sampling.grid(torch.tensor([sampling.steps]), process.schedule)[0].to(device)
    like = torch.zeros(count, *shape, device=device)
    denoiser = _counted(guided(built, sampling), batch, calls_of(sampling.steps, fine), progress)
    halves = [torch.arange(first, 2 * count, 2, device=device) for first in (0, 1)]
    conditions = [
        None if condition is None else told(condition.rows(half), sampling.guidance, count, device) for half in halves
    ]
    seeds = [FIRST + seed * 2**20 + half for half in halves]
    solver = fit_solver(denoiser, process, like=like, times=times, seeds=seeds[0], condition=conditions[0], fine=fine)
    path = fine_path(denoiser, process, DPM2M(process=process), like, times, seeds[1], conditions[1], fine)
    tools = {"learned": solver, **{name: kind(process=process) for name, kind in OTHERS.items()}}
    errors = {
        name: _distance(tool, denoiser, process, path, times, seeds[1], conditions[1]) for name, tool in tools.items()
    }
    return Fitted(
        solver=solver, guidance=sampling.guidance, interval=sampling.interval, grid=sampling.grid, average=average,
        step=step, weights=fingerprint(built.network), trajectories=count, fine=fine, seed=seed, errors=errors,
    )  # fmt: skip


def _distance(
    tool: Sampler, denoiser: Denoiser, process: Gaussian, path: list[Tensor], times: Tensor, seeds: Tensor,
    condition: Condition | None,
) -> float:  # fmt: skip
    """Root mean square distance from the end of a path, from its beginning."""
    state = start(tool, process, path[0], times.expand(len(seeds), -1), seeds, x=path[0])
    for after in sample(tool, denoiser, state, condition):
        state = after
    return float((state.x - path[-1]).double().square().mean().sqrt())


def _counted(denoiser: Denoiser, batch: int, total: int, progress: Callable[[int, int], None] | None) -> Denoiser:
    """The denoiser asked for `batch` rows at once, its calls counted."""
    done = 0

    def ask(x_t: Tensor, t: Tensor, condition: Condition | None) -> Point:
        nonlocal done
        done += 1
        if progress:
            progress(done, total)
        means: list[Tensor] = []
        for rows in torch.arange(len(x_t), device=x_t.device).split(batch):
            q = denoiser(x_t[rows], t[rows], None if condition is None else condition.rows(rows))
            assert isinstance(q, Point)
            means.append(q.mean)
        return Point(torch.cat(means))

    return ask
