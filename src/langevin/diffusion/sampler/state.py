"""Everything that sampling knows, as batch-first tensors.

Each row has its own list of questions (the times at which its denoiser is asked) and its own place k on it, so rows of one
batch may be anywhere in trajectories of any length. A state can be sliced, stacked, stored and resumed; nothing else holds
any.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from langevin.diffusion.noise import RowNoise
from langevin.diffusion.posterior import Index
from langevin.diffusion.shape import each


@dataclass(frozen=True, kw_only=True)
class State:
    """b rows on their way from noise to data.

    Args:
        x: the question's data, (b, ...) or a mapping of such.
        t: the question's time, (b,) or (b, places), float64.
        times: of each row's questions, then the time it ends at, (b, n + 1) or (b, n + 1, places), float64; shorter rows
            repeat their last time. A grid's times to begin with; a sampler that asks in between puts its own.
        k: how many questions the row has been answered, (b,) int64.
        last: how many it asks in all, (b,) int64.
        seeds: (b,) int64, the names of the rows' noise.
        memory: what the sampler carries from step to step, batch-first tensors by name; those whose names start with
            `grid_` run along the grid and never change.
    """

    x: Any
    t: Tensor
    times: Tensor
    k: Tensor
    last: Tensor
    seeds: Tensor
    memory: dict[str, Tensor]

    def time(self, ahead: int = 0) -> Tensor:
        """The time `ahead` of the row's place, (b,) or (b, places); the last one beyond the end."""
        return pick(self.times, self.k + ahead)

    @property
    def done(self) -> Tensor:
        """(b,) bool: the row has nothing more to ask."""
        return self.k >= self.last

    def live(self) -> Tensor | None:
        """(rows,) int64: those that have something to ask; None if all of them have."""
        left: list[int] = (self.last - self.k).tolist()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        if min(left, default=0) > 0:
            return None
        return torch.tensor([i for i, n in enumerate(left) if n > 0], dtype=torch.int64, device=self.k.device)

    @property
    def noise(self) -> RowNoise:
        """The randomness of the step that is due."""
        return RowNoise(seeds=self.seeds, steps=self.k)

    def advance(self, x: Any, **memory: Tensor) -> "State":
        """One question further, with new data; `memory` replaces what it names."""
        k = self.k + 1
        memory = {**self.memory, **memory}
        return State(x=x, t=pick(self.times, k), times=self.times, k=k, last=self.last, seeds=self.seeds, memory=memory)

    def rows(self, index: Index) -> "State":
        """The state of some rows."""

        def take(part: Tensor) -> Tensor:
            if isinstance(index, Tensor) and index.dtype == torch.int64:
                return part.index_select(0, index)  # moves whole rows, where indexing goes number by number
            return part[index]

        return State(
            x=each(take, self.x),
            t=take(self.t),
            times=take(self.times),
            k=take(self.k),
            last=take(self.last),
            seeds=take(self.seeds),
            memory={name: take(value) for name, value in self.memory.items()},
        )

    def put(self, index: Tensor, part: "State") -> "State":
        """This state with the rows `index` (int64) replaced by those of `part`, moved along the same questions."""

        def place(full: Tensor, new: Tensor) -> Tensor:
            return full.index_copy(0, index, new)

        return State(
            x=each(place, self.x, part.x),
            t=place(self.t, part.t),
            times=self.times,
            k=place(self.k, part.k),
            last=place(self.last, part.last),
            seeds=self.seeds,
            memory={
                name: value if name.startswith("grid_") else place(value, part.memory[name])
                for name, value in self.memory.items()
            },
        )


def pick(values: Tensor, index: Tensor) -> Tensor:
    """Each row's entry of `values` (b, n, ...) at its own `index` (b,) int64, beyond the ends that of the end: (b, ...).

    Rows that began together are all at one place, which on a CPU is seen for nothing and makes it a view; a GPU would have
    to be waited for. Otherwise gathered, which costs half of indexing by (row, index)."""
    last = values.shape[1] - 1
    places: list[int] = index.tolist() if index.device.type == "cpu" else []  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if places and places.count(places[0]) == len(places):
        return values.select(1, max(0, min(places[0], last)))
    if not places or min(places) < 0 or max(places) > last:
        index = index.clamp(0, last)
    if values.ndim == 2:
        return values.gather(1, index.unsqueeze(1)).squeeze(1)
    flat = values.flatten(2)
    at = index.view(-1, 1, 1).expand(-1, 1, flat.shape[2])
    return flat.gather(1, at).view(len(index), *values.shape[2:])


def ask(state: State, times: Tensor, asked: Tensor) -> tuple[State, Tensor]:
    """The state with questions at `times` (b, q) or (b, q, places) where `asked` (b, q) holds, ending where it would have.

    Returns:
        that state, and (b, at most q) int64: which of the q each of its questions is.
    """
    end = state.times[:, -1:]
    last, order = asked.sum(1), torch.argsort((~asked).to(torch.int8), dim=1, stable=True)
    order = order[:, : max(1, int(last.max()))]
    there = torch.arange(order.shape[1], device=order.device) < last[:, None]
    sorted_ = in_order(times, order)
    sorted_ = torch.where(there.reshape(there.shape + (1,) * (times.ndim - 2)), sorted_, end)
    times = torch.cat([sorted_, end], 1)
    return replace(state, times=times, t=times[:, 0], last=last), order


def in_order(values: Tensor, order: Tensor) -> Tensor:
    """Each row's entries of `values` (b, q, ...) at `order` (b, m)."""
    return torch.take_along_dim(values, order.reshape(order.shape + (1,) * (values.ndim - 2)), 1)


def pad_grid(values: Tensor, length: int) -> Tensor:
    """`values` (b, n, ...) with its last entry repeated up to (b, length, ...)."""
    tail = values[:, -1:].expand(-1, length - values.shape[1], *values.shape[2:])
    return torch.cat([values, tail], 1)


def stack(states: Sequence[State]) -> State:
    """One state of all rows, in order; grids of different lengths are padded. All must be of one sampler kind.

    Memory whose name starts with `grid_` runs along the grid and is padded with it."""
    length = max(s.times.shape[1] for s in states)

    def memory(name: str) -> Tensor:
        values = [s.memory[name] for s in states]
        if name.startswith("grid_"):
            longest = max(v.shape[1] for v in values)
            values = [pad_grid(v, longest) for v in values]
        return torch.cat(values)

    return State(
        x=each(lambda *parts: torch.cat(parts), states[0].x, *(s.x for s in states[1:])),
        t=torch.cat([s.t for s in states]),
        times=torch.cat([pad_grid(s.times, length) for s in states]),
        k=torch.cat([s.k for s in states]),
        last=torch.cat([s.last for s in states]),
        seeds=torch.cat([s.seeds for s in states]),
        memory={name: memory(name) for name in states[0].memory},
    )


class Sampler(Protocol):
    """How the answer to a question moves the state.

    `order` is the order of convergence to the probability flow (None for a sampler whose limit is not a flow), declared
    here and measured by a law. `begin` takes rows at the first time of their grids, and lays out their questions and what
    is remembered."""

    @property
    def order(self) -> int | None: ...
    def begin(self, state: State) -> State: ...
    def update(self, state: State, q: Any) -> State: ...
