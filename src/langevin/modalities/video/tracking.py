"""Where something moves to: the centre of what differs from the background, followed around the edges of the frame."""

from collections.abc import Collection

import torch
from torch import Tensor

DIRECTIONS = {(0, 1): "right", (0, -1): "left", (1, 0): "down", (-1, 0): "up"}  # by the signs of a step, down and right
AXES = ("left and right", "up and down")


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


def steps(clips: Tensor) -> Tensor:
    """How far the centre goes from each frame to the next, the shorter way around: (n, frames - 1, 2)."""
    return (centres(clips).diff(dim=1) + 0.5) % 1 - 0.5


def velocities(clips: Tensor) -> Tensor:
    """(n, 2): the slope of the centre's way by least squares, down and right, in frames' sides per frame."""
    way = steps(clips).cumsum(1)
    way = torch.cat([torch.zeros_like(way[:, :1]), way], 1)
    t = torch.arange(way.shape[1], dtype=way.dtype)
    t = t - t.mean()
    return (way * t[None, :, None]).sum(1) / t.square().sum()


def directions(clips: Tensor) -> list[str]:
    """The direction of each clip, of `DIRECTIONS`: that of the larger part of its velocity."""
    found = list[str]()
    for down, right in velocities(clips).tolist():
        along = (1 if down > 0 else -1, 0) if abs(down) > abs(right) else (0, 1 if right > 0 else -1)
        found.append(DIRECTIONS[along])
    return found


def axes(clips: Tensor) -> list[str]:
    """The axis along which each clip moves there and back, of `AXES`: that of the longer way."""
    down, right = steps(clips).abs().sum(1).unbind(1)
    return [AXES[int(vertical)] for vertical in down > right]


def follow(clips: Tensor, names: Collection[str]) -> list[str]:
    """What each clip does, in the words of the names: of `AXES`, else of `DIRECTIONS`."""
    return axes(clips) if set(names) <= set(AXES) else directions(clips)
