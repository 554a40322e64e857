"""Requests that are half done, as tensors: kept over a restart, they end in the same bytes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from langevin.diffusion.sampler import State
from langevin.diffusion.shape import tree_map
from langevin.serving.ticket import Ticket
from langevin.serving.trajectory import Item, Scoring, Trajectory

FIELDS = ("x", "t", "times", "call_index", "num_calls", "seeds")


@dataclass(frozen=True, kw_only=True, eq=False)
class Suspended:
    """What was made of a request.

    Args:
        results: of its plan's requests that are done, in order; the plan is advanced to the next one by sending them.
        states: of the samples of the draw under way, by index; a finished one has no evaluations left.
        evaluations: made for all of these, summed over samples.
    """

    results: tuple[Any, ...]
    states: dict[int, State]
    evaluations: int

    def tensors(self) -> dict[str, Tensor]:
        """As named tensors."""
        named = {"evaluations": torch.tensor(self.evaluations)}
        for i, result in enumerate(self.results):
            named |= _named(f"result.{i}", result)
        for i, state in self.states.items():
            for name in FIELDS:
                named |= _named(f"state.{i}.{name}", getattr(state, name))
            named |= {f"state.{i}.memory.{name}": value for name, value in state.memory.items()}
        return {name: value.clone().contiguous() for name, value in named.items()}

    @staticmethod
    def of(tensors: dict[str, Tensor]) -> "Suspended":
        """From named tensors."""
        results, samples = dict[int, dict[str, Tensor]](), dict[int, dict[str, Tensor]]()
        for name, value in tensors.items():
            kind, _, rest = name.partition(".")
            number, _, part = rest.partition(".")
            if kind in ("result", "state"):
                (results if kind == "result" else samples).setdefault(int(number), {})[part] = value
        return Suspended(
            results=tuple(_data("", results[i]) for i in range(len(results))),
            states={i: _state(parts) for i, parts in samples.items()}, evaluations=int(tensors["evaluations"]),
        )  # fmt: skip


def _named(name: str, x: Any) -> dict[str, Tensor]:
    """The tensors of data, with their paths."""
    if isinstance(x, Tensor):
        return {name: x}
    return {path: value for key, part in x.items() for path, value in _named(f"{name}.{key}", part).items()}


def _data(name: str, tensors: dict[str, Tensor]) -> Any:
    """The data that `_named` gave this name; the inverse."""
    if name in tensors:
        return tensors[name]
    found: dict[str, Any] = {}
    for path, value in tensors.items():
        if path.startswith(f"{name}." if name else ""):
            *folders, last = path.removeprefix(f"{name}.").split(".")
            inner = found
            for folder in folders:
                inner = inner.setdefault(folder, {})
            inner[last] = value
    return found


def _state(parts: dict[str, Tensor]) -> State:
    memory = {name.removeprefix("memory."): value for name, value in parts.items() if name.startswith("memory.")}
    return State(memory=memory, **{name: _data(name, parts) for name in FIELDS})


def suspended(items: Sequence[Item], ticket: Ticket) -> Suspended:
    """What has been made of a request, whose unfinished items are given."""
    states = ticket.drawn | {item.index: item.state for item in items if isinstance(item, Trajectory)}
    lost = sum(item.done for item in items if isinstance(item, Scoring))  # predictions in parts begin again
    return Suspended(results=tuple(ticket.results), states=states, evaluations=ticket.evaluations - lost)


def restored(items: Sequence[Trajectory], suspended: Suspended) -> list[Trajectory]:
    """The trajectories of a draw with their suspended states."""
    for item in items:
        state = suspended.states.get(item.index)
        if state is not None:
            item.state = _like(state, item.state)
            item.left = int(state.num_calls[0] - state.call_index[0])
    return list(items)


def _like(state: State, fresh: State) -> State:
    """The state on the devices of a fresh one."""
    x = tree_map(lambda part, like: part.to(like.device), state.x, fresh.x)
    memory = {name: value.to(fresh.memory[name].device) for name, value in state.memory.items()}
    return replace(state, x=x, memory=memory)


def read(path: Path) -> Suspended | None:
    """What a file holds; None if it is not there or damaged, so that the request begins anew."""
    try:
        return Suspended.of(load_file(path))
    except (OSError, SafetensorError, ValueError, KeyError, IndexError):
        return None


__all__ = ["Suspended", "read", "restored"]
