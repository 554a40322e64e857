"""What of a loaded run is exported: the inputs of its network, and its sampler as a table."""

import torch
from torch import Tensor

from langevin.diffusion.denoiser import affine
from langevin.diffusion.guidance import ClassifierFreeGuidance, active
from langevin.diffusion.guidance.method import uniform_weights, weight_at
from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.sampler import start
from langevin.diffusion.sampler.scheduling import FullSequence
from langevin.diffusion.sampling import Sampling
from langevin.exchange.graph import Input, Table
from langevin.methods.models import GaussianModel, TokenModel
from langevin.networks.embedding import ConditioningConfig
from langevin.recipe.sampling import describe, sampler_of
from langevin.run.generate import RunModel


def model_of(model: RunModel) -> GaussianModel | TokenModel:
    """The parts of a run that can be exported. Raises `ValueError` for a run of an SDE or of several parts."""
    parts = model.parts
    if not isinstance(parts, GaussianModel | TokenModel):
        raise ValueError(
            f"a run of process.kind={model.built.recipe.process.kind} is not exported: its network reads "
            f"{'a mapping of parts' if model.built.recipe.process.kind == 'product' else 'an equation of its own'}; "
            "gaussian, masked and uniform runs are"
        )
    return parts


def inputs_of(model: RunModel, shape: tuple[int, ...]) -> list[Input]:
    """The inputs of the network besides the sample and its time.

    Args:
        shape: of one sample.

    Raises:
        ValueError: a port whose length is that of the request."""
    config: ConditioningConfig = getattr(model.built.recipe.network, "conditioning", ConditioningConfig())
    found = [Input(name="span", shape=(), dtype=torch.float32, meaning="length of the step")] if config.span else []
    if {"global_vector", "concat"} & {*config.ports}:
        found.append(
            Input(name="keep", shape=(), dtype=torch.float32, meaning="0 where vectors and channels are withheld")
        )
    for port in config.ports:
        match port:
            case "global_":
                meaning = f"class, 0 to {config.classes - 1}; -1 for none"
                found.append(Input(name="class_labels", shape=(), dtype=torch.int64, meaning=meaning, port=port))
            case "cross":
                meaning = f"token indices below {config.vocabulary}, 0 after the last; all -1 for no text"
                one = Input(name="input_ids", shape=(config.length,), dtype=torch.int64, meaning=meaning, port=port)
                found.append(one)
            case "global_vector":
                one = Input(
                    name="global_vector",
                    shape=(config.vector_width,),
                    dtype=torch.float32,
                    meaning="a vector",
                    port=port,
                )
                found.append(one)
            case "concat":
                size = (config.concat_channels, *shape[1:])
                one = Input(
                    name="concat",
                    shape=size,
                    dtype=torch.float32,
                    meaning="channels beside those of the data",
                    port=port,
                )
                found.append(one)
            case _:
                raise ValueError(
                    f"the network reads the port {port}, a sequence of any length, which is not exported: only classes, "
                    "captions, vectors and channels are"
                )
    return found


def table_of(model: RunModel, shape: tuple[int, ...], inputs: list[Input]) -> Table:
    """The sampler of a run as a table of its calls.

    Raises:
        ValueError: with the sampler or the guidance that is no linear loop."""
    parts, sampling = model_of(model), model.sampling
    if isinstance(parts, TokenModel):
        raise ValueError(
            "tokens are drawn and not computed, so the loop of this run is not exported: its network is, by --what denoiser"
        )
    if not isinstance(sampling.scheduling, FullSequence):
        raise ValueError(f"sampling.scheduling={sampling.scheduling.kind} has a time per frame, which the loop has not")
    sampler, process = sampler_of(parts.process, sampling, model.built.learned), parts.process
    times = sampling.grid(torch.tensor([sampling.steps]), process.schedule)
    like = torch.zeros(1, *shape)
    state = start(sampler, process, like, times, torch.zeros(1, dtype=torch.int64))
    memory = state.memory
    allowed = {"grid_weights", "grid_remembered", "grid_noise", "grid_span", *(f"previous_{i}" for i in range(1, 99))}
    if "grid_weights" not in memory or not memory.keys() <= allowed:
        raise ValueError(
            f"the sampler '{describe(sampler)}' chooses its steps from the samples, so it is no loop of fixed steps: "
            "choose dpm2m, heun, ddim or another by --sampler"
        )
    n = int(state.num_calls[0])
    calls = state.times[0, :n]
    c = torch.stack(affine(parts.denoiser.prediction, process.schedule, calls, process.sigma_data), 1).float()
    weights = _columns(memory["grid_weights"], n)
    p_q = (
        _columns(memory["grid_remembered"], n)
        if "grid_remembered" in memory
        else torch.tensor([[0.0, 1.0]]).repeat(n, 1)
    )
    noise = _columns(memory["grid_noise"], n)[:, 0] if "grid_noise" in memory else None
    span = _columns(memory["grid_span"], n)[:, 0] if "grid_span" in memory else None
    first = times[:, 0]
    alpha, sigma = process.schedule.alpha(first), process.schedule.sigma(first)
    scale = float((alpha * alpha * process.sigma_data**2 + sigma * sigma).sqrt())
    guidance = _guidance(model, calls, conditional=any(one.port for one in inputs))
    return Table(scale=scale, affine=c, weights=weights, remembered=p_q, noise=noise, guidance=guidance, span=span)


def _columns(values: Tensor, n: int) -> Tensor:
    """(1, q, m, ones) to (n, m)."""
    return values[0, :n].reshape(n, -1).float()


def left_out(sampling: Sampling, *written: str) -> list[str]:
    """A sentence for guidance of a run that weights alone have not, if there is some.

    Args:
        written: kinds of guidance that are."""
    kinds = [method.kind for method in active(sampling.guidance) if method.kind not in written]
    return [f"left out: the run's guidance by {' and '.join(kinds)}"] if kinds else []


def _guidance(model: RunModel, calls: Tensor, *, conditional: bool) -> Tensor | None:
    """The weight of classifier-free guidance at each call; None where it is 1 at all of them, or there is no condition.

    Raises:
        ValueError: another method of guidance."""
    methods = active(model.sampling.guidance)
    if other := [method for method in methods if not isinstance(method, ClassifierFreeGuidance)]:
        neutral = "--guidance 1, or " if other[0].neutral == 1 else ""
        raise ValueError(
            f"guidance by {other[0].kind} is not part of an exported loop, only classifier_free is: export with "
            f"{neutral}--what denoiser"
        )
    if not methods or not conditional:
        return None
    weight = weight_at(uniform_weights(methods[0], len(calls), None), calls, model_of(model).process.schedule)  # type: ignore[union-attr]
    return None if weight is None else weight.float()


def loop_noise(seeds: Tensor, calls: int, shape: tuple[int, ...], *, noisy: bool) -> tuple[Tensor, Tensor | None]:
    """The counter-based noise with which an exported loop draws the samples of a run's own `seeds` (b,) int64.

    Returns:
        what it begins with (b, *shape), and the noise of its calls (b, calls, *shape); None for a deterministic sampler."""
    like, steps = torch.zeros(len(seeds), *shape), torch.zeros_like(seeds)
    first = SampleNoise(seeds=seeds, steps=steps - 1).normal(like)
    if not noisy:
        return first, None
    return first, torch.stack([SampleNoise(seeds=seeds, steps=steps + k).normal(like) for k in range(calls)], 1)


__all__ = ["inputs_of", "left_out", "loop_noise", "model_of", "table_of"]
