"""A denoiser whose mean is projected."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.float64 import to_float64
from langevin.diffusion.posterior import Point
from langevin.diffusion.process import Gaussian
from langevin.modalities.motion.projector.space import Projector, Space


def project(x: Tensor, projectors: Sequence[Projector], space: Space) -> Tensor:
    """x (b, channels, frames, ...), projected by all in turn."""
    for projector in projectors:
        x = projector.project(x, space)
    return x


def projecting(projectors: Sequence[Projector], space: Space, process: object) -> Callable[[Denoiser], Denoiser] | None:
    """What wraps a denoiser (`Draw.wrap`); None without projectors.

    Args:
        space: of one motion; its `given`, (1, frames), is of all, and its `inside` is replaced by that of the samples.
    """
    if not projectors:
        return None
    assert isinstance(process, Gaussian), "motion has a Gaussian process"
    return lambda denoiser: Projected(denoiser=denoiser, process=process, projectors=tuple(projectors), space=space)


@dataclass(frozen=True, kw_only=True, eq=False)
class Projected:
    """`denoiser` with its mean projected where sigma / alpha is at most the projector's `below`.

    With a time per frame, (b, 1, frames), the highest level counts, and frames at t = 0 are given: their estimate is what
    they are."""

    denoiser: Denoiser
    process: Gaussian
    projectors: tuple[Projector, ...]
    space: Space

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Point:
        q = self.denoiser(x_t, t, condition)
        if not isinstance(q, Point):
            raise ValueError("a projector is for continuous data, whose prediction is a mean")
        mask = None if condition is None else condition.data_mask
        frames = x_t.shape[2]
        inside = torch.ones(len(x_t), frames, dtype=torch.bool, device=x_t.device)
        inside = inside if mask is None else mask.flatten(2).any(2) if mask.ndim > 2 else mask
        given = (t.flatten(1).to(x_t.device) == 0) & inside if t.ndim > 1 else torch.zeros_like(inside)
        mean = torch.where(given.view(len(x_t), 1, frames, *(1,) * (x_t.ndim - 3)), x_t, q.mean)
        known = self.space.given.to(x_t.device) if self.space.given.shape[1] == frames else torch.zeros_like(given)
        space = replace(self.space, inside=inside, given=given | known)
        schedule = self.process.schedule
        latest = to_float64(t) if t.ndim == 1 else to_float64(t).flatten(1).amax(1)
        level = (-0.5 * schedule.log_snr(latest)).exp().to(x_t.device)  # sigma / alpha
        for projector in self.projectors:
            on = (level <= projector.below).nonzero()[:, 0]
            if len(on):
                mean = mean.index_copy(0, on, projector.project(mean[on], space.select(on)).to(mean))
        return Point(mean)
