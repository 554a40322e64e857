"""Feet that stand still where they touch the ground, and do not sink into it.

minimise |x - y|^2 + hold^2 |R(x)|^2, where R are the ways of feet between frames of contact, and their depths below the
ground: Gauss-Newton, with the linear equations solved by conjugate gradients in products with J and J' alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from langevin.modalities.motion.codec import Poses
from langevin.modalities.motion.projector.space import Space, kept, require_below


@dataclass(frozen=True, kw_only=True)
class Feet:
    """Foot lock. A foot is in contact where it is lower and slower than feet of the training data that stand.

    Args:
        below: the noise level sigma / alpha up to which the estimate is projected.
        hold: how much the feet weigh against the distance, the larger the stiller; in sizes of the skeleton.
        iterations: of Gauss-Newton.
    """

    kind: Literal["feet"] = "feet"
    below: float = 0.05
    hold: float = 200.0
    iterations: int = 1

    def __post_init__(self) -> None:
        require_below(self.below)
        if not 0 < self.hold <= 1e6 or not 1 <= self.iterations <= 100:
            raise ValueError(
                f"the projector feet has hold above 0 and 1 to 100 iterations, got {self.hold} and {self.iterations}"
            )

    def project(self, x: Tensor, space: Space) -> Tensor:
        codec = space.codec
        if not isinstance(codec, Poses):
            raise ValueError("the projector feet is for skeletons: states have no feet")
        feet, size = list(codec.feet), codec.known.height
        y = x.float()
        still, floor = contacts(codec, y, space), codec.ground

        def residuals(x: Tensor) -> Tensor:
            p = codec.positions(x, space.rate)[..., feet, :]
            moved = (p[:, 1:] - p[:, :-1])[..., [0, 2]] * still[..., None]
            sunk = (p[..., 1] - floor).clamp_max(0) * space.inside[..., None]
            return self.hold / size * torch.cat([moved.flatten(1), sunk.flatten(1)], 1)

        free = kept(torch.zeros_like(y), torch.ones_like(y), space)
        return kept(x, nearest(y, residuals, free, iterations=self.iterations).to(x), space)


def contacts(codec: Poses, x: Tensor, space: Space) -> Tensor:
    """Where a foot stands between a frame and the next, (b, frames - 1, feet) float: low, and slow."""
    with torch.no_grad():
        p = codec.positions(x, space.rate)[..., list(codec.feet), :]
    speed = (p[:, 1:] - p[:, :-1])[..., [0, 2]].norm(dim=-1) * space.rate
    low = torch.maximum(p[:, 1:, :, 1], p[:, :-1, :, 1]) < codec.contact_height
    inside = space.inside[:, 1:] & space.inside[:, :-1]
    return (low & (speed < 2 * codec.contact_speed) & inside[..., None]).to(x)


def nearest(
    y: Tensor, residuals: Callable[[Tensor], Tensor], free: Tensor, *, iterations: int, inner: int = 10
) -> Tensor:
    """x that minimises |x - y|^2 + |R(x)|^2 over the elements of y (b, ...) where `free` is 1.

    Args:
        residuals: R, (b, ...) -> (b, n), each sample by itself.
        inner: iterations of conjugate gradients.
    """
    x = y
    for _ in range(iterations):
        r, back, forth = linearised(residuals, x)
        target = free * (y - x - back(r))  # (1 + J'J) step = y - x - J' R
        x = x + conjugate_gradients(lambda v: v + free * back(forth(v)), target, inner)  # noqa: B023
    return x


def linearised(
    function: Callable[[Tensor], Tensor], x: Tensor
) -> tuple[Tensor, Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """R(x), and products u -> J' u and v -> J v: J' u is linear in u, so its transpose is J."""
    with torch.enable_grad():
        at = x.detach().requires_grad_()
        r = function(at)
        u = torch.zeros_like(r, requires_grad=True)
        (transposed,) = torch.autograd.grad(r, at, u, create_graph=True)

    def back(u: Tensor) -> Tensor:
        return torch.autograd.grad(r, at, u, retain_graph=True)[0]

    def forth(v: Tensor) -> Tensor:
        return torch.autograd.grad(transposed, u, v, retain_graph=True)[0]

    return r.detach(), back, forth


def conjugate_gradients(times: Callable[[Tensor], Tensor], b: Tensor, iterations: int) -> Tensor:
    """The solution of A x = b (samples, ...) for a positive A, sample by sample."""

    def dot(u: Tensor, v: Tensor) -> Tensor:
        return (u * v).flatten(1).sum(1).view(-1, *(1,) * (u.ndim - 1))

    x, r = torch.zeros_like(b), b
    p, size = r, dot(r, r)
    for _ in range(iterations):
        ap = times(p)
        step = size / dot(p, ap).clamp_min(1e-20)
        x, r = x + step * p, r - step * ap
        new = dot(r, r)
        p, size = r + new / size.clamp_min(1e-20) * p, new
    return x
