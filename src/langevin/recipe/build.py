"""From a recipe to parts: data, network, process, denoiser, method, sampler."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from langevin.diffusion.batch import draw
from langevin.diffusion.denoiser import GaussianDenoiser
from langevin.diffusion.guidance import ClassifierFree
from langevin.diffusion.objective import Weighted
from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampler import DDIM, DPM2M, AnySampler, Euler, Heun
from langevin.methods.diffusion import Diffusion
from langevin.modalities.image.data import Images, load_parts
from langevin.modalities.image.reader import Reader
from langevin.modalities.text.codec import Words
from langevin.networks.embedding import Ports
from langevin.recipe.tree import Recipe, SamplerName, Sampling
from langevin.training.loop import Read
from langevin.training.order import Order

SAMPLERS: Mapping[SamplerName, Callable[[Gaussian, Sampling], AnySampler]] = {
    "dpm2m": lambda process, s: DPM2M(process=process),
    "heun": lambda process, s: Heun(process=process),
    "ddim": lambda process, s: DDIM(process=process, eta=s.eta),
    "euler": lambda process, s: Euler(process=process),
    "ancestral": lambda process, s: DDIM(process=process, eta=1.0),
}


@dataclass(frozen=True, kw_only=True)
class Built:
    """The parts of a run."""

    recipe: Recipe
    network: nn.Module
    process: Gaussian
    denoiser: GaussianDenoiser
    method: Diffusion
    edges: tuple[str, ...]


def complete(recipe: Recipe, data: Images) -> Recipe:
    """The recipe with what only the data can tell: channels, ports, vocabulary, the spread of pixels.

    Raises:
        ValueError: the network does not fit the data's size.
    """
    words = recipe.words
    if words is None and data.captions is not None:
        words = Words.fit(data.captions)
    ports = Ports(
        classes=len(data.classes),
        vocabulary=words.size if words else 0,
        length=words.length if words else 0,
        text_layers=recipe.network.ports.text_layers,
        text=recipe.network.ports.text,
    )
    some = data.read(torch.arange(len(data))[:: max(1, len(data) // 2048)])
    spread = float(recipe.codec.encode(some).std())
    if not spread > 1e-3:
        raise ValueError(f"all {len(data)} images look the same (spread of pixels {spread:.1e}): nothing to learn")
    channels, height, width = data.shape
    network = replace(recipe.network, channels=channels, ports=ports)
    if height != width:
        raise ValueError(f"images should be square, these are {height} x {width}: set data.size")
    if network.kind == "mlp":
        raise ValueError("network.kind mlp reads vectors; for images choose dit or unet")
    if network.dimensions != 2:
        raise ValueError(f"network.dimensions is {network.dimensions}, and images have 2")
    levels = len(network.multipliers) if network.kind == "unet" else 1
    side = network.patch * 2 ** (levels - 1)
    if height % side:
        what = f"patches of {network.patch} and {levels} levels" if levels > 1 else f"patches of {network.patch}"
        raise ValueError(f"images of side {height} do not fit {what}: choose data.size as a multiple of {side}")
    if network.kind == "dit" and network.sketch:
        network = replace(network, places=(height // network.patch) ** 2)
    process = replace(recipe.process, sigma_data=round(spread, 4))
    return replace(recipe, network=network, process=process, words=words, classes=data.classes)


def open_data(recipe: Recipe, *, progress: Callable[[int, int], None] | None = None) -> tuple[Images, Images]:
    """The training and the held-out part of the recipe's data; runs of different seeds have the same parts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the same sentences are in the data's notes
        return load_parts(recipe.data, held_out=recipe.held_out, seed=0, progress=progress)


def build(recipe: Recipe, *, device: torch.device | None = None) -> Built:
    """Fresh parts of a completed recipe; weights are a function of its seed."""
    where = device or torch.device("cpu")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
        network: nn.Module = recipe.network.build()
    network = network.to(where)
    if recipe.network.kind == "unet" and recipe.network.dimensions == 2:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    process = recipe.process
    learning = recipe.learning
    denoiser = GaussianDenoiser(
        network=network, process=process, prediction=learning.prediction, precision=recipe.training.dtype
    )
    # only training steps, which are all of one shape, are worth compiling for
    trained = replace(denoiser, network=torch.compile(network)) if recipe.training.compile else denoiser
    method = Diffusion(
        process=process,
        denoiser=trained,
        network=network,
        objective=Weighted(process=process, weighting=learning.weighting, gamma=learning.gamma),
        times=learning.times,
        schedule=process.schedule,
        drop=learning.drop,
        uncertainty=learning.uncertainty,
    )
    for player in method.players.values():
        player.to(where)
    edges: tuple[str, ...] = getattr(network, "edges", ())
    return Built(recipe=recipe, network=network, process=process, denoiser=denoiser, method=method, edges=edges)


def reader(recipe: Recipe, data: Images, *, device: torch.device | None = None) -> Reader:
    """Batches of the data as the recipe's network is told them."""
    return Reader(
        images=data,
        codec=recipe.codec,
        words=recipe.words,
        labelled=bool(recipe.classes),
        flip=recipe.learning.flip,
        device=device or torch.device("cpu"),
    )


def training_batches(recipe: Recipe, read: Reader) -> Read:
    """(step, rows of the global batch) -> their data; a pure function."""
    training = recipe.training
    order = Order(count=len(read.images), batch=training.batch, seed=training.seed)

    def batch(step: int, rows: Tensor):  # noqa: ANN202
        noise = draw(seed=training.seed, step=step, rows=rows, count=training.batch).noise
        return read(order.items(step, rows), noise)

    return batch


def guided(built: Built, sampling: Sampling) -> ClassifierFree:
    """The denoiser under the sampling's guidance interval; weights are in the condition."""
    interval = sampling.interval or (0.0, float("inf"))
    return ClassifierFree(denoiser=built.denoiser, schedule=built.process.schedule, interval=interval)
