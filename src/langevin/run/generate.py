"""Samples from a run's parts: the one way that sheets, `sample`, `evaluate` and `compare` draw images."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.sampler import State, sample, start
from langevin.methods.diffusion import told
from langevin.modalities.image.codec import Pixels
from langevin.modalities.toy.codec import Coordinates
from langevin.recipe.build import Built, guided
from langevin.recipe.samplers import sampler_of
from langevin.recipe.tree import Sampling


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Samples as the codec gives them (uint8 images (n, c, h, w), points (n, d)), the network calls that each took, and the
    states on the way if asked for."""

    images: Tensor
    calls: int
    frames: list[Tensor]


def generate(
    built: Built,
    sampling: Sampling,
    *,
    shape: tuple[int, ...],
    seeds: Tensor,
    condition: Condition | None,
    batch: int = 256,
    frames: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Drawn:
    """One image for each of `seeds` (n,) int64; a row's image depends on its seed and condition only.

    Args:
        shape: of a row, (c, h, w) of an image.
        condition: of n rows; None if the network is told nothing.
        batch: rows at once.
        frames: keep the estimate of clean data after each call.
        progress: called with (images done, n).
    """
    assert isinstance(built.recipe.codec, Pixels | Coordinates)
    sampler = sampler_of(built.process, sampling, built.learned)
    denoiser = guided(built, sampling)
    device = next(built.network.parameters()).device
    images: list[Tensor] = []
    films: list[list[Tensor]] = []
    calls = 0
    built.network.eval()
    for rows in torch.arange(len(seeds)).split(batch):
        steps = torch.full((len(rows),), sampling.steps)
        times = sampling.grid(steps, built.process.schedule).to(device)
        like = torch.zeros(len(rows), *shape, device=device)
        condition_part = None if condition is None else condition.rows(rows)
        asked = told(condition_part, sampling.guidance, len(rows), device)
        at = start(sampler, built.process, like, times, seeds[rows].to(device))
        film = [_shown(built, at)] if frames else []
        made = 0
        for at in sample(sampler, denoiser, at, asked):  # noqa: B020
            made += 1
            if frames:
                film.append(_shown(built, at))
        calls = max(calls, made)
        images.append(built.recipe.codec.decode(at.x).cpu())
        films.append(film)
        if progress:
            progress(sum(map(len, images)), len(seeds))
    merged = [torch.cat(parts) for parts in zip(*films, strict=True)] if frames else []
    return Drawn(images=torch.cat(images), calls=calls, frames=merged)


def _shown(built: Built, state: State) -> Tensor:
    """A state on its way as the codec shows it: x_t brought to the spread of data."""
    assert isinstance(built.recipe.codec, Pixels | Coordinates)
    alpha, sigma = built.process.scales(state.t, state.x)
    s_d = built.process.sigma_data
    return built.recipe.codec.decode(state.x * (s_d / (sigma * sigma + (alpha * s_d) ** 2).sqrt())).cpu()


def with_options(sampling: Sampling, **changes: object) -> Sampling:
    """The sampling with the changes that are not None."""
    return replace(sampling, **{k: v for k, v in changes.items() if v is not None})
