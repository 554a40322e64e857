"""The state of sampling, as batch-first tensors, and the protocol of a sampler.

A call is one evaluation of the denoiser. Each sample has its own list of call times and its own index into it, so the
samples of a batch may be at any step of trajectories of any length. A state can be sliced, stacked, stored and resumed;
nothing else carries state.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.posterior import Index
from langevin.diffusion.shape import first_leaf, tree_map

Processes = tuple[type[Any], ...]


@dataclass(frozen=True, kw_only=True)
class State:
    """b samples on their way from noise to data.

    Args:
        x: the input of the next call, (b, ...) or a mapping of such.
        t: its time, (b,) or (b, positions), float64; or a mapping of such by part of x.
        times: the times of each sample's calls, then its final time, (b, n + 1) or (b, n + 1, positions), float64; shorter
            lists repeat their last time. Before `begin` these are the grid's times. A mapping where `t` is one.
        call_index: calls made so far (NFE), (b,) int64.
        num_calls: calls to make in all, (b,) int64.
        seeds: (b,) int64, the names of the samples.
        memory: what the sampler carries between steps, batch-first tensors by name. Those whose names start with `grid_`
            are (b, n, ...), one entry per call, and constant.
    """

    x: Any
    t: Any
    times: Any
    call_index: Tensor
    num_calls: Tensor
    seeds: Tensor
    memory: dict[str, Tensor]

    def time(self, ahead: int = 0) -> Any:
        """The time of the call `ahead` of the next one, shaped like `t`; beyond the end the final time."""
        return _times_at(self.times, self.call_index + ahead)

    @property
    def done(self) -> Tensor:
        """(b,) bool: the sample has made all its calls."""
        return self.call_index >= self.num_calls

    def active_samples(self) -> Tensor | None:
        """(m,) int64: the samples that have calls left; None if all have."""
        left: list[int] = (self.num_calls - self.call_index).tolist()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        if min(left, default=0) > 0:
            return None
        return torch.tensor([i for i, n in enumerate(left) if n > 0], dtype=torch.int64, device=self.call_index.device)

    @property
    def noise(self) -> SampleNoise:
        """The noise of the next update."""
        return SampleNoise(seeds=self.seeds, steps=self.call_index)

    def advance(self, x: Any, **memory: Tensor) -> "State":
        """The state after one more call, with new data and with the given entries of `memory` replaced."""
        k = self.call_index + 1
        return State(
            x=x,
            t=_times_at(self.times, k),
            times=self.times,
            call_index=k,
            num_calls=self.num_calls,
            seeds=self.seeds,
            memory={**self.memory, **memory},
        )

    def select(self, index: Index) -> "State":
        """The state of some samples."""

        def take(part: Tensor) -> Tensor:
            if isinstance(index, Tensor) and index.dtype == torch.int64:
                # faster than indexing: it copies whole samples
                return part.index_select(0, index.to(part.device))
            return part[index]

        return State(
            x=tree_map(take, self.x),
            t=tree_map(take, self.t),
            times=tree_map(take, self.times),
            call_index=take(self.call_index),
            num_calls=take(self.num_calls),
            seeds=take(self.seeds),
            memory={name: take(value) for name, value in self.memory.items()},
        )

    def scatter_samples(self, index: Tensor, part: "State") -> "State":
        """This state with its samples `index` (m,) int64 replaced by the m samples of `part`, later on the same calls."""

        def put(full: Tensor, new: Tensor) -> Tensor:
            return full.index_copy(0, index.to(full.device), new)

        return State(
            x=tree_map(put, self.x, part.x),
            t=tree_map(put, self.t, part.t),
            times=self.times,
            call_index=put(self.call_index, part.call_index),
            num_calls=put(self.num_calls, part.num_calls),
            seeds=self.seeds,
            memory={
                name: value if name.startswith("grid_") else put(value, part.memory[name])
                for name, value in self.memory.items()
            },
        )


class Sampler(Protocol):
    """How the denoiser's outputs update a state. A frozen dataclass of its own parameters, without the process."""

    processes: ClassVar[Processes]
    """The classes of process that the sampler is for; `choice.require_fit` rejects others."""

    @property
    def kind(self) -> str:
        """Its name in YAML and on the command line."""
        ...

    @property
    def convergence_order(self) -> int | None:
        """The order in the step size of the error against the probability flow, 1 or more; tests measure it.

        None for a sampler whose limit is not the flow, such as a stochastic one."""
        ...

    def begin(self, state: State, process: Any) -> State:
        """The state with its calls laid out along its grid, and with the memory that `update` needs.

        Args:
            state: b samples at the first time of their grids: `times` is the grid, `call_index` 0, `memory` empty.
            process: one of `processes`.

        Returns:
            the state with `x`, `t`, `times`, `num_calls` and `memory` of the sampler's own calls.

        Raises:
            ValueError: a grid or data that the sampler does not support, such as times per position."""
        ...

    def update(self, state: State, q: Any, process: Any) -> State:
        """The state after one call.

        Args:
            state: as returned by `begin` or `update`; samples may be at different calls.
            q: the denoiser's prediction at (`state.x`, `state.t`), a posterior of b samples, or a `Score` for an SDE.
            process: the one that was passed to `begin`.

        Returns:
            the next state; x has the shape, type and device of `state.x`. Samples that are done are undefined: the loop
            does not update them."""
        ...


def condition_of_step(condition: Condition | None, states: Sequence[State]) -> Condition | None:
    """The condition of the next call of all states together: with the length of each sample's step, where its sampler has
    laid these out for a flow map (`grid_span`, see `diffusion.flow_map`)."""
    if not any("grid_span" in state.memory for state in states):
        return condition
    spans = list[Tensor]()
    for state in states:
        given = state.memory.get("grid_span")
        none = torch.zeros(len(state.call_index), device=state.call_index.device)
        spans.append(none if given is None else gather_per_sample(given, state.call_index).to(none))
    return replace(condition or Condition(), span=torch.cat(spans))


def gather_per_sample(values: Tensor, index: Tensor) -> Tensor:
    """Each sample's entry of `values` (b, n, ...) at its own `index` (b,) int64, clamped to [0, n - 1]: (b, ...).

    Where all samples have the same index the result is a view. Only a CPU checks this: on a GPU it would synchronise.
    Otherwise `gather`, which takes half the time of indexing by (sample, index)."""
    last = values.shape[1] - 1
    indices: list[int] = index.tolist() if index.device.type == "cpu" else []  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if indices and indices.count(indices[0]) == len(indices):
        return values.select(1, max(0, min(indices[0], last)))
    if not indices or min(indices) < 0 or max(indices) > last:
        index = index.clamp(0, last)
    index = index.to(values.device)
    if values.ndim == 2:
        return values.gather(1, index.unsqueeze(1)).squeeze(1)
    flat = values.flatten(2)
    at = index.view(-1, 1, 1).expand(-1, 1, flat.shape[2])
    return flat.gather(1, at).view(len(index), *values.shape[2:])


def _times_at(times: Any, index: Tensor) -> Any:
    """The times of each sample's call `index` (b,), for every part."""

    def at(part: Tensor) -> Tensor:
        return gather_per_sample(part, index)

    return tree_map(at, times)


def lay_out_calls(state: State, times: Tensor, called: Tensor) -> tuple[State, Tensor]:
    """The state with calls at `times` (b, q) or (b, q, positions) where `called` (b, q) holds; its final time stays.

    Returns:
        that state, and (b, m) int64, m <= q: the index among the q of each call.
    """
    end = state.times[:, -1:]
    num_calls, order = called.sum(1), torch.argsort((~called).to(torch.int8), dim=1, stable=True)
    order = order[:, : max(1, int(num_calls.max()))]
    used = torch.arange(order.shape[1], device=order.device) < num_calls[:, None]
    sorted_ = gather_calls(times, order)
    sorted_ = torch.where(used.reshape(used.shape + (1,) * (times.ndim - 2)), sorted_, end)
    times = torch.cat([sorted_, end], 1)
    return replace(state, times=times, t=times[:, 0], num_calls=num_calls), order


def gather_calls(values: Tensor, order: Tensor) -> Tensor:
    """Each sample's entries of `values` (b, q, ...) at the indices `order` (b, m): (b, m, ...)."""
    return torch.take_along_dim(values, order.reshape(order.shape + (1,) * (values.ndim - 2)), 1)


def pad_grid(values: Tensor, length: int) -> Tensor:
    """`values` (b, n, ...) with its last entry repeated up to (b, length, ...)."""
    tail = values[:, -1:].expand(-1, length - values.shape[1], *values.shape[2:])
    return torch.cat([values, tail], 1)


def stack(states: Sequence[State]) -> State:
    """One state of the samples of all `states`, in order, which must be of the same sampler; shorter grids are padded."""
    length = max(first_leaf(s.times).shape[1] for s in states)

    def join(*parts: Tensor) -> Tensor:
        return torch.cat(parts)

    def pad(*parts: Tensor) -> Tensor:
        return torch.cat([pad_grid(part, length) for part in parts])

    def memory(name: str) -> Tensor:
        values = [s.memory[name] for s in states]
        if name.startswith("grid_"):
            longest = max(v.shape[1] for v in values)
            values = [pad_grid(v, longest) for v in values]
        return torch.cat(values)

    return State(
        x=tree_map(join, states[0].x, *(s.x for s in states[1:])),
        t=tree_map(join, states[0].t, *(s.t for s in states[1:])),
        times=tree_map(pad, states[0].times, *(s.times for s in states[1:])),
        call_index=torch.cat([s.call_index for s in states]),
        num_calls=torch.cat([s.num_calls for s in states]),
        seeds=torch.cat([s.seeds for s in states]),
        memory={name: memory(name) for name in states[0].memory},
    )
