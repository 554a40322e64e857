"""The nearest trajectory of a system, by Gauss-Newton on its equation between frames.

minimise |theta - y|^2 subject to r(theta) = 0 (`systems.system.residual`): with the equation linearised at theta, J = dr /
dtheta and g = y - theta, the nearest point is theta + g + W J' (J W J' + eps)^-1 (-r - J g), W the squared scales of the
columns; from there on again. Unlike shooting, from the initial state alone, it does not get lost over long trajectories.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from langevin.diffusion.float64 import to_float64
from langevin.modalities.motion.codec import States
from langevin.modalities.motion.projector.space import Space, kept, require_below
from langevin.modalities.motion.systems import AnySystem
from langevin.modalities.motion.systems.system import residual

RIDGE = 1e-9  # eps, of the mean diagonal of J W J'
AT_ONCE = 2**24  # numbers of the matrices of motions that are solved together


@dataclass(frozen=True, kw_only=True)
class Dynamics:
    """Trajectories that obey the equation of motion of `data.source`.

    Args:
        below: the noise level sigma / alpha up to which the estimate is projected.
        iterations: of Gauss-Newton, at most.
    """

    kind: Literal["dynamics"] = "dynamics"
    below: float = 0.3
    iterations: int = 10

    def __post_init__(self) -> None:
        require_below(self.below)
        if not 1 <= self.iterations <= 1000:
            raise ValueError(f"a projector has 1 to 1,000 iterations, got {self.iterations}")

    def project(self, x: Tensor, space: Space) -> Tensor:
        codec, system = space.codec, space.system
        if system is None or not isinstance(codec, States):
            raise ValueError("the projector dynamics needs data.source, whose equation of motion is known")
        b, d, frames = x.shape
        if frames < 3:
            return x
        size = max(1, AT_ONCE // (frames * d) ** 2)
        parts = list[Tensor]()
        for i in range(0, b, size):
            part = slice(i, i + size)
            y = codec.states(to_float64(x[part]))
            device = y.device
            near = nearest_trajectory(
                system, y, space.inside[part].to(device), space.given[part].to(device),
                scale=torch.tensor(codec.std, dtype=y.dtype, device=device), iterations=self.iterations,
            )  # fmt: skip
            parts.append(codec.of_states(near).to(x))
        return kept(x, torch.cat(parts), space)


def nearest_trajectory(
    system: AnySystem, y: Tensor, inside: Tensor, given: Tensor, *, scale: Tensor, iterations: int
) -> Tensor:
    """The trajectories nearest to y (b, frames, d) float64, in units of `scale` (d,).

    Of all iterates, that with the least residual is returned, so a diverging one is not.

    Args:
        inside, given: (b, frames) bool, frames that are data, and frames that stay.
    """
    b, frames, d = y.shape
    whole = inside[:, 2:] & inside[:, 1:-1] & inside[:, :-2]  # equations between frames that are data
    theta, best, least = y, y, torch.full((b,), torch.inf, dtype=y.dtype, device=y.device)
    w = torch.where((inside & ~given)[..., None], scale.square(), 0.0).reshape(b, frames * d)
    for iteration in range(iterations + 1):
        r = torch.where(whole[..., None], residual(system, theta), 0.0)
        size = r.flatten(1).abs().amax(1)
        better = size < least
        best, least = torch.where(better[:, None, None], theta, best), torch.where(better, size, least)
        if iteration == iterations or bool((size < 1e-11).all()):
            break
        j = torch.where(whole[..., None, None, None], jacobian(system, theta), 0.0).reshape(b, -1, frames * d)
        g = (y - theta).reshape(b, frames * d)
        jw = j * w[:, None]
        m = jw @ j.transpose(1, 2)
        ridge = RIDGE * m.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-30)
        m = m + ridge[:, None, None] * torch.eye(m.shape[1], dtype=y.dtype, device=y.device)
        target = -r.reshape(b, -1) - (j @ torch.where(w > 0, g, 0.0)[..., None])[..., 0]
        step = torch.where(w > 0, g, 0.0) + (jw.transpose(1, 2) @ torch.linalg.solve(m, target[..., None]))[..., 0]
        theta = theta + step.view(b, frames, d)
        theta = torch.where(theta.isfinite(), theta, best)
    return best


def jacobian(system: AnySystem, theta: Tensor) -> Tensor:
    """dr / dtheta of trajectories (b, frames, d): (b, frames - 2, d, frames, d), zero but for three frames each."""
    b, frames, d = theta.shape
    with torch.enable_grad():
        at = theta.detach().requires_grad_()
        columns = (system.acceleration(at) + 0 * at).unbind(-1)  # which a constant one does not depend on
        a = torch.stack([torch.autograd.grad(one.sum(), at, retain_graph=True)[0] for one in columns], -2)
    eye, h = torch.eye(d, dtype=theta.dtype, device=theta.device), system.dt**2 / 12
    j = theta.new_zeros(b, frames - 2, d, frames, d)
    i = torch.arange(frames - 2, device=theta.device)
    j[:, i, :, i] = (eye - h * a[:, :-2]).transpose(0, 1)
    j[:, i, :, i + 1] = (-2 * eye - 10 * h * a[:, 1:-1]).transpose(0, 1)
    j[:, i, :, i + 2] = (eye - h * a[:, 2:]).transpose(0, 1)
    return j
