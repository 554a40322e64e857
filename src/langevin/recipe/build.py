"""From a recipe to parts: data, network, process, denoiser, method, sampler."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from langevin.diffusion.batch import Batch, draw
from langevin.diffusion.denoiser import CausalDenoiser, Denoiser, GaussianDenoiser, ScoreDenoiser, TokenDenoiser
from langevin.diffusion.guidance import ClassifierFree
from langevin.diffusion.likelihood.tokens import share_losses, whole
from langevin.diffusion.objective import Bound, CrossEntropy, Likelihood, Objective, UniformTime, Weighted
from langevin.diffusion.process import Gaussian, Hybrid, Masked, Uniform
from langevin.diffusion.question import AtTimes, Blocks, Counts, Question, Whole
from langevin.diffusion.sampler import Sampler
from langevin.methods.diffusion import Diffusion, Method, level_losses
from langevin.methods.score import ScoreMatching, score_losses
from langevin.recipe.entry import NO_CODE, Code
from langevin.recipe.equation import drift_of
from langevin.recipe.modality import Progress, Read, modality_of
from langevin.recipe.samplers import unfitted
from langevin.recipe.tree import Equation, Learning, LeftToRight, Masking, Mixing, Recipe, Replacing, Sampling, Symbols
from langevin.training import loop
from langevin.training.order import Order

LEVELS = torch.linspace(-6, 6, 7, dtype=torch.float64)  # log-SNR: sigma / alpha from 20 down to 0.05
TIMES = torch.linspace(0.05, 1, 7, dtype=torch.float64)  # of a drift
SHARES = torch.tensor([0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 1.0], dtype=torch.float64)  # of masked symbols


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the kind of process decides.

    Args:
        levels: name and values of the noise levels at which losses are looked at.
        losses: (batch, names of its rows) -> (levels, b) on fixed noise.
    """

    process: Any
    denoiser: Any
    method: Method
    levels: tuple[str, Tensor]
    losses: Callable[[Batch, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Built(Parts):
    """The parts of a run."""

    recipe: Recipe
    network: nn.Module
    edges: tuple[str, ...]
    learned: Callable[[Sampling], Sampler] = unfitted  # a run's own fitted solvers


def complete(recipe: Recipe, data: Any, code: Code = NO_CODE) -> Recipe:
    """The recipe with what only the data can tell.

    Raises:
        ValueError: the network does not fit the data."""
    return modality_of(recipe).complete(recipe, data, code)


def open_data(recipe: Recipe, *, progress: Progress | None = None) -> tuple[Any, Any]:
    """The training and the held-out part of the recipe's data; runs of different seeds have the same parts."""
    return modality_of(recipe).open(recipe, progress)


def build(recipe: Recipe, *, device: torch.device | None = None, code: Code = NO_CODE) -> Built:
    """Fresh parts of a completed recipe; weights are a function of its seed.

    Raises:
        ValueError: the recipe names code that the command does not allow."""
    where = device or torch.device("cpu")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
        network: nn.Module = recipe.network.build()
    network = network.to(where)
    if recipe.network.kind == "unet" and recipe.network.dimensions == 2:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    match recipe.process:
        case Gaussian():
            parts = _gaussian(recipe, recipe.process, network)
        case Equation():
            parts = _drifting(recipe, recipe.process, network, code)
        case _:
            parts = _symbols(recipe, recipe.process, network)
    for player in parts.method.players.values():
        player.to(where)
    edges: tuple[str, ...] = getattr(network, "edges", ())
    return Built(**vars(parts), recipe=recipe, network=network, edges=edges)


def _trained(recipe: Recipe, network: nn.Module) -> Any:
    """The network as training calls it: only its steps, which are all of one shape, are worth compiling for."""
    return torch.compile(network) if recipe.training.compile else network


def _gaussian(recipe: Recipe, process: Gaussian, network: nn.Module) -> Parts:
    learning = recipe.learning
    denoiser = GaussianDenoiser(
        network=network, process=process, prediction=learning.prediction, precision=recipe.training.dtype
    )
    method = Diffusion(
        process=process,
        denoiser=replace(denoiser, network=_trained(recipe, network)),
        network=network,
        objective=objective(process, learning),
        times=learning.times,
        schedule=process.schedule,
        drop=learning.drop,
        uncertainty=learning.uncertainty,
    )

    def losses(batch: Batch, names: Tensor) -> Tensor:
        return level_losses(denoiser, process, batch, log_snr=LEVELS, names=names)

    return Parts(process=process, denoiser=denoiser, method=method, levels=("log_snr", LEVELS), losses=losses)


def _drifting(recipe: Recipe, equation: Equation, network: nn.Module, code: Code) -> Parts:
    assert recipe.network.kind == "mlp"
    like = torch.zeros(1, recipe.network.channels or 1, dtype=torch.float64)
    process = drift_of(equation, like=like, code=code)
    denoiser = ScoreDenoiser(network=network, process=process, precision=recipe.training.dtype)
    method = ScoreMatching(process=process, denoiser=denoiser, network=network, times=recipe.learning.times)

    def losses(batch: Batch, names: Tensor) -> Tensor:
        return score_losses(denoiser, process, batch, times=TIMES, names=names)

    return Parts(process=process, denoiser=denoiser, method=method, levels=("time", TIMES), losses=losses)


def _symbols(recipe: Recipe, kind: Symbols, network: nn.Module) -> Parts:
    assert recipe.network.kind == "transformer"
    precision, masked = recipe.training.dtype, Masked(symbols=kind.symbols)
    process: Any = masked
    match kind:
        case Masking():
            process = masked = Masked(symbols=kind.symbols, rate=kind.rate)
        case Replacing():
            process = Uniform(symbols=kind.symbols)
        case Mixing():
            process = Hybrid(symbols=kind.symbols, wrong=kind.wrong, power=kind.power)
        case LeftToRight():
            pass
    times = UniformTime(low=1e-4, high=1 if process is masked else 1 - 1e-4)
    question: Question = AtTimes(process=process, times=times)
    target: Objective = Bound(process=process)
    partly = isinstance(kind, Masking)
    denoiser: Any = TokenDenoiser(network=network, process=process, precision=precision, partly=partly)
    if isinstance(kind, LeftToRight):
        question, target = Whole(), CrossEntropy()
        denoiser = CausalDenoiser(network=network, precision=precision)
    elif recipe.network.attention == "block":
        question = Blocks(process=masked, block=recipe.network.block)
    elif isinstance(kind, Masking) and kind.question == "count":
        question = Counts(process=masked)
    trained = replace(denoiser, network=_trained(recipe, network))
    if partly and recipe.training.compile:  # a compiled network wants one shape
        trained = replace(trained, partly=False)
    method = Diffusion(
        process=process, denoiser=trained, network=network, objective=target,
        times=times, question=question,
    )  # fmt: skip

    def losses(batch: Batch, names: Tensor) -> Tensor:
        if isinstance(kind, LeftToRight):  # one level: the whole, nats a place
            free = batch.x < kind.symbols if batch.mask is None else batch.mask
            return (whole(denoiser, batch) / free.sum(1).clamp_min(1))[None]
        return share_losses(denoiser, masked, batch, shares=SHARES, names=names)

    levels = torch.ones(1, dtype=torch.float64) if isinstance(kind, LeftToRight) else SHARES
    return Parts(process=process, denoiser=denoiser, method=method, levels=("masked", levels), losses=losses)


def objective(process: Gaussian, learning: Learning) -> Objective:
    """What the recipe's denoiser minimises."""
    if learning.weighting == "bound":
        return Likelihood(process=process, times=learning.times)
    return Weighted(process=process, weighting=learning.weighting, gamma=learning.gamma)


def reader(recipe: Recipe, data: Any, *, device: torch.device | None = None) -> Any:
    """Batches of the data as the recipe's network is told them."""
    return modality_of(recipe).reader(recipe, data, device or torch.device("cpu"))


def training_batches(recipe: Recipe, read: Read) -> loop.Read:
    """(step, rows of the global batch) -> their data; a pure function."""
    training = recipe.training
    order = Order(count=len(read.part), batch=training.batch, seed=training.seed)

    def batch(step: int, rows: Tensor) -> Batch:
        noise = draw(seed=training.seed, step=step, rows=rows, count=training.batch).noise
        return read(order.items(step, rows), noise)

    return batch


def guided(built: Built, sampling: Sampling) -> Denoiser:
    """The denoiser of noise levels under the sampling's guidance interval; weights are in the condition."""
    interval = sampling.interval or (0.0, float("inf"))
    return ClassifierFree(denoiser=built.denoiser, schedule=built.process.schedule, interval=interval)
