"""The samples of a network call, stacked. They stay stacked for as long as the next call has the same samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition, join
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.guidance import guide
from langevin.diffusion.posterior import Point, Prediction
from langevin.diffusion.sampler import AnySampler, State
from langevin.diffusion.sampler.state import condition_of_step, stack
from langevin.diffusion.shape import first_leaf, tree_map
from langevin.run.begin import tiled, windowed
from langevin.run.generate import RunModel, rescaled
from langevin.serving.fixed import fixed
from langevin.serving.trajectory import Trajectory


@dataclass(eq=False, slots=True, kw_only=True)
class Part:
    """The samples of one sampler; `members` is empty in none."""

    sampler: AnySampler
    members: list[Trajectory]
    state: State


class Batch:
    """Trajectories of one key, which one network call evaluates.

    Args:
        trajectories: one or more. Their own `state` is out of date until `unstack`.
    """

    def __init__(self, trajectories: Sequence[Trajectory]) -> None:
        by_sampler = dict[AnySampler, list[Trajectory]]()
        for one in trajectories:
            by_sampler.setdefault(one.sampler, []).append(one)
        self.parts = [
            Part(sampler=sampler, members=members, state=stack([one.state for one in members]))
            for sampler, members in by_sampler.items()
        ]
        self.members = [one for part in self.parts for one in part.members]
        self.same = frozenset(map(id, self.members))
        conditions = [one.condition for one in self.members]
        self.condition: Condition | None = None
        if any(condition is not None for condition in conditions):
            self.condition = join(*(c or Condition() for c in conditions), counts=[1] * len(conditions))
        self.model = self.members[0].model
        self.denoiser = denoiser_of(self.members)

    @property
    def positions(self) -> int:
        """Inputs times positions, by which a call is counted."""
        return sum(one.inputs * one.size for one in self.members)

    def step(self) -> Prediction:
        """Evaluate the network, and update every sample by its own sampler; returns the prediction, in member order."""
        states = [part.state for part in self.parts]
        process: Any = self.model.parts.process
        with torch.no_grad():
            x = states[0].x if len(states) == 1 else tree_map(lambda *x: torch.cat(x), *(state.x for state in states))
            t = tree_map(lambda *t: torch.cat(t), *(state.t for state in states))
            q = self.denoiser(x, t, condition_of_step(self.condition, states))
            first = 0
            for part in self.parts:
                mine = q if len(self.parts) == 1 else q.select(slice(first, first + len(part.members)))
                part.state = part.sampler.update(part.state, mine, process)
                left: list[int] = (part.state.num_calls - part.state.call_index).tolist()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
                for one, count in zip(part.members, left, strict=True):
                    one.left = count
                first += len(part.members)
        return q

    def state_of(self, trajectory: Trajectory) -> State:
        """The state of one of its samples, b = 1."""
        for part in self.parts:
            for i, one in enumerate(part.members):
                if one is trajectory:
                    return part.state.select(slice(i, i + 1))
        raise KeyError("the trajectory is in another batch")

    def unstack(self) -> None:
        """Give every trajectory its state back."""
        for part in self.parts:
            for i, one in enumerate(part.members):
                one.state = part.state.select(slice(i, i + 1))

    def finite(self, q: Prediction) -> list[bool]:
        """Whether each sample is finite; the check of all at once is cheap, and mostly enough."""
        watched = [watched_values(q), *(first_leaf(part.state.x) for part in self.parts)]
        if all(bool(torch.isfinite(part.sum()) | (part.sum() == -torch.inf)) for part in watched):
            return [True] * len(self.members)
        found = list[bool]()
        for i, one in enumerate(self.members):
            values = (watched_values(q.select(slice(i, i + 1))), first_leaf(self.state_of(one).x))
            found.append(not any(bool((part.isnan() | (part == torch.inf)).any()) for part in values))
        return found


def watched_values(q: Any) -> Tensor:
    """The numbers of a prediction that show whether it is sound."""
    for name in ("mean", "score", "logits"):
        if hasattr(q, name):
            return getattr(q, name)
    return torch.cat([watched_values(part).flatten() for part in q.parts.values()])


def denoiser_of(members: Sequence[Trajectory]) -> Denoiser[Any]:
    """The denoiser with every guidance method of the members; weights are in their conditions."""
    first = members[0]
    built = first.model.built
    methods = {method.kind: method for one in members for method in one.guidance}
    denoiser: Denoiser[Any] = built.model.denoiser
    if first.ticket.reproducible:
        denoiser = fixed(denoiser)
    denoiser = guide(
        tiled(denoiser, first.request), tuple(methods.values()), process=built.model.process, models=built.models
    )
    denoiser = windowed(denoiser, first.request)
    return denoiser if first.request.wrap is None else first.request.wrap(denoiser)


def estimate(model: RunModel, state: State, q: Any) -> Any:
    """The denoiser's estimate of the clean sample, for a preview; for tokens and scores the state itself."""
    return q.mean.cpu() if isinstance(q, Point) else rescaled(model, state)
