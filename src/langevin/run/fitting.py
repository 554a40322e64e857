"""Fitting a few-step solver to a run's own model, and its error next to other samplers at equal NFE."""

from collections.abc import Callable

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.float64 import float64_device, to_float64
from langevin.diffusion.guidance import active, weighted
from langevin.diffusion.posterior import Point
from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampler import DDIM, DPM2M, IPNDM, Sampler, sample, start
from langevin.diffusion.sampler.fitted import fine_path, fit_solver
from langevin.diffusion.sampling import Sampling
from langevin.modalities.modality import Draw, RequestContext
from langevin.recipe.build import Built, guided
from langevin.run.directory import Run
from langevin.run.generate import RunModel
from langevin.run.solvers import Fitted, fingerprint

FIRST = 2**40  # first seed of trajectories, beyond the seeds of `sample` and `evaluate`
OTHERS: dict[str, Sampler] = {"ddim": DDIM(), "dpm2m": DPM2M(), "ipndm": IPNDM()}


def request_of(run: Run, model: RunModel, count: int) -> Draw:
    """The request for `count` samples, with conditions in the proportions of the training data.

    Raises:
        ValueError: the data is not that of the run, or its samples take more than one draw from noise, as in buckets."""
    train, val = run.open_data()
    plan = run.recipe.data.plan_like(train, RequestContext(model=model, data=lambda: (train, val), count=count))
    request = next(plan)
    if not isinstance(request, Draw) or request.x is not None or len(request.seeds) < count:
        raise ValueError("solvers are fitted only to runs whose samples are a single draw from noise, of one shape")
    return request


def nfe_of(steps: int, fine: int) -> int:
    """Function evaluations of a fit per trajectory."""
    return 2 * (steps * fine + 1) + steps * (2 + len(OTHERS))


def fit(
    built: Built, sampling: Sampling, condition: Condition | None, *, shape: tuple[int, ...], count: int, fine: int = 12,
    seed: int = 0, ema: float, step: int, batch: int = 64, progress: Callable[[int, int], None] | None = None,
) -> Fitted:  # fmt: skip
    """Fit a solver of `sampling.steps` steps, and measure its error on trajectories that it was not fitted to.

    Args:
        sampling: grid, guidance and number of steps that the solver is for.
        condition: of 2 count samples; every second one is for measuring the error.
        shape: of one sample.
        count: trajectories to fit to, and as many to measure on.
        fine: steps of the reference solver per step of the fitted one.
        ema, step: EMA length and training step of the weights of `built`, to be recorded.
        batch: trajectories per batch.
        progress: called with (function evaluations done, all).

    Raises:
        ValueError: a process that is not Gaussian, or too few or too many steps."""
    process = built.model.process
    if not isinstance(process, Gaussian):
        raise ValueError("solvers are fitted to runs of a gaussian process only; an SDE is sampled by reverse and flow")
    if not 2 <= sampling.steps <= 32 or count < 2 or fine < 2:
        raise ValueError(
            f"a fitted solver has 2 to 32 steps, at least 2 reference steps for each and at least 2 trajectories, got "
            f"{sampling.steps}, {fine} and {count}; with more steps use `dpm2m` or `unipc`, which are as good"
        )
    device = built.device
    built.model.network.eval()
    times = sampling.grid(torch.tensor([sampling.steps]), process.schedule)[0].to(float64_device(device))
    like = torch.zeros(count, *shape, device=device)
    denoiser = _counted(guided(built, sampling), batch, nfe_of(sampling.steps, fine), progress)
    halves = [torch.arange(first, 2 * count, 2) for first in (0, 1)]
    conditions = [
        weighted(None if condition is None else condition.select(half).to(device), sampling.guidance, count, device)
        for half in halves
    ]
    seeds = [FIRST + seed * 2**20 + half for half in halves]
    solver = fit_solver(denoiser, process, like=like, times=times, seeds=seeds[0], condition=conditions[0], fine=fine)
    path = fine_path(denoiser, process, DPM2M(), like, times, seeds[1], conditions[1], fine)
    samplers: dict[str, Sampler] = {"learned": solver, **OTHERS}
    errors = {
        name: _distance(sampler, denoiser, process, path, times, seeds[1], conditions[1])
        for name, sampler in samplers.items()
    }
    return Fitted(
        solver=solver, process=process, guidance=active(sampling.guidance), grid=sampling.grid,
        ema=ema, step=step, weights=fingerprint(built.model.network), trajectories=count, fine=fine, seed=seed,
        errors=errors,
    )  # fmt: skip


def _distance(
    sampler: Sampler, denoiser: Denoiser, process: Gaussian, path: list[Tensor], times: Tensor, seeds: Tensor,
    condition: Condition | None,
) -> float:  # fmt: skip
    """Root mean square distance of the sampler's end points from those of a path with the same initial states."""
    state = start(sampler, process, path[0], times.expand(len(seeds), -1), seeds, x=path[0])
    for after in sample(sampler, process, denoiser, state, condition):
        state = after
    return float(to_float64(state.x - path[-1]).square().mean().sqrt())


def _counted(denoiser: Denoiser, batch: int, total: int, progress: Callable[[int, int], None] | None) -> Denoiser:
    """The denoiser in batches of at most `batch` samples, which counts its evaluations."""
    done = 0

    def evaluate(x_t: Tensor, t: Tensor, condition: Condition | None) -> Point:
        nonlocal done
        done += 1
        if progress:
            progress(done, total)
        means: list[Tensor] = []
        for index in torch.arange(len(x_t), device=t.device).split(batch):
            q = denoiser(x_t[index], t[index], None if condition is None else condition.select(index))
            assert isinstance(q, Point)
            means.append(q.mean)
        return Point(torch.cat(means))

    return evaluate
