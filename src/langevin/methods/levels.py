"""Losses at fixed noise levels on fixed noise, comparable along a run, between runs and between datasets."""

from collections.abc import Mapping

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.float64 import float64_device
from langevin.diffusion.noise import SampleNoise, mix
from langevin.diffusion.objective import mean_per_sample
from langevin.diffusion.posterior import Joint, Score
from langevin.diffusion.process import Gaussian, Product
from langevin.diffusion.process.sde import SDE
from langevin.diffusion.shape import append_dims, first_leaf


def level_losses(
    denoiser: Denoiser, process: Gaussian, batch: Batch, *, log_snr: Tensor, seed: int = 0, names: Tensor | None = None
) -> Tensor:
    """Squared error of the posterior mean at fixed noise levels, (levels, b), relative to the best linear denoiser.

    1 is the error of the best linear denoiser of data with mean 0 and the process's `sigma_data`; 0 is perfect. The noise
    is a function of (seed, sample name, level) alone, so models and datasets are compared on equal noise.

    Args:
        log_snr: (levels,) float64.
        names: (b,) int64 names of the samples; default their indices in the batch.
    """
    x: Tensor = batch.x
    names = torch.arange(len(x), device=x.device) if names is None else names.to(x.device)
    seeds = mix(torch.full_like(names, seed), names)
    losses: list[Tensor] = []
    with torch.no_grad():
        for i, level in enumerate(log_snr.to(float64_device(x.device))):
            t = process.schedule.time(level).expand(len(x))
            x_t = process.corrupt(x, t, SampleNoise(seeds=seeds, steps=torch.full_like(names, i)))
            error = denoiser(x_t, t, batch.condition).error(x)
            rho_2, s_2 = torch.exp(-level), process.sigma_data**2
            linear = append_dims((rho_2 * s_2 / (rho_2 + s_2)).expand(len(x)), x).to(x)  # error of the linear denoiser
            losses.append(mean_per_sample(error / linear, batch.counted()))
    return torch.stack(losses)


def joint_losses(
    denoiser: Denoiser[Joint], process: Product, batch: Batch, *, log_snr: Tensor, seed: int = 0,
    names: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The losses of all parts at fixed noise levels, (levels, b), with the same level for every part and position.

    The sum of the mean squared error of Gaussian parts, relative to the best linear denoiser, and the mean cross-entropy in
    nats of masked parts. Otherwise as `level_losses`; no position is known."""
    x: Mapping[str, Tensor] = batch.x
    device = first_leaf(x).device
    names = torch.arange(len(first_leaf(x)), device=device) if names is None else names.to(device)
    seeds, losses = mix(torch.full_like(names, seed), names), list[Tensor]()
    with torch.no_grad():
        for i, level in enumerate(log_snr.to(float64_device(device))):
            t = process.schedule.time(level).expand(len(names))
            x_t = process.corrupt(x, t, SampleNoise(seeds=seeds, steps=torch.full_like(names, i)))
            errors = denoiser(x_t, t, batch.condition).error(x)
            total = torch.zeros(len(names), device=device)
            for name, part in process.parts.items():
                scale = 1.0
                if isinstance(part, Gaussian):
                    share = torch.exp(-level) / (torch.exp(-level) + part.sigma_data**2)
                    scale = float(share * part.sigma_data**2)
                total = total + errors[name].flatten(1).mean(1) / scale
            losses.append(total)
    return torch.stack(losses)


def score_losses(
    denoiser: Denoiser[Score], process: SDE, batch: Batch, *, times: Tensor, seed: int = 0, names: Tensor | None = None
) -> Tensor:
    """Denoising score matching loss at fixed times, (times, b), without its irreducible part.

    scale^2 (|s|^2 - 2 s target) / d. Its mean is scale^2 (|s - score|^2 - |score|^2) / d, least at the true score.
    A simulated drift has two targets with opposite noise per sample, which reduces the variance. The loss is a function of
    the weights and (seed, sample name, time) alone."""
    x: Tensor = batch.x
    names = torch.arange(len(x), device=x.device) if names is None else names.to(x.device)
    seeds, losses = mix(torch.full_like(names, seed), names), list[Tensor]()
    with torch.no_grad():
        for i, time in enumerate(times.to(float64_device(x.device))):
            t = time.double().expand(len(x))
            targets = process.score_targets(x, t, SampleNoise(seeds=seeds, steps=torch.full_like(names, i)))
            values: list[Tensor] = []
            for target in targets:
                s = denoiser(target.x_t, t, batch.condition).score
                weight = append_dims(process.scale(t).square(), s).to(s)
                values.append((weight * (s.square() - 2 * s * target.target.score)).flatten(1).mean(1))
            losses.append(torch.stack(values).mean(0))
    return torch.stack(losses)
