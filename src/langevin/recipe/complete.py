"""Completing a recipe from the data: network sizes, statistics of the process, fitted vocabulary and codec."""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import torch

from langevin.diffusion.levels import OfFrames, OfStreams
from langevin.diffusion.process import Gaussian
from langevin.diffusion.sampler import Ancestral, AncestralUnmask, JointDPM2M
from langevin.diffusion.sampler.choice import tokens_of
from langevin.diffusion.sampler.grid import KarrasGrid, UniformTimeGrid, UnmaskGrid
from langevin.diffusion.sampler.scheduling import FullSequence
from langevin.diffusion.sampling import Sampling
from langevin.methods import Diffusion
from langevin.modalities.modality import Needs
from langevin.networks import Transformer
from langevin.recipe.read import check, read_tree
from langevin.recipe.sde import measured
from langevin.recipe.tree import MaskedConfig, NetworkConfig, ProcessConfig, ProductConfig, Recipe, SDEConfig
from langevin.user_function import NO_CODE, CodePermission


def complete(recipe: Recipe, train: Any, code: CodePermission = NO_CODE) -> Recipe:
    """Fit the modality to the training data, and complete network, process and sampling for it.

    Raises:
        ValueError: parts that do not fit each other, or data that cannot be trained on."""
    base = None if recipe.init_from is None else recipe_of(recipe.init_from)
    if base is not None and type(base.data) is not type(recipe.data):
        raise ValueError(
            f"init_from: {recipe.init_from} is a run of {base.data.kind}, and this data is {recipe.data.kind}"
        )
    known = recipe.data if recipe.adapter is not None else None if base is None else base.data
    data = recipe.data.fitted(train, base=known)  # type: ignore[arg-type]
    needs = data.needs(train)
    require_fit(recipe.data.kind, recipe.network, recipe.process, needs)
    require_frames(recipe, needs)
    network = judging(counting(recipe.network.fitted(needs), recipe.process), recipe)
    recipe = replace(recipe, data=data, network=network)
    if recipe.adapter is not None:  # process and sampling are those of the base
        return recipe
    process, sampling = recipe.process, recipe.sampling
    if isinstance(process, Gaussian):
        assert needs.std is not None, "data with a Gaussian process is continuous"
        process = replace(process, sigma_data=float(f"{needs.std:.4g}"))
        if recipe.method.one_step:  # the generator is asked at t = 1, with the condition
            sampling = replace(sampling, steps=1, grid=UniformTimeGrid(), guidance=(), scheduling=FullSequence())
    elif isinstance(process, SDEConfig):
        if not process.rms:
            batches = data.batches(train, device=torch.device("cpu"))
            process = measured(process, batches(torch.arange(len(batches))).x, code=code)[0]
    elif isinstance(process, ProductConfig):
        process = replace(process, parts=_parts(process, needs))
        if sampling.sampler == Sampling().sampler:
            sampling = replace(sampling, sampler=JointDPM2M())
    else:
        assert needs.tokens is not None, "data with a discrete process is tokens"
        process = replace(process, vocab_size=needs.tokens)
        if isinstance(sampling.grid, KarrasGrid):
            sampling = replace(sampling, grid=UnmaskGrid())
        if process.kind == "autoregressive":
            tokens = tokens_of(sampling.sampler)
            sampling = replace(sampling, sampler=AncestralUnmask(order="left_to_right", tokens=tokens))
        elif process.kind != "masked" and isinstance(sampling.sampler, AncestralUnmask):
            sampling = replace(sampling, sampler=Ancestral(tokens=sampling.sampler.tokens))  # the same distribution
    return replace(recipe, process=process, sampling=sampling)


def _parts(process: ProductConfig, needs: Needs) -> dict[str, Gaussian | MaskedConfig]:
    """The process of each part, with the statistics of the data.

    Raises:
        ValueError: a part that the data has not, or a process that does not fit it."""
    if unknown := [name for name in process.parts if name not in needs.parts]:
        raise ValueError(f"process.parts names {unknown[0]}, and the parts of this data are {', '.join(needs.parts)}")
    found = dict[str, Gaussian | MaskedConfig]()
    for name, part in needs.parts.items():
        continuous = part.tokens is None
        chosen = process.parts.get(name) or (Gaussian() if continuous else MaskedConfig(training_input="time"))
        if isinstance(chosen, MaskedConfig) and chosen.loss != MaskedConfig.loss:
            raise ValueError(f"process.parts.{name}.loss is for data of tokens alone: leave it out")
        if chosen.kind not in part.processes:
            raise ValueError(
                f"process.parts.{name} needs kind {' or '.join(part.processes)}, and this is {chosen.kind}"
            )
        if isinstance(chosen, Gaussian):
            found[name] = replace(chosen, sigma_data=float(f"{part.std or 1.0:.4g}"))
        else:
            found[name] = replace(chosen, vocab_size=part.tokens or 0, training_input="time")
    return found


def reaches(network: type[NetworkConfig], needs: Needs) -> bool:
    """Whether a network can have as many dimensions as the data: those without the choice are of sequences."""
    return needs.reads != "grids" or len(needs.space) == 1 or hasattr(network, "dimensions")


def counting(network: NetworkConfig, process: ProcessConfig) -> NetworkConfig:
    """The network with n-grams of three tokens where it leaves their order open and they can be counted."""
    if not isinstance(network, Transformer.Config) or network.ngram_order is not None:
        return network
    can = process.kind in ("masked", "autoregressive") and network.attention != "block" and network.streams == 1
    return replace(network, ngram_order=3 if can else 0)


def judging(network: NetworkConfig, recipe: Recipe) -> NetworkConfig:
    """The network with a quality head where the process weighs its loss.

    Raises:
        ValueError: the network is compiled for one shape, or has parts that do not fit."""
    process = recipe.process
    if not isinstance(network, Transformer.Config):
        return network
    judges = isinstance(process, MaskedConfig) and process.quality > 0
    if judges and recipe.training.compile:
        raise ValueError("process.quality and training.compile do not fit: leave one of them out")
    return replace(network, quality_head=judges)


def require_fit(kind: str, network: NetworkConfig, process: ProcessConfig, needs: Needs) -> None:
    """Check that data, network and process fit each other. Raises `ValueError` with what does not."""
    if process.kind not in needs.processes:
        raise ValueError(f"{kind} data needs process.kind {' or '.join(needs.processes)}, and this is {process.kind}")
    if network.reads != needs.reads:
        reading = [
            config.kind for config in get_args(NetworkConfig) if config.reads == needs.reads and reaches(config, needs)
        ]
        raise ValueError(f"{kind} data is read by network.kind {' or '.join(reading)}, and this is {network.kind}")
    if not isinstance(network, Transformer.Config):
        return
    if (network.attention == "causal") != (process.kind == "autoregressive"):
        raise ValueError(
            "network.attention=causal and process.kind=autoregressive belong together: an autoregressive model"
        )
    if network.ngram_order and process.kind not in ("masked", "autoregressive"):
        raise ValueError(
            f"network.ngram_order takes visible tokens for the text's, and process.kind={process.kind} replaces some: "
            "it needs process.kind masked or autoregressive"
        )
    if network.attention == "block" and (not needs.blocks or needs.space[0] % network.block_size):
        raise ValueError(
            f"network.attention=block generates a corpus whose contexts are whole blocks: network.block_size "
            f"{network.block_size} must divide the {needs.space[0]} tokens of a context"
        )
    if network.attention == "block" and (process.kind != "masked" or network.time_conditioning):
        raise ValueError("network.attention=block needs process.kind=masked and network.time_conditioning=false")
    if process.kind in ("uniform", "hybrid") and not network.time_conditioning:
        raise ValueError(
            f"a {process.kind} process needs network.time_conditioning=true: its posterior depends on time"
        )


def require_frames(recipe: Recipe, needs: Needs) -> None:
    """Check that noise levels per frame or part fit data and network. Raises `ValueError` with what does not."""
    method, scheduling = recipe.method, recipe.sampling.scheduling
    levels = method.levels if isinstance(method, Diffusion.Config) else ()
    if not levels and isinstance(scheduling, FullSequence):
        return
    streams = bool(needs.parts) and isinstance(scheduling, FullSequence)
    if wrong := [part.kind for part in levels if not isinstance(part, OfStreams if streams else OfFrames)]:
        what = "in parts, such as shared or per_stream" if streams else "in one, such as shared or per_frame"
        raise ValueError(f"method.levels {wrong[0]} does not fit {recipe.data.kind}, whose levels are of data {what}")
    if streams:
        return
    key = "method.levels" if levels else "sampling.scheduling"
    if not needs.frames:
        raise ValueError(f"{key} is for data in frames or in parts, and this is {recipe.data.kind}: leave it out")
    if not getattr(recipe.network, "levels_per_frame", False):
        raise ValueError(f"{key} needs a network that reads a noise level per frame: network.kind=dit or unet")


def recipe_of(path: str) -> Recipe:
    """The recipe of the run that training starts from.

    Raises:
        ValueError: there is no run."""
    file = Path(path) / "recipe.yaml"
    if not file.is_file():
        raise ValueError(f"init_from: {path} is not a run, as it has no recipe.yaml")
    return check(read_tree(file), where=str(file))
