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


def start(
    sampler: Sampler, process: Process, like: Any, times: Tensor, seeds: Tensor, *, x: Any = None, clean: Any = None
) -> State:
    """Rows at the beginning of their grids: drawn from the prior, or given.

    Args:
        sampler: that lays out the questions.
        process: whose prior to draw from.
        like: data of the right shape, type and device, (b, ...) or a mapping.
        times: (b, n + 1) or (b, n + 1, places), float64, falling until each row's last time, which may be repeated; or
            rising, for a sampler that follows the flow: from data to noise.
        seeds: (b,) int64, the rows' names: equal seeds give equal samples, in any batch.
        x: data at the first time, shaped like `like`, instead of a draw from the prior.
        clean: data to begin from as the process corrupts it at the first time: an example to vary.

    Raises:
        ValueError: times that neither fall nor rise, lie outside [0, 1], repeat before the end, or do not match the rows;
            both x and clean.
    """
    b = len(some(like))
    if times.ndim < 2 or len(times) != b or seeds.shape != (b,):
        raise ValueError(
            f"{b} rows need times (b, n + 1) and seeds (b,), got {tuple(times.shape)}, {tuple(seeds.shape)}"
        )
    require_times(times[:, 0], some(like))
    times = times.double()
    last = _count(times)
    if x is not None and clean is not None:
        raise ValueError("a start is either given as x or corrupted from clean data, not both")
    if bool((times.diff(dim=1) > 0).any()):
        _require_forward(sampler, times, x)
    k, t = torch.zeros(b, dtype=torch.int64, device=seeds.device), times[:, 0]
    noise = RowNoise(seeds=seeds, steps=k - 1)
    if x is None:
        x = process.prior(like, noise, t) if clean is None else process.corrupt(clean, t, noise)
    return sampler.begin(State(x=x, t=t, times=times, k=k, last=last, seeds=seeds, memory={}))


def _count(times: Tensor) -> Tensor:
    """(b,) int64: the steps of each row before it repeats its last time.

    Raises:
        ValueError: see `start`."""
    if times.shape[1] < 2 or not bool(((times >= 0) & (times <= 1)).all()):
        raise ValueError("times must lie in [0, 1] and make at least one step")
    change = times.diff(dim=1)
    falls, rises = (change <= 0).flatten(1).all(1), (change >= 0).flatten(1).all(1)
    if not bool((falls | rises).all()):
        row = int((~(falls | rises)).nonzero()[0, 0])
        raise ValueError(f"the times of row {row} neither fall nor rise: {times[row]}")
    moves = (change != 0).flatten(2).any(2) if change.ndim > 2 else change != 0
    last = torch.where(moves, torch.arange(1, change.shape[1] + 1, device=times.device), 0).amax(1)
    if bool((moves.sum(1) != last).any()):
        row = int((moves.sum(1) != last).nonzero()[0, 0])
        raise ValueError(f"the times of row {row} repeat before they end: {times[row]}")
    return last


def _require_forward(sampler: Sampler, times: Tensor, x: Any) -> None:
    """What going from data to noise takes."""
    if sampler.order is None:
        raise ValueError(
            f"{type(sampler).__name__} adds noise, and rising times follow the flow: choose one with an order"
        )
    if x is None:
        raise ValueError("rising times go from data to noise: give the data as x")
    if not bool((times[:, 0] > 0).all()):
        raise ValueError(
            "rising times begin above 0, where the flow has no direction yet: at the grid's smallest noise"
        )


def sample(sampler: Sampler, denoiser: Denoiser, state: State, condition: Condition | None = None) -> Iterator[State]:
    """Yield the state after every network call, until all rows are done; the last one holds the samples.

    Rows that are done are not asked again. Gradients are not recorded."""
    while True:
        live = state.live()
        if live is not None and len(live) == 0:
            return
        with torch.no_grad():
            if live is None:
                state = sampler.update(state, denoiser(state.x, state.t, condition))
            else:
                part = state.rows(live)
                told = None if condition is None else condition.rows(live)
                state = state.put(live, sampler.update(part, denoiser(part.x, part.t, told)))
        yield state
