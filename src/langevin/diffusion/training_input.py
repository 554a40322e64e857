"""Training inputs: a time t per sample or position, and the corrupted data x_t.

The uniforms u of a global batch are a lattice, so its times or counts cover their range evenly.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch, StepRandomness
from langevin.diffusion.float64 import float64_device, to_float64
from langevin.diffusion.levels import AnyLevels, times_per_frame
from langevin.diffusion.noise import Noise
from langevin.diffusion.objective import TimeDensity
from langevin.diffusion.process.masked import Masked
from langevin.diffusion.process.product import Product
from langevin.diffusion.process.terms import Process
from langevin.diffusion.shape import append_dims, first_leaf
from langevin.diffusion.warp import TimeWarps


class TrainingInput(Protocol):
    """How the examples of a batch are corrupted for training."""

    def __call__(self, batch: Batch, draw: StepRandomness) -> tuple[Any, Any]:
        """(t, x_t): times (b,), (b, positions) or (b, 1, frames), float64 on `float64_device`, and x_t, shaped like x. The
        times of data in parts may be a mapping too.

        A function of the batch and the draw alone; `batch.known` is never corrupted."""
        ...


@dataclass(frozen=True, kw_only=True)
class NoiseAtTime:
    """t from a time density, and x_t ~ q(x_t | x), for every process.

    Args:
        levels: how the times of the frames of x (b, channels, frames, ...) depend on each other; empty: one for all.
    """

    process: Process
    times: TimeDensity
    schedule: Any = None
    levels: tuple[AnyLevels, ...] = ()

    def __call__(self, batch: Batch, draw: StepRandomness) -> tuple[Tensor, Any]:
        if self.levels:
            frames = batch.x.shape[2]
            t = times_per_frame(self.levels, self.times, self.schedule, draw.u, frames, draw.noise.fork(3))[:, None]
        else:
            t = self.times(draw.u, self.schedule)
        t = t.to(float64_device(first_leaf(batch.x).device))
        return t, self.process.corrupt(batch.x, t, draw.corruption, batch.known)


@dataclass(frozen=True, kw_only=True)
class NoiseAtOwnTimes:
    """For data of parts: a common t from a time density, the times of all positions from it by `warps`, 0 where a position
    is known, and x_t ~ q(x_t | x).

    Args:
        levels: how the common times of the parts depend on each other; empty: one for all.
    """

    process: Product
    times: TimeDensity
    warps: TimeWarps
    levels: tuple[AnyLevels, ...] = ()

    def __call__(self, batch: Batch, draw: StepRandomness) -> tuple[dict[str, Tensor], Any]:
        schedule, parts = self.process.schedule, len(self.process.parts)
        common = self.times(draw.u, schedule)
        if self.levels:
            common = times_per_frame(self.levels, self.times, schedule, draw.u, parts, draw.noise.fork(3))
        common = common.to(float64_device(first_leaf(batch.x).device))
        own = common.unbind(1) if self.levels else (common,) * parts
        times: dict[str, Tensor] = self.warps(dict(zip(self.process.parts, own, strict=True)))
        known: Mapping[str, Tensor] = batch.known or {}
        for name, part in known.items():
            at = part.to(common.device)
            times[name] = torch.where(at, 0.0, append_dims(times[name], at))
        return times, self.process.corrupt(batch.x, times, draw.corruption, known)


def free_positions(process: Masked, batch: Batch) -> Tensor:
    """(b, positions) bool: positions that hold a token and are not known; on `float64_device(x.device)`."""
    real = batch.x < process.vocab_size
    free: Tensor = real if batch.known is None else real & ~batch.known
    return free.to(float64_device(free.device))


def mask_exactly(process: Masked, x: Tensor, free: Tensor, count: Tensor, noise: Noise) -> Tensor:
    """x with `count` (b,) of its `free` positions (b, positions) masked, chosen uniformly."""
    score = noise.uniform(x)
    order = torch.argsort(torch.where(free, score, 2.0), dim=1, stable=True)
    chosen = free & (torch.argsort(order, dim=1) < count[:, None])
    return torch.where(chosen.to(x.device), process.mask, x)


@dataclass(frozen=True, kw_only=True)
class MaskByCount:
    """Exactly n of a sample's L free positions masked, n uniform on 1 .. L, and t = n / L; t = 1 if L = 0.

    The bound in this form, -ln p <= L E_n[mean cross-entropy of the n], needs no cut-off at small t. "Your Absorbing
    Discrete Diffusion Secretly Models the Conditional Distributions of Clean Data" (2024, arXiv:2406.03736)."""

    process: Masked

    def __call__(self, batch: Batch, draw: StepRandomness) -> tuple[Tensor, Tensor]:
        free = free_positions(self.process, batch)
        num_free = free.sum(1)
        count = torch.minimum(1 + (draw.u.to(num_free.device) * num_free).long(), num_free)
        x_t = mask_exactly(self.process, batch.x, free, count, draw.corruption)
        return torch.where(num_free > 0, to_float64(count) / num_free.clamp_min(1), 1.0), x_t


@dataclass(frozen=True, kw_only=True)
class MaskByCountPerBlock:
    """As `MaskByCount`, with a count n for each block of `block` positions; t is (b, positions).

    The counts of a sample's blocks are a lattice.

    "Block Diffusion: Interpolating Between Autoregressive and Diffusion Language Models" (2025, arXiv:2503.09573)."""

    process: Masked
    block: int

    def __call__(self, batch: Batch, draw: StepRandomness) -> tuple[Tensor, Tensor]:
        b, n = batch.x.shape
        blocks = -(-n // self.block)
        free = free_positions(self.process, batch)
        pad = blocks * self.block - n
        cut = torch.nn.functional.pad(free, (0, pad)).view(b, blocks, self.block)
        num_free = cut.sum(2)
        shift = to_float64(torch.arange(blocks, device=num_free.device)) / blocks
        u = (draw.u.to(num_free.device)[:, None] + shift) % 1
        count = torch.minimum(1 + (u * num_free).long(), num_free)
        score = torch.where(free, draw.corruption.uniform(batch.x), 2.0)
        score = torch.nn.functional.pad(score, (0, pad), value=2.0).view(b, blocks, self.block)
        rank = torch.argsort(torch.argsort(score, dim=2, stable=True), dim=2)
        hidden = (cut & (rank < count[..., None])).flatten(1)[:, :n]
        t = torch.where(num_free > 0, to_float64(count) / num_free.clamp_min(1), 1.0)
        t = t[..., None].expand(-1, -1, self.block).flatten(1)[:, :n]
        return t, torch.where(hidden.to(batch.x.device), self.process.mask, batch.x)


@dataclass(frozen=True, kw_only=True)
class Uncorrupted:
    """The clean data, at t = 1: for autoregressive networks, whose causal attention hides each target."""

    def __call__(self, batch: Batch, draw: StepRandomness) -> tuple[Tensor, Tensor]:
        return torch.ones(len(batch.x), dtype=torch.float64, device=float64_device(batch.x.device)), batch.x
