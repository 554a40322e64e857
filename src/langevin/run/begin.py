"""The samples of a request before their first function evaluation: sampler, state, condition and guidance."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition, KVCache
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.features import Features
from langevin.diffusion.float64 import float64_device
from langevin.diffusion.guidance import (
    Autoguidance,
    Box,
    ClassifierFreeGuidance,
    PartsGuidance,
    ProjectedGuidance,
    RescaledGuidance,
    ZeroStarGuidance,
    active,
    guide,
    weighted,
)
from langevin.diffusion.posterior import Point
from langevin.diffusion.process import Gaussian
from langevin.diffusion.reuse import Reusing
from langevin.diffusion.sampler import AncestralUnmask, AnySampler, State, UnmaskGrid, start
from langevin.diffusion.sampler.scheduling import FullSequence, times_per_frame
from langevin.diffusion.sampling import Sampling
from langevin.diffusion.shape import tree_map
from langevin.diffusion.tiled import Tiled
from langevin.diffusion.windowed import Windowed
from langevin.methods.models import JointModel, TokenModel
from langevin.modalities.modality import Draw, Predict
from langevin.networks.activations import activations
from langevin.recipe.build import Built
from langevin.recipe.sampling import describe, sampler_of
from langevin.recipe.tree import require_flow
from langevin.safety.watermark import keyed


@dataclass(frozen=True, kw_only=True)
class Begun:
    """m samples of a `Draw` at the start of their trajectories.

    Args:
        condition: on the model's device, with the guidance weights of the request.
        prefix: tokens before x with their keys and values, for the next request of the same samples; None without.
    """

    sampler: AnySampler
    state: State
    condition: Condition | None
    prefix: "Prefix | None" = None


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """Tokens (m, n) that m samples begin with, and their keys and values; None of no tokens."""

    tokens: Tensor
    cache: KVCache | None

    def shared_with(self, tokens: Tensor) -> "Prefix":
        """This prefix if `tokens` (m, k) begin with it, else the empty one."""
        if len(self.tokens) == len(tokens) and torch.equal(self.tokens, tokens[:, : self.tokens.shape[1]]):
            return self
        return Prefix(tokens=tokens[:, :0], cache=None)


def begin(built: Built, request: Draw, index: Tensor, prefix: Prefix | None = None) -> Begun:
    """The samples of a request with the indices `index` (m,) int64.

    Args:
        prefix: of the same samples in an earlier request, whose keys and values are used again.

    Raises:
        ValueError: a sampler or a grid that is not for the model."""
    parts, sampling = built.model, request.sampling
    sampler = sampler_of(parts.process, sampling, built.learned)
    require_flow(built.recipe.method, sampler)
    measured = request.condition is not None and request.condition.measurement is not None
    if measured and getattr(built.recipe.method, "coupling", None) is not None:
        raise ValueError("a measurement needs the score of x_t, and a run with method.coupling has learned a flow only")
    if isinstance(parts, TokenModel) and parts.autoregressive:
        require_left_to_right(sampler)
    times = grid_of(built, request, index)
    if isinstance(parts, TokenModel):
        like: Any = torch.zeros(len(index), *request.shape, dtype=torch.int64, device=built.device)
    else:
        like = _like(built, request, len(index))
        for name in request.withheld:
            times = {**times, name: times[name][:, :1].expand_as(times[name])}

    def here(part: Tensor) -> Tensor:
        return part[index].to(built.device)

    x, clean, known = (None if p is None else tree_map(here, p) for p in (request.x, request.clean, request.known))
    if request.known is not None and isinstance(parts, TokenModel | JointModel):
        times = tree_map(lambda t, at: known_from_the_start(t, at[index]), times, request.known)
    condition = None if request.condition is None else request.condition.select(index).to(built.device)
    condition = weighted(condition, sampling.guidance, len(index), built.device)
    if isinstance(getattr(parts.denoiser, "network", None), Reusing):
        require_reusable(request)
        condition = replace(condition or Condition(), features=Features.of(len(index)))
    if request.prefix is not None and request.prefix.shape[1]:
        prefix = extended(built, request.prefix[index], prefix)
        condition = replace(condition or Condition(), cache=prefix.cache)
    seeds = request.seeds[index] if built.key is None else keyed(request.seeds[index], built.key)
    given = known if isinstance(parts, JointModel) else None
    state = start(sampler, parts.process, like, times, seeds, x=x, clean=clean, known=given)
    return Begun(sampler=sampler, state=state, condition=condition, prefix=prefix)


def grid_of(built: Built, request: Draw, index: Tensor) -> Any:
    """The times (m, n + 1), or per position or part, of a request's samples `index`, less the steps that it skips.

    Raises:
        ValueError: no step is left, or a grid that is not for the model."""
    parts, sampling = built.model, request.sampling
    steps = torch.full((len(index),), sampling.steps)
    times: Any
    if isinstance(parts, TokenModel):
        times = unmasking_grid(sampling)(steps)
    else:
        times = sampling.grid(steps, parts.process.schedule)
        times = times.flip(1) if request.rising else times
        times = parts.warps(times) if isinstance(parts, JointModel) else per_frame(request, index, times, steps)
    if not 0 <= request.skip < sampling.steps:
        raise ValueError(f"of {sampling.steps} steps at least one is left, and {request.skip} are skipped")
    return tree_map(lambda t: t[:, request.skip :], times)


REUSED = (
    ClassifierFreeGuidance,
    ProjectedGuidance,
    RescaledGuidance,
    ZeroStarGuidance,
    PartsGuidance,
    Autoguidance,
    Box,
)


def require_reusable(request: Draw) -> None:
    """Check that features of one evaluation can be used again in the next. Raises `ValueError` with what stands against."""
    against = [method.kind for method in active(request.sampling.guidance) if not isinstance(method, REUSED)]
    what = [f"guidance by {kind}" for kind in against]
    what += ["a measurement"] if request.condition is not None and request.condition.measurement is not None else []
    what += ["samples longer than the network's windows"] if request.window is not None else []
    if what:
        raise ValueError(
            f"light cache uses what the network computed one evaluation before, and {what[0]} evaluates it "
            "at other inputs: leave one of them out"
        )


def per_frame(request: Draw, index: Tensor, times: Tensor, steps: Tensor) -> Tensor:
    """The times (m, n + 1) of a request's samples `index`; if frames have times of their own, (m, k + 1, 1, frames)."""
    scheduling = request.sampling.scheduling
    if request.known is None and isinstance(scheduling, FullSequence):
        return times
    if request.rising:
        raise ValueError(
            "from data to noise all frames have one time: leave sampling.scheduling out, and give no frames"
        )
    axis = min(1, len(request.shape) - 1)  # a vector has times per number
    known = request.known
    if known is None:
        known = torch.zeros(len(request.seeds), request.shape[axis], dtype=torch.bool)
    if known.shape[1] != request.shape[axis]:
        raise ValueError(
            f"of samples {request.shape}, {request.shape[axis]} frames may be given, and not {known.shape[1]}"
        )
    moving = times_per_frame(times, known[index], steps, scheduling)
    return moving[:, :, None] if axis else moving


def tiled(denoiser: Denoiser[Any], request: Draw) -> Denoiser[Any]:
    """The denoiser for samples larger than the network's images; itself for others. It is inside of any guidance."""
    return denoiser if request.tile is None else Tiled(denoiser=denoiser, side=request.tile)


def windowed(denoiser: Denoiser[Any], request: Draw) -> Denoiser[Any]:
    """The denoiser for samples longer than the network's windows; itself for others. It is around any guidance, which
    changes times, so that the window is where frames are in progress.

    Raises:
        ValueError: more frames are in progress at once than the network has."""
    window = request.window
    if window is None or request.shape[1] <= window:
        return denoiser
    busy = request.sampling.scheduling.in_progress(request.sampling.steps)
    if busy is None or busy > window:
        raise ValueError(
            f"{request.shape[1]} frames are more than the {window} of the network, so fewer may be in progress at once: "
            "take sampling.scheduling.kind=rolling or autoregressive, or fewer frames"
        )
    return Windowed(denoiser=denoiser, frames=window, history=window - busy)


def _like(built: Built, request: Draw, count: int) -> Any:
    """Data of the shape and type of `count` samples."""
    if not isinstance(request.shape, Mapping):
        return torch.zeros(count, *request.shape, device=built.device)
    assert isinstance(built.model, JointModel), "only data of a product has parts"
    types = {n: torch.float32 if isinstance(p, Gaussian) else torch.int64 for n, p in built.model.process.parts.items()}
    return {n: torch.zeros(count, *s, dtype=types[n], device=built.device) for n, s in request.shape.items()}


def known_from_the_start(times: Tensor, known: Tensor) -> Tensor:
    """Times (m, n + 1) or (m, n + 1, positions) with 0 at the positions where `known` (m, positions) holds; of a grid, with
    `known` (m, channels, frames, ...), (m, n + 1, 1, frames) with 0 at the frames of which all is known."""
    if known.ndim > 2:
        frames = known.transpose(1, 2).flatten(2).all(2)[:, None]
        return torch.where(frames[:, None], 0.0, times[..., None, None])
    return torch.where(known[:, None], 0.0, times if times.ndim > 2 else times[..., None])


def extended(built: Built, tokens: Tensor, prefix: Prefix | None) -> Prefix:
    """The prefix of tokens (m, n), whose keys and values are computed beyond those of `prefix` only."""
    assert isinstance(built.model, TokenModel), "only tokens have a prefix"
    known = (prefix or Prefix(tokens=tokens[:, :0], cache=None)).shared_with(tokens)
    with torch.no_grad():
        cache = built.model.network.cache(tokens[:, known.tokens.shape[1] :].to(built.device), known.cache)
    return Prefix(tokens=tokens, cache=cache)


def predict(built: Built, request: Predict, index: Tensor, denoiser: Denoiser[Any] | None = None) -> Tensor:
    """The result of a `Predict` request for its samples `index` (m,) int64, by the model's denoiser or the one given."""
    condition = None if request.condition is None else request.condition.select(index).to(built.device)
    if request.sampling is not None:
        denoiser = guide(
            denoiser or built.model.denoiser, active(request.sampling.guidance), process=built.model.process,
            models=built.models,
        )  # fmt: skip
        condition = weighted(condition, request.sampling.guidance, len(index), built.device)
    x_t, t = request.x_t[index].to(built.device), request.t[index].to(float64_device(built.device))
    with torch.no_grad():
        any_denoiser: Any = denoiser or built.model.denoiser
        if request.activations:
            with activations(built.model.network) as found:
                any_denoiser(x_t, t, condition)
            return torch.cat(found)[: len(index)]
        q: Any = any_denoiser(x_t, t, condition)
        if request.where is None:
            assert isinstance(q, Point), "the mean is predicted for continuous data only"
            return q.mean.cpu()
        return q.logits_at(request.where[index].to(built.device)).cpu().double()  # type: ignore[union-attr]


def require_left_to_right(sampler: AnySampler) -> None:
    """Check that a sampler unmasks in the order of an autoregressive model. Raises `ValueError` with the one that does."""
    if not isinstance(sampler, AncestralUnmask) or sampler.order != "left_to_right":
        raise ValueError(
            f"an autoregressive run is sampled by --sampler 'unmask order=left_to_right' only, got {describe(sampler)}"
        )


def unmasking_grid(sampling: Sampling) -> UnmaskGrid:
    """The grid of a sampling of tokens. Raises `ValueError` for a grid of continuous data."""
    if not isinstance(sampling.grid, UnmaskGrid):
        raise ValueError(f"tokens are sampled on sampling.grid.kind=unmask, got {sampling.grid.kind}")
    return sampling.grid
