"""The sampling loop: evaluate the denoiser, update the state, yield it."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.float64 import float64_device, to_float64
from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.posterior import Prediction
from langevin.diffusion.process.terms import Process
from langevin.diffusion.sampler.choice import require_fit
from langevin.diffusion.sampler.state import Sampler, State, condition_of_step
from langevin.diffusion.shape import Data, first_leaf, leaves, require_times, tree_map


def start(
    sampler: Sampler, process: Process, like: Any, times: Any, seeds: Tensor, *, x: Any = None, clean: Any = None,
    known: Any = None,
) -> State:  # fmt: skip
    """The state of b samples at the first time of their grids.

    Args:
        sampler: the sampler, one that fits the process.
        process: whose prior the samples are drawn from.
        like: data of the right shape, type and device, (b, ...) or a mapping.
        times: the grids, (b, n + 1) or (b, n + 1, positions), float64, falling; a shorter grid repeats its last time.
            Rising times go from data to noise, with a deterministic sampler. For data of parts also a mapping by part.
        seeds: (b,) int64, the names of the samples: equal seeds give equal samples in any batch.
        x: data at the first time, shaped like `like`, in place of a draw from the prior.
        clean: clean data, which the process corrupts to the first time: an example to vary.
        known: bool, shaped like x: the elements that x gives, if it does not give all. The others are drawn from the prior.

    Raises:
        ValueError: the sampler does not fit the process; times that neither fall nor rise, lie outside [0, 1], repeat
            before the end, or do not match `like`; both x and clean.
    """
    require_fit(sampler, process)
    b = len(first_leaf(like))
    for part in leaves(times):
        if part.ndim < 2 or len(part) != b or seeds.shape != (b,):
            raise ValueError(
                f"{b} samples need times (b, n + 1) and seeds (b,), got {tuple(part.shape)}, {tuple(seeds.shape)}"
            )
    host = float64_device(first_leaf(like).device)

    def ready(part: Tensor) -> Tensor:
        return to_float64(part).to(host)

    def beginning(part: Tensor) -> Tensor:
        return part[:, 0]

    times, seeds = tree_map(ready, times), seeds.to(host)
    first: Any = tree_map(beginning, times)
    require_times(first, like)
    flat = _flat(times)
    num_steps = _count_steps(flat)
    if x is not None and clean is not None:
        raise ValueError("start from x, or from clean data that is corrupted: give one of x and clean, not both")
    if bool((flat.diff(dim=1) > 0).any()):
        _require_forward(sampler, flat, x)
    k = torch.zeros(b, dtype=torch.int64, device=seeds.device)
    noise = SampleNoise(seeds=seeds, steps=k - 1)
    if x is None:
        x = process.prior(like, noise, first) if clean is None else process.corrupt(clean, first, noise)
    elif known is not None:
        x = tree_map(torch.where, known, x, process.prior(like, noise, first))
    state = State(x=x, t=first, times=times, call_index=k, num_calls=num_steps, seeds=seeds, memory={})
    return sampler.begin(state, process)


def _flat(times: Data) -> Tensor:
    """The times of all parts as one tensor, (b, n + 1) or (b, n + 1, positions of all parts).

    Raises:
        ValueError: the parts have different numbers of times."""
    if isinstance(times, Tensor):
        return times
    parts = [part.reshape(*part.shape[:2], -1) for part in leaves(times)]
    if len({part.shape[1] for part in parts}) > 1:
        raise ValueError(f"all parts make the same calls, got times {[tuple(part.shape) for part in parts]}")
    return torch.cat(parts, 2)


def _count_steps(times: Tensor) -> Tensor:
    """(b,) int64: the number of steps of each sample before its last time repeats.

    Raises:
        ValueError: see `start`."""
    if times.shape[1] < 2 or not bool(((times >= 0) & (times <= 1)).all()):
        raise ValueError("times must lie in [0, 1] and make at least one step")
    change = times.diff(dim=1)
    falls, rises = (change <= 0).flatten(1).all(1), (change >= 0).flatten(1).all(1)
    if not bool((falls | rises).all()):
        i = int((~(falls | rises)).nonzero()[0, 0])
        raise ValueError(f"the times of sample {i} neither fall nor rise: {times[i]}")
    moves = (change != 0).flatten(2).any(2) if change.ndim > 2 else change != 0
    last = torch.where(moves, torch.arange(1, change.shape[1] + 1, device=times.device), 0).amax(1)
    if bool((moves.sum(1) != last).any()):
        i = int((moves.sum(1) != last).nonzero()[0, 0])
        raise ValueError(f"the times of sample {i} repeat before they end: {times[i]}")
    return last


def _require_forward(sampler: Sampler, times: Tensor, x: Any) -> None:
    """Check that a sampler and start can go from data to noise."""
    if sampler.convergence_order is None:
        raise ValueError(
            f"{type(sampler).__name__} adds noise, and rising times need a deterministic sampler: choose one with a "
            "convergence order, such as ddim"
        )
    if x is None:
        raise ValueError("rising times go from data to noise: give the data as x")
    if not bool((times[:, 0] > 0).all()):
        raise ValueError(
            "rising times must begin above 0, since the flow is singular there: begin at the grid's smallest noise"
        )


def sample(
    sampler: Sampler, process: Process, denoiser: Denoiser[Prediction], state: State, condition: Condition | None = None
) -> Iterator[State]:
    """Yield the state after every evaluation of the denoiser, until all samples are done; the last state holds them.

    The denoiser is not evaluated for samples that are done. Gradients are not recorded.

    Args:
        process: the one that was passed to `start`.
        denoiser: the denoiser, under guidance if any.
        condition: of the b samples.
    """
    while True:
        active = state.active_samples()
        if active is not None and len(active) == 0:
            return
        with torch.no_grad():
            if active is None:
                state = sampler.update(
                    state, denoiser(state.x, state.t, condition_of_step(condition, [state])), process
                )
            else:
                part = state.select(active)
                part_condition = None if condition is None else condition.select(active)
                updated = sampler.update(
                    part, denoiser(part.x, part.t, condition_of_step(part_condition, [part])), process
                )
                state = state.scatter_samples(active, updated)
        yield state
