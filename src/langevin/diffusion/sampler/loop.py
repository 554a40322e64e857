"""The only sampling loop: ask, tell, yield."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.noise import RowNoise
from langevin.diffusion.process.terms import Process
from langevin.diffusion.sampler.state import Sampler, State
from langevin.diffusion.shape import require_times, some


def start(sampler: Sampler, process: Process, like: Any, times: Tensor, seeds: Tensor) -> State:
    """Rows at the beginning of their grids, drawn from the prior.

    Args:
        sampler: whose memory to set up.
        process: whose prior to draw from.
        like: data of the right shape, type and device, (b, ...) or a mapping.
        times: (b, n + 1) or (b, n + 1, places), float64, falling; see `grid`.
        seeds: (b,) int64, the rows' names: equal seeds give equal samples, in any batch.

    Raises:
        ValueError: times that do not fall, lie outside [0, 1], or do not match the rows.
    """
    b = len(some(like))
    if times.ndim < 2 or len(times) != b or seeds.shape != (b,):
        raise ValueError(
            f"{b} rows need times (b, n + 1) and seeds (b,), got {tuple(times.shape)}, {tuple(seeds.shape)}"
        )
    require_times(times[:, 0], some(like))
    times = times.double()
    if times.shape[1] < 2 or not bool(((times >= 0) & (times <= 1)).all()) or bool((times.diff(dim=1) > 0).any()):
        raise ValueError("times must lie in [0, 1], fall along every row's grid, and make at least one step")
    k = torch.zeros(b, dtype=torch.int64, device=seeds.device)
    t = times[:, 0]
    x = process.prior(like, RowNoise(seeds=seeds, steps=k - 1), t)
    state = State(x=x, t=t, times=times, k=k, seeds=seeds, memory={})
    return State(x=x, t=t, times=times, k=k, seeds=seeds, memory=sampler.memory(state))


def sample(sampler: Sampler, denoiser: Denoiser, state: State, condition: Condition | None = None) -> Iterator[State]:
    """Yield the state after every network call, until all rows are done; the last one holds the samples.

    Rows that are done are not asked again. Gradients are not recorded."""
    while True:
        live = (~state.done).nonzero()[:, 0]
        if len(live) == 0:
            return
        with torch.no_grad():
            if len(live) == len(state.k):
                state = sampler.update(state, denoiser(state.x, state.t, condition))
            else:
                part = state.rows(live)
                told = None if condition is None else condition.rows(live)
                state = state.put(live, sampler.update(part, denoiser(part.x, part.t, told)))
        yield state
