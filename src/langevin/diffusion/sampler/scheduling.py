"""Which frames of a sample are denoised when: a delay per frame, in steps of one grid T_0 > ... > T_n = 0.

At step k frame f is at time T[clip(k - delay_f, 0, n)]. Known frames are at time 0 from the beginning, and the others are
counted from 0:

    full_sequence    delay_f = 0                   n steps
    autoregressive   delay_f = n floor(f / c)      n ceil(F / c) steps, c frames at a time
    pyramid          delay_f = d f                 n + d (F - 1) steps; d = n is autoregressive with c = 1
    rolling          delay_f = round(n f / W)      W frames in progress, each noisier than the one before

("Diffusion Forcing: Next-token Prediction Meets Full-Sequence Diffusion", 2024, arXiv:2407.01392; "Rolling Diffusion
Models", 2024, arXiv:2402.09470; "FIFO-Diffusion: Generating Infinite Videos from Text without Training", 2024,
arXiv:2405.11473, is rolling with W = n.)
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor


class Scheduling(Protocol):
    """When the frames of a sample are denoised; a frozen dataclass with a `kind`."""

    def delays(self, frames: Tensor, steps: Tensor) -> Tensor:
        """The delay in steps of frames that are counted from 0, int64; `steps` is the grid's n, broadcast to `frames`."""
        ...

    def in_progress(self, steps: int) -> int | None:
        """The largest number of frames between noise and data at once; None: all."""
        ...


@dataclass(frozen=True, kw_only=True)
class FullSequence:
    """All frames at the same time."""

    kind: Literal["full_sequence"] = "full_sequence"

    def delays(self, frames: Tensor, steps: Tensor) -> Tensor:
        return torch.zeros_like(frames)

    def in_progress(self, steps: int) -> int | None:
        return None


@dataclass(frozen=True, kw_only=True)
class Autoregressive:
    """Chunks of frames, one after another.

    Args:
        chunk: c, the number of frames that are denoised together.
    """

    kind: Literal["autoregressive"] = "autoregressive"
    chunk: int = 4

    def __post_init__(self) -> None:
        _require_positive("chunk", self.chunk)

    def delays(self, frames: Tensor, steps: Tensor) -> Tensor:
        return steps * (frames // self.chunk)

    def in_progress(self, steps: int) -> int | None:
        return self.chunk


@dataclass(frozen=True, kw_only=True)
class Pyramid:
    """Each frame begins some steps after the one before.

    Args:
        delay: d, in steps.
    """

    kind: Literal["pyramid"] = "pyramid"
    delay: int = 2

    def __post_init__(self) -> None:
        if self.delay < 0:
            raise ValueError(f"scheduling.delay is a number of steps, at least 0, got {self.delay}")

    def delays(self, frames: Tensor, steps: Tensor) -> Tensor:
        return self.delay * frames

    def in_progress(self, steps: int) -> int | None:
        return -(-steps // self.delay) if self.delay else None


@dataclass(frozen=True, kw_only=True)
class Rolling:
    """A window of frames in progress, the first almost clean and the last almost noise, that moves along the sample.

    Args:
        window: W, the number of frames in progress.
    """

    kind: Literal["rolling"] = "rolling"
    window: int = 6

    def __post_init__(self) -> None:
        _require_positive("window", self.window)

    def delays(self, frames: Tensor, steps: Tensor) -> Tensor:
        return (2 * steps * frames + self.window) // (2 * self.window)

    def in_progress(self, steps: int) -> int | None:
        return self.window  # delay_{f + W} = delay_f + n


AnyScheduling = FullSequence | Autoregressive | Pyramid | Rolling


def times_per_frame(times: Tensor, known: Tensor, steps: Tensor, scheduling: AnyScheduling) -> Tensor:
    """The times of every frame, (b, m + 1, frames) float64; 0 throughout for known frames, else falling to the grid's end.

    Args:
        times: the grids, (b, n + 1); shorter grids repeat their last time.
        known: (b, frames) bool.
        steps: (b,) int64, the number of steps of each grid.
    """
    n = times.shape[1] - 1
    order = (~known).cumsum(1) - 1
    delays = torch.where(known, 0, scheduling.delays(order.clamp_min(0), steps[:, None].expand_as(order)))
    k = torch.arange(n + int(delays.max()) + 1, device=times.device)
    index = (k[None, :, None] - delays[:, None]).clamp(0, n)
    return torch.where(known[:, None], 0.0, torch.take_along_dim(times[..., None], index, 1))


def _require_positive(name: str, frames: int) -> None:
    if frames < 1:
        raise ValueError(f"scheduling.{name} is a number of frames, at least 1, got {frames}")
