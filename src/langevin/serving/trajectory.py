"""What the engine schedules: samples on their way from noise to data, and single predictions."""

from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.guidance import AnyGuidance, ClassifierFreeGuidance, PromptGuidance, active
from langevin.diffusion.sampler import AnySampler, State
from langevin.diffusion.tiled import tiles_of
from langevin.modalities.modality import Draw, Predict
from langevin.run.begin import Begun, predict
from langevin.run.generate import RunModel
from langevin.serving.fixed import BATCH, fixed
from langevin.serving.ticket import Ticket


@dataclass(eq=False, slots=True, kw_only=True)
class Trajectory:
    """One sample of a `Draw`.

    Args:
        ticket: of the request that it is for.
        index: its index among the samples of the draw.
        key: trajectories of equal keys can share a network call.
        alike: equal for trajectories that also have the sampler and the guidance weights in common.
        state: b = 1.
        condition: b = 1; None for nothing.
        left: function evaluations left.
        inputs: inputs of the network's batch that an evaluation takes; 2 under guidance.
        size: positions of an input, to which its cost is taken to be proportional.
        previews: the numbers of evaluations left at which a preview is wanted.
    """

    ticket: Ticket
    index: int
    model: RunModel
    request: Draw
    sampler: AnySampler
    guidance: tuple[AnyGuidance, ...]
    key: Hashable
    alike: Hashable
    state: State
    condition: Condition | None
    left: int
    inputs: int
    size: int
    previews: frozenset[int] = frozenset()

    @property
    def work(self) -> int:
        """Inputs times positions that are left to evaluate."""
        return self.left * self.inputs * self.size


@dataclass(eq=False, slots=True, kw_only=True)
class Scoring:
    """A `Predict` request, of which some inputs are evaluated at a time."""

    ticket: Ticket
    model: RunModel
    request: Predict
    key: Hashable
    size: int
    parts: list[Tensor] = field(default_factory=list)
    done: int = 0

    @property
    def alike(self) -> Hashable:
        return self.key

    @property
    def inputs(self) -> int:
        """Inputs that are left to evaluate."""
        return len(self.request.x_t) - self.done

    @property
    def left(self) -> int:
        return 1

    def evaluate(self, most: int) -> int:
        """Evaluate the next inputs, `most` at most; their number."""
        most = BATCH if self.ticket.reproducible else most
        index = torch.arange(self.done, min(len(self.request.x_t), self.done + most))
        denoiser = self.model.parts.denoiser
        denoiser = fixed(denoiser) if self.ticket.reproducible else denoiser
        self.parts.append(predict(self.model.built, self.request, index, denoiser))
        self.done += len(index)
        return len(index)

    @property
    def work(self) -> int:
        return self.inputs * self.size


Item = Trajectory | Scoring


def trajectories(ticket: Ticket, model: RunModel, request: Draw, begun: Begun) -> list[Trajectory]:
    """One trajectory per sample of a request."""
    methods = active(request.sampling.guidance)
    condition, state = begun.condition, begun.state
    key = (*_shared_key(ticket, model, request, methods), _form(state.x), _form(state.t))
    if ticket.reproducible:
        key = (*key, _shapes(condition))
    tiles = tiles_of(request.shape, request.tile)
    size = _positions(state.x) if request.tile is None else request.tile**2
    size = size if request.window is None else size * min(request.window, request.shape[1]) // request.shape[1]
    left: list[int] = (state.num_calls - state.call_index).tolist()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return [
        Trajectory(
            ticket=ticket, index=i, model=model, request=request, sampler=begun.sampler, guidance=methods, key=key,
            alike=(key, begun.sampler, methods), state=state.select(slice(i, i + 1)),
            condition=None if condition is None else condition.select(slice(i, i + 1)), left=left[i],
            inputs=(1 + len(methods)) * tiles, size=size, previews=_previews(left[i], ticket.previews),
        )
        for i in range(len(left))
    ]  # fmt: skip


def scoring(ticket: Ticket, model: RunModel, request: Predict) -> Scoring:
    """The item of a `Predict` request."""
    return Scoring(
        ticket=ticket, model=model, request=request, key=("predict", id(request)), size=_positions(request.x_t)
    )


def _shared_key(ticket: Ticket, model: RunModel, request: Draw, methods: tuple[AnyGuidance, ...]) -> tuple[Any, ...]:
    """Model, kind of arithmetic and guidance.

    One method that needs no other model shares a call with its other weights, and with samples without guidance, whose
    weight is 1. More methods, and a wrapped denoiser, have their order, and so a key of their own."""
    plain = all(isinstance(method, ClassifierFreeGuidance | PromptGuidance) for method in methods) and len(methods) < 2
    guidance = () if plain else tuple(replace(method, weight=0.0) for method in methods)
    wrapped = None if request.wrap is None else id(request)
    sampling = request.sampling
    window = None if request.window is None else (request.window, sampling.scheduling.in_progress(sampling.steps))
    return (id(model.built), ticket.reproducible, guidance, wrapped, request.tile, window)


def _form(x: Any) -> Hashable:
    """The shape and type of a sample, or of each part."""
    return (
        (tuple(x.shape[1:]), str(x.dtype))
        if isinstance(x, Tensor)
        else tuple((name, _form(part)) for name, part in x.items())
    )


def _positions(x: Any) -> int:
    """The number of positions of a sample: its numbers without the first dimension, which is channels."""
    if not isinstance(x, Tensor):
        return sum(map(_positions, x.values()))
    return max(1, x[0].numel() // (x.shape[1] if x.is_floating_point() and x.ndim > 2 else 1))


def _shapes(condition: Condition | None) -> Hashable:
    """The shapes of a condition's tensors for one sample: arithmetic may depend on them."""
    found: list[tuple[Any, ...]] = []

    def note(part: Tensor) -> Tensor:
        found.append((tuple(part.shape[1:]), str(part.dtype)))
        return part

    if condition is not None:
        replace(condition, guidance={}).map(note)
    return tuple(found)


def _previews(calls: int, count: int) -> frozenset[int]:
    """`count` numbers of evaluations left, evenly spaced within a trajectory of `calls`."""
    return frozenset(calls - round(calls * (k + 1) / (count + 1)) for k in range(count)) - {0}


__all__ = ["Item", "Scoring", "Trajectory", "scoring", "trajectories"]
