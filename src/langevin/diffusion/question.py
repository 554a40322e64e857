"""What a training row is asked: a time, and the data as it is then.

    AtTimes    t from a density, x_t from the process: every process
    Counts     masked symbols, exactly n of a row's L free places, n even on 1 .. L: with t = n / L this is the bound in
               its count form, -ln p <= L E_n[mean cross-entropy of the n], which has no small t to be cut off
    Blocks     the same in every block of places, a count each
    Whole      nothing is hidden: for networks that see of a place only what comes before it

The numbers u of a global batch are a lattice, so that its times or counts cover evenly.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch, Draw
from langevin.diffusion.noise import Noise
from langevin.diffusion.objective import TimeDensity
from langevin.diffusion.process.masked import Masked
from langevin.diffusion.process.terms import Process
from langevin.diffusion.shape import some


class Question(Protocol):
    """(t, x_t) of a batch: t (b,) or (b, places)."""

    def __call__(self, batch: Batch, draw: Draw) -> tuple[Tensor, Any]: ...


@dataclass(frozen=True, kw_only=True)
class AtTimes:
    """x_t as the process corrupts x at times of a density."""

    process: Process
    times: TimeDensity
    schedule: Any = None

    def __call__(self, batch: Batch, draw: Draw) -> tuple[Tensor, Any]:
        t = self.times(draw.u, self.schedule).to(some(batch.x).device)
        return t, self.process.corrupt(batch.x, t, draw.noise.fork(2), batch.known)


def free_places(process: Masked, batch: Batch) -> Tensor:
    """(b, places) bool: places that hold a symbol and are not known."""
    real = batch.x < process.symbols
    return real if batch.known is None else real & ~batch.known


def mask_exactly(process: Masked, x: Tensor, free: Tensor, count: Tensor, noise: Noise) -> Tensor:
    """x with `count` (b,) of its `free` places masked, chosen evenly."""
    order = torch.argsort(torch.where(free, noise.uniform(x), 2.0), dim=1, stable=True)
    rank = torch.argsort(order, dim=1)
    return torch.where(free & (rank < count[:, None]), process.mask, x)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Exactly n masked; rows without a free place have t = 1."""

    process: Masked

    def __call__(self, batch: Batch, draw: Draw) -> tuple[Tensor, Tensor]:
        free = free_places(self.process, batch)
        most = free.sum(1)
        count = torch.minimum(1 + (draw.u.to(most.device) * most).long(), most)
        x_t = mask_exactly(self.process, batch.x, free, count, draw.noise.fork(2))
        return torch.where(most > 0, count.double() / most.clamp_min(1), 1.0), x_t


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """Exactly n masked in each block of `block` places; t is (b, places). A row's blocks cover their counts evenly, too."""

    process: Masked
    block: int

    def __call__(self, batch: Batch, draw: Draw) -> tuple[Tensor, Tensor]:
        b, n = batch.x.shape
        blocks = -(-n // self.block)
        free = free_places(self.process, batch)
        pad = blocks * self.block - n
        cut = torch.nn.functional.pad(free, (0, pad)).view(b, blocks, self.block)
        most = cut.sum(2)
        shift = torch.arange(blocks, device=most.device).double() / blocks
        u = (draw.u.to(most.device)[:, None] + shift) % 1
        count = torch.minimum(1 + (u * most).long(), most)
        score = torch.where(free, draw.noise.fork(2).uniform(batch.x), 2.0)
        score = torch.nn.functional.pad(score, (0, pad), value=2.0).view(b, blocks, self.block)
        rank = torch.argsort(torch.argsort(score, dim=2, stable=True), dim=2)
        hidden = (cut & (rank < count[..., None])).flatten(1)[:, :n]
        share = torch.where(most > 0, count.double() / most.clamp_min(1), 1.0)
        t = share[..., None].expand(-1, -1, self.block).flatten(1)[:, :n]
        return t, torch.where(hidden, self.process.mask, batch.x)


@dataclass(frozen=True, kw_only=True)
class Whole:
    """The data itself, at t = 1."""

    def __call__(self, batch: Batch, draw: Draw) -> tuple[Tensor, Tensor]:
        return torch.ones(len(batch.x), dtype=torch.float64, device=batch.x.device), batch.x
