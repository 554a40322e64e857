"""From a recipe to parts: data, network, process, denoiser, method, sampler."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from langevin.diffusion.batch import Batch, draw
from langevin.diffusion.denoiser import Denoiser, GaussianDenoiser, ScoreDenoiser
from langevin.diffusion.guidance import ClassifierFree
from langevin.diffusion.objective import Likelihood, Objective, Weighted
from langevin.diffusion.process import Drift, Gaussian
from langevin.diffusion.sampler import Sampler
from langevin.methods.diffusion import Diffusion, level_losses
from langevin.methods.score import ScoreMatching, score_losses
from langevin.recipe.entry import NO_CODE, Code
from langevin.recipe.equation import drift_of
from langevin.recipe.modality import Progress, Read, modality_of
from langevin.recipe.samplers import unfitted
from langevin.recipe.tree import Equation, Learning, Recipe, Sampling
from langevin.training import loop
from langevin.training.order import Order

LEVELS = torch.linspace(-6, 6, 7, dtype=torch.float64)  # log-SNR: sigma / alpha from 20 down to 0.05
TIMES = torch.linspace(0.05, 1, 7, dtype=torch.float64)  # of a drift


@dataclass(frozen=True, kw_only=True)
class Built:
    """The parts of a run."""

    recipe: Recipe
    network: nn.Module
    process: Any  # Gaussian or Drift
    denoiser: Any
    method: Any
    edges: tuple[str, ...]
    learned: Callable[[Sampling], Sampler] = unfitted  # a run's own fitted solvers

    @property
    def levels(self) -> tuple[str, Tensor]:
        """The name and values of the noise levels at which losses are looked at."""
        return ("time", TIMES) if isinstance(self.process, Drift) else ("log_snr", LEVELS)

    def losses(self, batch: Batch, names: Tensor) -> Tensor:
        """(levels, b) losses on fixed noise."""
        if isinstance(self.process, Drift):
            return score_losses(self.denoiser, self.process, batch, times=TIMES, names=names)
        return level_losses(self.denoiser, self.process, batch, log_snr=LEVELS, names=names)


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
    made = _drifting if isinstance(recipe.process, Equation) else _gaussian
    process, denoiser, method = made(recipe, network, code)
    for player in method.players.values():
        player.to(where)
    edges: tuple[str, ...] = getattr(network, "edges", ())
    return Built(recipe=recipe, network=network, process=process, denoiser=denoiser, method=method, edges=edges)


def _gaussian(recipe: Recipe, network: nn.Module, code: Code) -> tuple[Gaussian, GaussianDenoiser, Diffusion]:
    process, learning = recipe.process, recipe.learning
    assert isinstance(process, Gaussian)
    denoiser = GaussianDenoiser(
        network=network, process=process, prediction=learning.prediction, precision=recipe.training.dtype
    )
    # only training steps, which are all of one shape, are worth compiling for
    trained = replace(denoiser, network=torch.compile(network)) if recipe.training.compile else denoiser
    method = Diffusion(
        process=process,
        denoiser=trained,
        network=network,
        objective=objective(process, learning),
        times=learning.times,
        schedule=process.schedule,
        drop=learning.drop,
        uncertainty=learning.uncertainty,
    )
    return process, denoiser, method


def _drifting(recipe: Recipe, network: nn.Module, code: Code) -> tuple[Drift, ScoreDenoiser, ScoreMatching]:
    assert isinstance(recipe.process, Equation)
    like = torch.zeros(1, recipe.network.channels or 1, dtype=torch.float64)
    process = drift_of(recipe.process, like=like, code=code)
    denoiser = ScoreDenoiser(network=network, process=process, precision=recipe.training.dtype)
    method = ScoreMatching(process=process, denoiser=denoiser, network=network, times=recipe.learning.times)
    return process, denoiser, method


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
    """The denoiser under the sampling's guidance interval; weights are in the condition."""
    interval = sampling.interval or (0.0, float("inf"))
    return ClassifierFree(denoiser=built.denoiser, schedule=built.process.schedule, interval=interval)
