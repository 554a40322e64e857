"""A denoiser of so many frames for longer samples: at every step it sees the window that is being denoised.

With a scheduling in which few frames are in progress, all others are finished, which need no prediction, or wait. So a step
costs the same for every length of the sample.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition, Port
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.posterior import Point, Prediction


@dataclass(frozen=True, kw_only=True)
class Windowed:
    """`denoiser`, of `frames` frames, for x_t (b, channels, n, ...) of any n >= frames, at t (b, 1, n).

    The window begins `history` frames before the first frame that is not clean. Outside it the prediction is x_t at clean
    frames, and 0 at those that wait.

    Args:
        frames: of the window.
        history: number of clean frames in it, at least 0 and below `frames`; fewer at the beginning of a sample.

    Raises:
        ValueError: such a history, or (when called) fewer frames, other times, a prediction that is not a mean, or the port
            `aligned`.
    """

    denoiser: Denoiser[Prediction]
    frames: int
    history: int

    def __post_init__(self) -> None:
        if not 0 <= self.history < self.frames:
            raise ValueError(
                f"a window of {self.frames} frames has a history of 0 to {self.frames - 1} frames, got {self.history}: "
                "let fewer frames be in progress at once"
            )

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Point:
        n = x_t.shape[2]
        if t.shape != (len(x_t), 1, n) or n < self.frames:
            raise ValueError(
                f"a window of {self.frames} frames moves along longer samples, whose times are (b, 1, frames): got times "
                f"{tuple(t.shape)} and {n} frames"
            )
        finished = (t[:, 0] == 0).long().cumprod(1).sum(1)  # clean frames before the first that is not
        first = (finished - self.history).clamp(0, n - self.frames)
        index = first[:, None] + torch.arange(self.frames, device=first.device)
        q = self.denoiser(_at(x_t, index, 2), _at(t, index, 2), None if condition is None else _cut(condition, index))
        if not isinstance(q, Point):
            raise ValueError("a window of frames is of continuous data, whose prediction is a mean")
        clean = (t == 0).reshape(len(x_t), 1, n, *(1,) * (x_t.ndim - 3)).to(x_t.device)
        return Point(torch.where(clean, x_t, 0).scatter(2, _over(index, q.mean, 2), q.mean))


def _over(index: Tensor, like: Tensor, dim: int) -> Tensor:
    """`index` (b, frames) as an index of `like` along `dim`, the same in all other dimensions."""
    shape = [1] * like.ndim
    shape[0], shape[dim] = index.shape
    return index.to(like.device).reshape(shape).expand_as(like)


def _at(x: Tensor, index: Tensor, dim: int) -> Tensor:
    """The frames `index` (b, frames) of x along `dim`."""
    shape = [1] * x.ndim
    shape[0], shape[dim] = index.shape
    return torch.take_along_dim(x, index.to(x.device).reshape(shape), dim)


def _cut(condition: Condition, index: Tensor) -> Condition:
    """The condition of the frames `index`."""
    if condition.aligned is not None:
        raise ValueError("a sequence in time (the port aligned) is not cut into windows: draw the sample as a whole")

    def port(port: Port | None) -> Port | None:
        return None if port is None else replace(port, tensor=_at(port.tensor, index, 2))

    mask, reference = condition.data_mask, condition.reference
    return replace(
        condition,
        concat=port(condition.concat),
        data_mask=None if mask is None else _at(mask, index, 1),
        reference=None if reference is None else replace(reference, concat=port(reference.concat)),
    )
