"""What a model of symbols says of given rows, in nats: the bound by counts or by times, and the chain rule of an order.

count    masked: L E_n[mean cross-entropy of n masked places], n even on 1 .. L; the mean over all orders
time     any discrete process: the integral of its bound over t, by stratified draws
order    masked, one place after another in an order: L calls, no variance; the exact negative log-likelihood of the
         decoder that writes in this order. That of the best order is below the mean over orders, which is the bound.
"""

from collections.abc import Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from langevin.diffusion.batch import Batch
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.noise import RowNoise, mix
from langevin.diffusion.process.arrival import Discrete
from langevin.diffusion.process.masked import Masked
from langevin.diffusion.question import free_places, mask_exactly


def _streams(seed: int, names: Tensor) -> Tensor:
    return mix(torch.full_like(names, seed), names)


def count_bound(
    denoiser: Denoiser, process: Masked, batch: Batch, *, names: Tensor, draws: int, seed: int = 0
) -> Tensor:
    """(b,) nats: an unbiased estimate of the bound of each row's free places, from `draws` stratified counts.

    `names` (b,) int64 name the rows' randomness; independent `seed`s give independent estimates, for a standard error."""
    free = free_places(process, batch)
    most, streams = free.sum(1), _streams(seed, names.to(free.device))
    zero = torch.zeros_like(streams)
    u = RowNoise(seeds=streams, steps=zero - 1).uniform(torch.empty(len(most), 1))[:, 0].to(free.device)
    total = torch.zeros(len(most), dtype=torch.float64, device=free.device)
    with torch.no_grad():
        for k in range(draws):
            count = torch.minimum(1 + (((u + k) / draws % 1) * most).long(), most)
            x_t = mask_exactly(process, batch.x, free, count, RowNoise(seeds=streams, steps=zero + k))
            q = denoiser(x_t, count.double() / most.clamp_min(1), batch.condition)
            hidden = x_t == process.mask
            error = torch.where(hidden, q.error(torch.where(hidden, batch.x, 0)).double(), 0.0)
            total += most * error.sum(1) / count.clamp_min(1)
    return total / draws


def time_bound(
    denoiser: Denoiser, process: Discrete, batch: Batch, *, names: Tensor, draws: int, seed: int = 0,
    low: float = 1e-4, high: float = 1 - 1e-4,
) -> Tensor:  # fmt: skip
    """(b,) nats: the bound's integral over [low, high] by `draws` stratified times; what lies outside is left out."""
    known = torch.zeros_like(batch.x, dtype=torch.bool) if batch.known is None else batch.known
    streams = _streams(seed, names.to(batch.x.device))
    zero = torch.zeros_like(streams)
    u = RowNoise(seeds=streams, steps=zero - 1).uniform(torch.empty(len(streams), 1))[:, 0].to(batch.x.device)
    total = torch.zeros(len(streams), dtype=torch.float64, device=batch.x.device)
    with torch.no_grad():
        for k in range(draws):
            t = low + (high - low) * ((u + k) / draws % 1)
            x_t = process.corrupt(batch.x, t, RowNoise(seeds=streams, steps=zero + k), known)
            terms = process.bound(denoiser(x_t, t, batch.condition), batch.x, x_t, t)
            each: Tensor = terms.diffusion
            total += torch.where(known, 0.0, each).sum(1)
    return (high - low) * total / draws


def in_order(
    denoiser: Denoiser, process: Masked, batch: Batch, *, order: Literal["left", "random"] = "left", seed: int = 0,
    names: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """(b,) nats: -sum ln p(x_i | those before it in the order), one call a place."""
    rows = torch.arange(len(batch.x)) if names is None else names
    free = free_places(process, batch)
    streams = _streams(seed, rows.to(free.device))
    u = RowNoise(seeds=streams, steps=torch.zeros_like(streams)).uniform(batch.x)
    place = torch.arange(batch.x.shape[1], device=free.device).double().expand_as(u)
    rank = torch.argsort(torch.argsort(torch.where(free, place if order == "left" else u, torch.inf), dim=1), dim=1)
    most, total = free.sum(1), torch.zeros(len(u), dtype=torch.float64, device=free.device)
    with torch.no_grad():
        for k in range(int(most.max())):
            hidden = free & (rank >= k)
            x_t = torch.where(hidden, process.mask, batch.x)
            q = denoiser(x_t, hidden.sum(1).double() / most.clamp_min(1), batch.condition)
            now = free & (rank == k)
            total += torch.where(now, q.error(torch.where(now, batch.x, 0)).double(), 0.0).sum(1)
    return total


def at_shares(
    denoiser: Denoiser, process: Masked, batch: Batch, *, shares: Tensor, names: Tensor, seed: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """For each share of masked places: where they are (b, places), and the logits there (m, symbols), in order.

    A function of (seed, row name, share) alone."""
    free = free_places(process, batch)
    most, streams = free.sum(1), _streams(seed, names.to(free.device))
    with torch.no_grad():
        for i in range(len(shares)):
            count = torch.ceil(shares[i] * most).long()
            x_t = mask_exactly(
                process, batch.x, free, count, RowNoise(seeds=streams, steps=torch.full_like(streams, i))
            )
            q: Any = denoiser(x_t, count.double() / most.clamp_min(1), batch.condition)
            hidden = x_t == process.mask
            yield hidden, q.at(hidden)


def share_losses(denoiser: Denoiser, process: Masked, batch: Batch, *, shares: Tensor, names: Tensor) -> Tensor:
    """(shares, b): mean cross-entropy of the masked places, nats a place, with each share of the free places masked."""
    losses: list[Tensor] = []
    for hidden, logits in at_shares(denoiser, process, batch, shares=shares, names=names):
        nats = F.cross_entropy(logits, batch.x[hidden], reduction="none")
        error = torch.zeros_like(batch.x, dtype=nats.dtype).masked_scatter(hidden, nats)
        losses.append(error.sum(1) / hidden.sum(1).clamp_min(1))
    return torch.stack(losses)


def whole(denoiser: Denoiser, batch: Batch) -> Tensor:
    """(b,) nats of an autoregressive model's free places: one call."""
    free = torch.ones_like(batch.x, dtype=torch.bool) if batch.mask is None else batch.mask
    one = torch.ones(len(batch.x), dtype=torch.float64, device=batch.x.device)
    with torch.no_grad():
        error = denoiser(batch.x, one, batch.condition).error(torch.where(free, batch.x, 0))
    return torch.where(free, error.double(), 0.0).sum(1)
