"""Where something moves to: the centre of what differs from the background, followed around the edges of the frame."""

import torch
from torch import Tensor

from langevin.modalities.video.moving_digits import DIRECTIONS


def centres(clips: Tensor) -> Tensor:
    """The centres (n, frames, 2), down and right, in parts of a turn around the frame, of clips uint8 (n, frames, channels,
    side, side). The background is the commonest brightness.

    A mean of angles: exp(2 pi i y / side), weighed by the difference from the background."""
    values = clips.float().mean(2)
    background = values.flatten(1).median(1).values[:, None, None, None]
    mass = (values - background).abs()
    side = mass.shape[-1]
    angle = torch.exp(2j * torch.pi * torch.arange(side) / side)
    down = (mass.sum(3) * angle).sum(2).angle()
    right = (mass.sum(2) * angle).sum(2).angle()
    return torch.stack([down, right], 2) / (2 * torch.pi)


def velocities(clips: Tensor) -> Tensor:
    """(n, 2): the slope of the centre's way by least squares, down and right, in frames' sides per frame."""
    way = centres(clips)
    step = (way.diff(dim=1) + 0.5) % 1 - 0.5  # the shorter way around
    way = torch.cat([torch.zeros_like(step[:, :1]), step.cumsum(1)], 1)
    t = torch.arange(way.shape[1], dtype=way.dtype)
    t = t - t.mean()
    return (way * t[None, :, None]).sum(1) / t.square().sum()


def directions(clips: Tensor) -> list[str]:
    """The direction of each clip, of `DIRECTIONS`: that of the larger part of its velocity."""
    names = {(0, 1): "right", (0, -1): "left", (1, 0): "down", (-1, 0): "up"}
    assert set(names.values()) == set(DIRECTIONS)
    found = list[str]()
    for down, right in velocities(clips).tolist():
        along = (1 if down > 0 else -1, 0) if abs(down) > abs(right) else (0, 1 if right > 0 else -1)
        found.append(names[along])
    return found
