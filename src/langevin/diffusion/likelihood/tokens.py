"""Negative log-likelihood of token sequences in nats: the bound by counts or by times, and the chain rule along an order.

count_bound   masked: L E_n[mean cross-entropy of n masked positions], n uniform on 1 .. L
time_bound    any discrete process: the integral of its bound over t, by stratified times
in_order      masked, one position at a time: L function evaluations, no variance. The exact negative log-likelihood of
              decoding in that order; its mean over all orders is the bound.
whole         autoregressive: one function evaluation
"""

from collections.abc import Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from langevin.diffusion.batch import Batch
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.float64 import float64_device, to_float64
from langevin.diffusion.noise import SampleNoise, mix
from langevin.diffusion.process.interpolating import Discrete
from langevin.diffusion.process.masked import Masked
from langevin.diffusion.training_input import free_positions, mask_exactly


def _streams(seed: int, names: Tensor) -> Tensor:
    return mix(torch.full_like(names, seed), names)


def count_bound(
    denoiser: Denoiser, process: Masked, batch: Batch, *, names: Tensor, draws: int, seed: int = 0
) -> Tensor:
    """(b,) nats: an unbiased estimate of the bound of each sample's free positions, from `draws` stratified counts.

    `names` (b,) int64 name the noise of the samples; other `seed`s give independent estimates, for a standard error."""
    free = free_positions(process, batch)
    num_free, streams = free.sum(1), _streams(seed, names.to(free.device))
    zero = torch.zeros_like(streams)
    u = SampleNoise(seeds=streams, steps=zero - 1).uniform(torch.empty(len(num_free), 1))[:, 0].to(free.device)
    total = torch.zeros(len(num_free), dtype=torch.float64, device=free.device)
    with torch.no_grad():
        for k in range(draws):
            count = torch.minimum(1 + (((u + k) / draws % 1) * num_free).long(), num_free)
            x_t = mask_exactly(process, batch.x, free, count, SampleNoise(seeds=streams, steps=zero + k))
            q = denoiser(x_t, to_float64(count) / num_free.clamp_min(1), batch.condition)
            hidden = x_t == process.mask
            error = to_float64(torch.where(hidden, q.error(torch.where(hidden, batch.x, 0)), 0.0))
            total += num_free * error.sum(1) / count.clamp_min(1)
    return total / draws


def time_bound(
    denoiser: Denoiser, process: Discrete, batch: Batch, *, names: Tensor, draws: int, seed: int = 0,
    low: float = 1e-4, high: float = 1 - 1e-4,
) -> Tensor:  # fmt: skip
    """(b,) nats: the integral of the bound over [low, high] by `draws` stratified times; the rest of [0, 1] is left out."""
    known = torch.zeros_like(batch.x, dtype=torch.bool) if batch.known is None else batch.known
    streams = _streams(seed, names.to(float64_device(batch.x.device)))
    zero = torch.zeros_like(streams)
    u = SampleNoise(seeds=streams, steps=zero - 1).uniform(torch.empty(len(streams), 1))[:, 0].to(streams.device)
    total = torch.zeros(len(streams), dtype=torch.float64, device=streams.device)
    with torch.no_grad():
        for k in range(draws):
            t = low + (high - low) * ((u + k) / draws % 1)
            x_t = process.corrupt(batch.x, t, SampleNoise(seeds=streams, steps=zero + k), known)
            terms = process.bound(denoiser(x_t, t, batch.condition), batch.x, x_t, t)
            nats: Tensor = terms.diffusion
            total += torch.where(known.to(nats.device), 0.0, nats).sum(1)
    return (high - low) * total / draws


def in_order(
    denoiser: Denoiser, process: Masked, batch: Batch, *, order: Literal["left", "random"] = "left", seed: int = 0,
    names: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """(b,) nats: -sum ln p(x_i | those before it in the order), one function evaluation per position."""
    names = torch.arange(len(batch.x)) if names is None else names
    free = free_positions(process, batch)
    streams = _streams(seed, names.to(free.device))
    u = SampleNoise(seeds=streams, steps=torch.zeros_like(streams)).uniform(batch.x)
    position = torch.arange(batch.x.shape[1], device=free.device).double().expand_as(u)
    rank = torch.argsort(torch.argsort(torch.where(free, position if order == "left" else u, torch.inf), dim=1), dim=1)
    num_free, total = free.sum(1), torch.zeros(len(u), dtype=torch.float64, device=free.device)
    with torch.no_grad():
        for k in range(int(num_free.max())):
            hidden = free & (rank >= k)
            x_t = torch.where(hidden.to(batch.x.device), process.mask, batch.x)
            q = denoiser(x_t, to_float64(hidden.sum(1)) / num_free.clamp_min(1), batch.condition)
            now = (free & (rank == k)).to(batch.x.device)
            total += to_float64(torch.where(now, q.error(torch.where(now, batch.x, 0)), 0.0)).sum(1)
    return total


def at_shares(
    denoiser: Denoiser, process: Masked, batch: Batch, *, shares: Tensor, names: Tensor, seed: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """For each fraction of `shares` of the free positions: which are masked, (b, positions), and the logits there, (m, V).

    Which positions are masked depends on (seed, name of the sample, index of the share) alone."""
    free = free_positions(process, batch)
    num_free, streams = free.sum(1), _streams(seed, names.to(free.device))
    with torch.no_grad():
        for i in range(len(shares)):
            count = torch.ceil(shares[i] * num_free).long()
            x_t = mask_exactly(
                process, batch.x, free, count, SampleNoise(seeds=streams, steps=torch.full_like(streams, i))
            )
            q: Any = denoiser(x_t, to_float64(count) / num_free.clamp_min(1), batch.condition)
            hidden = x_t == process.mask
            yield hidden, q.logits_at(hidden)


def share_losses(denoiser: Denoiser, process: Masked, batch: Batch, *, shares: Tensor, names: Tensor) -> Tensor:
    """(shares, b): mean cross-entropy at masked positions in nats, with each of `shares` of the free positions masked."""
    losses: list[Tensor] = []
    for hidden, logits in at_shares(denoiser, process, batch, shares=shares, names=names):
        nats = F.cross_entropy(logits, batch.x[hidden], reduction="none")
        error = torch.zeros_like(batch.x, dtype=nats.dtype).masked_scatter(hidden, nats)
        losses.append(error.sum(1) / hidden.sum(1).clamp_min(1))
    return torch.stack(losses)


def time_losses(denoiser: Denoiser, process: Discrete, batch: Batch, *, times: Tensor, names: Tensor) -> Tensor:
    """(times, b): mean cross-entropy of x given x_t in nats, over the positions that are not known, at fixed times."""
    known = torch.zeros_like(batch.x, dtype=torch.bool) if batch.known is None else batch.known
    free = (batch.x < process.vocab_size) & ~known
    streams = _streams(0, names.to(float64_device(batch.x.device)))
    losses: list[Tensor] = []
    with torch.no_grad():
        for i, time in enumerate(times):
            t = time.expand(len(batch.x)).to(streams.device)
            x_t = process.corrupt(batch.x, t, SampleNoise(seeds=streams, steps=torch.full_like(streams, i)), known)
            error = denoiser(x_t, t, batch.condition).error(torch.where(free, batch.x, 0))
            losses.append(torch.where(free, error, 0.0).sum(1) / free.sum(1).clamp_min(1))
    return torch.stack(losses)


def whole(denoiser: Denoiser, batch: Batch) -> Tensor:
    """(b,) nats of an autoregressive model, summed over the positions of `batch.mask`: one function evaluation."""
    counted = torch.ones_like(batch.x, dtype=torch.bool) if batch.mask is None else batch.mask
    one = torch.ones(len(batch.x), dtype=torch.float64, device=float64_device(batch.x.device))
    with torch.no_grad():
        error = denoiser(batch.x, one, batch.condition).error(torch.where(counted, batch.x, 0))
    return to_float64(torch.where(counted, error, 0.0)).sum(1)
