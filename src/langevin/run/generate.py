"""The driver of plans, through which previews, `sample`, `evaluate` and `compare` draw samples."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, assert_never

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition, KVCache
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.float64 import float64_device
from langevin.diffusion.guidance import weighted, with_weight
from langevin.diffusion.posterior import Point
from langevin.diffusion.sampler import AncestralUnmask, AnySampler, State, UnmaskGrid, sample, start
from langevin.diffusion.sampler.choice import tokens_of
from langevin.diffusion.sampling import Sampling
from langevin.methods.models import GaussianModel, SDEModel, TokenModel
from langevin.modalities.modality import Batches, Draw, Plan, Predict, Progress, Request, Samples
from langevin.recipe.build import Built, guided
from langevin.recipe.sampling import describe, parse_sampler, sampler_of

BATCH = 256  # samples per batch by default


@dataclass(frozen=True, kw_only=True)
class RunModel:
    """A trained run as modalities see it (`modalities.modality.Model`).

    Args:
        sampling: how it is sampled unless a request has a sampling of its own.
        data_fingerprint: of its training data.
        others: further models that a plan may request by name, such as a vocoder or an upsampler.
    """

    built: Built
    sampling: Sampling
    data_fingerprint: str = ""
    others: Mapping[str, "RunModel"] = field(default_factory=dict)

    @property
    def modality(self) -> Any:
        return self.built.recipe.data

    @property
    def parts(self) -> GaussianModel | SDEModel | TokenModel:
        return self.built.model

    @property
    def device(self) -> torch.device:
        return self.built.device

    @property
    def conditional(self) -> bool:
        """Whether the network reads a class, a caption or another port."""
        conditioning = getattr(self.built.recipe.network, "conditioning", None)
        return conditioning is None or bool(conditioning.ports)

    def batches(self, dataset: Any) -> Batches:
        return self.built.batches(dataset)

    def run(self, plan: Plan, *, batch: int = BATCH, frames: bool = False, progress: Progress | None = None) -> Samples:
        """Run a plan, and return its samples with the NFE per sample.

        Args:
            batch: samples per batch.
            frames: also keep the decoded state after every step.
            progress: called with (samples done, all) of each `Draw`."""
        driver = _Driver(model=self, batch=batch, frames=frames, progress=progress or (lambda done, total: None))
        return driver.run(plan)


@dataclass(kw_only=True)
class _Driver:
    """Executes the requests of one plan, `batch` samples at a time."""

    model: RunModel
    batch: int
    frames: bool
    progress: Progress
    evaluations: int = 0  # function evaluations, summed over samples
    states: list[Tensor] = field(default_factory=list)  # of the last draw, a tensor per step
    caches: dict[tuple[str, int], tuple[Tensor, KVCache]] = field(
        default_factory=dict
    )  # by model and first sample of the batch: tokens and their keys and values

    def run(self, plan: Plan) -> Samples:
        result: Any = None
        self.model.built.model.network.eval()
        while True:
            try:
                request = plan.send(result)
            except StopIteration as done:
                samples: Samples = done.value
                nfe = round(self.evaluations / max(1, len(samples)))
                return replace(samples, nfe=nfe, frames=[samples.modality.decode(state) for state in self.states])
            result = self._execute(request)

    def _execute(self, request: Request) -> Tensor:
        model = self.model if request.model == "run" else self.model.others[request.model]
        match request:
            case Draw():
                return self._draw(model, request)
            case Predict():
                return self._predict(model, request)
            case _:
                assert_never(request)

    def _predict(self, model: RunModel, request: Predict) -> Tensor:
        self.evaluations += len(request.x_t)
        predictions: list[Tensor] = []
        for index in torch.arange(len(request.x_t)).split(self.batch):
            condition = None if request.condition is None else request.condition.select(index).to(model.device)
            x_t, t = request.x_t[index].to(model.device), request.t[index].to(float64_device(model.device))
            with torch.no_grad():
                q: Any = model.parts.denoiser(x_t, t, condition)
                if request.where is None:
                    assert isinstance(q, Point), "the mean is predicted for continuous data only"
                    predictions.append(q.mean.cpu())
                else:
                    predictions.append(q.logits_at(request.where[index].to(model.device)).cpu().double())
        return torch.cat(predictions)

    def _draw(self, model: RunModel, request: Draw) -> Tensor:
        count = len(request.seeds)
        drawn: list[Tensor] = []
        trajectories: list[list[Tensor]] = []
        for index in torch.arange(count).split(self.batch):
            sampler, state, condition, denoiser = self._begin(model, request, index)
            nfe, trajectory = 0, [rescaled(model, state)] if self.frames else []
            for state in sample(sampler, model.parts.process, denoiser, state, condition):  # noqa: B020
                nfe += 1
                if self.frames:
                    trajectory.append(rescaled(model, state))
            self.evaluations += nfe * len(index)
            drawn.append(state.x.cpu())
            trajectories.append(trajectory)
            self.progress(sum(map(len, drawn)), count)
        if self.frames:
            steps = range(max(map(len, trajectories)))  # a batch that is done earlier stays at its last state
            self.states = [torch.cat([states[min(i, len(states) - 1)] for states in trajectories]) for i in steps]
        return torch.cat(drawn)

    def _begin(
        self, model: RunModel, request: Draw, index: Tensor
    ) -> tuple[AnySampler, State, Condition | None, Denoiser]:
        """Sampler, initial state, condition and guided denoiser for the samples of a request with these indices."""
        device, parts, sampling = model.device, model.parts, request.sampling
        sampler = sampler_of(parts.process, sampling, model.built.learned)
        if isinstance(parts, TokenModel) and parts.autoregressive:
            require_left_to_right(sampler)
        steps = torch.full((len(index),), sampling.steps)
        if isinstance(parts, TokenModel):
            times = unmasking_grid(sampling)(steps)
            like = torch.zeros(len(index), *request.shape, dtype=torch.int64, device=device)
        else:
            times = sampling.grid(steps, parts.process.schedule)
            like = torch.zeros(len(index), *request.shape, device=device)
        x, clean = (None if part is None else part[index].to(device) for part in (request.x, request.clean))
        if request.known is not None:
            times = torch.where(request.known[index][:, None], 0.0, times[..., None])
        condition = None if request.condition is None else request.condition.select(index).to(device)
        condition = self._conditioned(model, request, condition, index)
        denoiser = guided(model.built, sampling)
        denoiser = denoiser if request.wrap is None else request.wrap(denoiser)
        state = start(sampler, parts.process, like, times, request.seeds[index], x=x, clean=clean)
        return sampler, state, condition, denoiser

    def _conditioned(
        self, model: RunModel, request: Draw, condition: Condition | None, index: Tensor
    ) -> Condition | None:
        """The condition with guidance weights, and with the KV cache of the request's prefix."""
        condition = weighted(condition, request.sampling.guidance, len(index), model.device)
        if request.prefix is None or not request.prefix.shape[1]:
            return condition
        assert isinstance(model.parts, TokenModel), "only tokens have a prefix"
        key, prefix = (request.model, int(index[0])), request.prefix[index]
        tokens, cache = self.caches.get(key, (prefix[:, :0], None))
        if not torch.equal(tokens, prefix[:, : tokens.shape[1]]):  # the cache is of other sequences
            tokens, cache = prefix[:, :0], None
        with torch.no_grad():
            cache = model.parts.network.cache(prefix[:, tokens.shape[1] :].to(model.device), cache)
        self.caches[key] = (prefix, cache)
        return replace(condition or Condition(), cache=cache)


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


def rescaled(model: RunModel, state: State) -> Tensor:
    """x_t of a state, for display: scaled to the standard deviation of data."""
    process = model.parts.process
    if isinstance(model.parts, TokenModel):
        return state.x.cpu()
    alpha, sigma = process.scales(state.t, state.x)  # type: ignore[union-attr]
    s_d = process.sigma_data  # type: ignore[union-attr]
    return (state.x * (s_d / (sigma * sigma + (alpha * s_d) ** 2).sqrt())).cpu()


def changed(
    model: RunModel,
    *,
    steps: int | None = None,
    sampler: str | None = None,
    guidance: float | None = None,
    ema: float | None = None,
) -> RunModel:
    """The model with a changed sampling; None keeps a setting.

    Raises:
        ValueError: a sampler that is not for the process, or that was not fitted to the run, or guidance of a run without
            conditions."""
    sampling, parts = model.sampling, model.parts
    if sampler is not None:
        sampling = replace(sampling, sampler=parse_sampler(sampler, parts.process, tokens=tokens_of(sampling.sampler)))
    if guidance is not None:
        if guidance != 1 and not isinstance(parts, TokenModel) and not model.conditional:
            raise ValueError(
                "--guidance strengthens a condition, and this run was trained without classes or captions: leave it out"
            )
        kind = "prompt" if isinstance(parts, TokenModel) else "classifier_free"
        sampling = replace(sampling, guidance=with_weight(sampling.guidance, guidance, kind=kind))
    changes = {name: value for name, value in (("steps", steps), ("ema", ema)) if value is not None}
    sampling = replace(sampling, **changes)  # type: ignore[arg-type]
    sampler_of(parts.process, sampling, model.built.learned)
    return replace(model, sampling=sampling)
