"""Motions as training examples: windows of encoded clips, padded under a data mask."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from langevin.diffusion.batch import Batch
from langevin.diffusion.noise import SampleNoise
from langevin.modalities.motion.codec import AnyCodec
from langevin.modalities.motion.conditions import Known
from langevin.modalities.motion.data import Motions

OVERLAP = 2  # windows that cover a frame, about


@dataclass(frozen=True, kw_only=True, eq=False)
class MotionBatches:
    """Encoded windows by index.

    A clip that is longer than the window gives several examples; with noise, their starts are drawn.

    Args:
        window: frames of an example.
        known: actions and words that the network is conditioned on.
    """

    dataset: Motions
    codec: AnyCodec
    window: int
    known: Known
    device: torch.device = torch.device("cpu")
    remarks: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.codec.channels, self.window, *self.codec.space)

    @cached_property
    def windows(self) -> list[tuple[int, int]]:
        """(clip, first frame) of each example."""
        found = list[tuple[int, int]]()
        for clip, frames in enumerate(self.dataset.lengths.tolist()):
            room = max(0, frames - self.window)
            count = 1 + -(-OVERLAP * room // self.window)
            found += [(clip, i * room // max(1, count - 1)) for i in range(count)]
        return found

    @cached_property
    def encoded(self) -> list[Tensor]:
        """Each clip as x (channels, frames, ...)."""
        return [self.codec.encode(clip, self.dataset.rate) for clip in self.dataset.clips]

    def __len__(self) -> int:
        return len(self.windows)

    def clip_of(self, items: Tensor) -> list[int]:
        """The clip of each example."""
        return [self.windows[i][0] for i in items.tolist()]

    def spans(self, items: Tensor, noise: SampleNoise | None = None) -> list[tuple[int, int, int]]:
        """(clip, first frame, end) of each example."""
        u = [0.0] * len(items) if noise is None else noise.fork(3).uniform(torch.empty(len(items), 1))[:, 0].tolist()
        found = list[tuple[int, int, int]]()
        for item, v in zip(items.tolist(), u, strict=True):
            clip, start = self.windows[item]
            frames = len(self.dataset.clips[clip])
            if noise is not None:
                start = int(v * (max(0, frames - self.window) + 1))
            found.append((clip, start, min(frames, start + self.window)))
        return found

    def __call__(self, items: Tensor, noise: SampleNoise | None = None) -> Batch:
        """The examples at `items` (b,); without noise, windows are a function of the item."""
        spans = self.spans(items, noise)
        x = stacked([self.encoded[clip][:, start:end] for clip, start, end in spans], self.window)
        mask = mask_of([end - start for _, start, end in spans], self.window, self.codec.space)
        condition = self.known.port(self.known.of(self.dataset, [clip for clip, _, _ in spans]), mask)
        if self.device.type != "cpu":
            x, condition = x.to(self.device), condition.to(self.device)
        return Batch(x=x, condition=condition)


def stacked(parts: Sequence[Tensor], frames: int) -> Tensor:
    """x (b, channels, frames, ...) of parts (channels, f, ...), with zeros after shorter ones."""
    return torch.stack([F.pad(part, (*(0, 0) * (part.ndim - 2), 0, frames - part.shape[1])) for part in parts])


def mask_of(lengths: Sequence[int], frames: int, space: tuple[int, ...]) -> Tensor:
    """The data mask (b, frames, *space) bool of examples of which the first `lengths` frames are data."""
    inside = torch.arange(frames) < torch.tensor(lengths)[:, None]
    return inside.view(len(lengths), frames, *(1,) * len(space)).expand(-1, -1, *space)
