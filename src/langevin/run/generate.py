"""The driver of plans, through which previews, `sample`, `evaluate` and `compare` draw samples."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, assert_never

import torch
from torch import Tensor

from langevin.diffusion.denoiser import weights_cast_once
from langevin.diffusion.guidance import with_weight
from langevin.diffusion.sampler import FlowMap, State, sample
from langevin.diffusion.sampler.choice import tokens_of
from langevin.diffusion.sampling import Sampling
from langevin.diffusion.shape import part_of, tree_map
from langevin.methods.models import AnyModel, JointModel, TokenModel
from langevin.modalities.inputs import runs_named
from langevin.modalities.modality import Batches, Draw, Plan, Predict, Progress, Request, Samples
from langevin.recipe.build import Built, guided
from langevin.recipe.sampling import parse_sampler, sampler_of
from langevin.recipe.tree import require_flow, require_span
from langevin.run.begin import Prefix, begin, predict, tiled, windowed

BATCH = 256  # samples per batch by default


@dataclass(frozen=True, kw_only=True)
class RunModel:
    """A trained run as modalities see it (`modalities.modality.Model`).

    Args:
        sampling: how it is sampled unless a request has a sampling of its own.
        data_fingerprint: of its training data.
        others: further models that a plan may request by name, such as a vocoder or an upsampler.
        adapters: that its weights have on top of those of its run, NAME:WEIGHT.
    """

    built: Built
    sampling: Sampling
    data_fingerprint: str = ""
    others: Mapping[str, "RunModel"] = field(default_factory=dict)
    adapters: tuple[str, ...] = ()

    @property
    def modality(self) -> Any:
        return self.built.recipe.data

    @property
    def parts(self) -> AnyModel:
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
    states: list[Any] = field(default_factory=list)  # of the last draw, decodable data per step
    prefixes: dict[tuple[str, int], Prefix] = field(default_factory=dict)  # by model and first sample of the batch

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

    def _execute(self, request: Request) -> Any:
        model = self.model if request.model == "run" else self.model.others[request.model]
        match request:
            case Draw():
                with weights_cast_once(model.device):
                    return self._draw(model, request)
            case Predict():
                return self._predict(model, request)
            case _:
                assert_never(request)

    def _predict(self, model: RunModel, request: Predict) -> Tensor:
        self.evaluations += len(request.x_t)
        parts = torch.arange(len(request.x_t)).split(self.batch)
        return torch.cat([predict(model.built, request, index) for index in parts])

    def _draw(self, model: RunModel, request: Draw) -> Any:
        count = len(request.seeds)
        drawn: list[Any] = []
        trajectories: list[list[Any]] = []
        for index in torch.arange(count).split(self.batch):
            key = (request.model, int(index[0]))
            begun = begin(model.built, request, index, self.prefixes.get(key))
            if begun.prefix is not None:
                self.prefixes[key] = begun.prefix
            denoiser = guided(model.built, request.sampling, tiled(model.parts.denoiser, request))
            denoiser = windowed(denoiser, request)
            denoiser = denoiser if request.wrap is None else request.wrap(denoiser)
            state = begun.state
            left, trajectory = int((~state.done).sum()), [rescaled(model, state)] if self.frames else []
            for state in sample(begun.sampler, model.parts.process, denoiser, state, begun.condition):  # noqa: B020
                self.evaluations += left
                left = int((~state.done).sum())
                if self.frames:
                    trajectory.append(rescaled(model, state))
            drawn.append(tree_map(Tensor.cpu, state.x))
            trajectories.append(trajectory)
            self.progress(int(index[-1]) + 1, count)
        if self.frames:
            steps = range(max(map(len, trajectories)))  # a batch that is done earlier stays at its last state
            self.states = [joined([states[min(i, len(states) - 1)] for states in trajectories]) for i in steps]
        return joined(drawn)


def joined(parts: list[Any]) -> Any:
    """Data (b, ...), or mappings of such, one after another."""
    return tree_map(lambda *each: torch.cat(each), parts[0], *parts[1:])


def rescaled(model: RunModel, state: State) -> Any:
    """x_t of a state, for display: scaled to the standard deviation of data."""
    if isinstance(model.parts, JointModel):
        processes = model.parts.process.parts
        return {name: _rescaled(processes[name], x, part_of(state.t, name)) for name, x in state.x.items()}
    return _rescaled(model.parts.process, state.x, state.t)


def _rescaled(process: Any, x: Tensor, t: Tensor) -> Tensor:
    if not x.is_floating_point():
        return x.cpu()
    alpha, sigma = process.scales(t, x)
    s_d = process.sigma_data
    return (x * (s_d / (sigma * sigma + (alpha * s_d) ** 2).sqrt())).cpu()


def with_others(model: RunModel, options: Any, load: Callable[[str], RunModel]) -> RunModel:
    """The model with those of the other runs that the options of a request name.

    Args:
        load: from the name of a run to its model.

    Raises:
        ValueError: other runs for a model with a watermark, or whatever `load` raises."""
    named = runs_named(options)
    if named and model.built.key is not None:
        run = next(iter(named.values()))
        raise ValueError(
            f"a watermark marks what one run draws, and this request has another one, {run}: leave the watermark or "
            f"{run} out"
        )
    return replace(model, others={**model.others, **{name: load(run) for name, run in named.items()}})


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
    limits = sampling.guidance_range
    if guidance is not None and limits is not None and not limits[0] <= guidance <= limits[1]:
        raise ValueError(
            f"--guidance {guidance:g} is outside of {limits[0]:g} to {limits[1]:g}, within which this run holds up "
            "(sampling.guidance_range)"
        )
    if guidance is not None:
        if guidance != 1 and not isinstance(parts, TokenModel | JointModel) and not model.conditional:
            raise ValueError(
                "--guidance strengthens a condition, and this run was trained without classes or captions: leave it out"
            )
        kind: Any = "prompt" if isinstance(parts, TokenModel) else "classifier_free"
        kind = "parts" if isinstance(parts, JointModel) else kind
        sampling = replace(sampling, guidance=with_weight(sampling.guidance, guidance, kind=kind))
    method = model.built.recipe.method
    if method.one_step and (steps not in (None, 1) or guidance not in (None, 1)):
        option = f"--guidance {guidance:g}" if guidance not in (None, 1) else f"--steps {steps}"
        raise ValueError(
            f"a generator of method.kind {method.kind} draws in 1 step, without guidance; got {option}: leave it out"
        )
    if isinstance(sampling.sampler, FlowMap):
        require_span("the sampler flow_map", model.built.recipe.network)
    changes = {name: value for name, value in (("steps", steps), ("ema", ema)) if value is not None}
    sampling = replace(sampling, **changes)  # type: ignore[arg-type]
    require_flow(method, sampler_of(parts.process, sampling, model.built.learned))
    return replace(model, sampling=sampling)
