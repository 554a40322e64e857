"""A density known up to its constant: its logarithm and the gradient of that, checked at every evaluation."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.diffusion.float64 import to_float64
from langevin.diffusion.shape import append_dims, format_values


@dataclass(frozen=True, kw_only=True)
class Density:
    """ln p(x) up to a constant, for states x (b, ...).

    Args:
        log_p: x (b, ...) -> (b,), differentiable by torch; -inf where p is 0.
        box: (low, high): p is set to 0 where any coordinate is outside.
        gaussian_envelope: multiply p by exp(-|x|^2 / (2 gaussian_envelope^2)), which makes it proper.
    """

    log_p: Callable[[Tensor], Tensor]
    box: tuple[float, float] | None = None
    gaussian_envelope: float | None = None

    def __post_init__(self) -> None:
        if self.box is not None and not self.box[0] < self.box[1]:
            raise ValueError(f"a box goes from low to high, got {self.box}")
        if self.gaussian_envelope is not None and not 0 < self.gaussian_envelope < math.inf:
            raise ValueError(f"gaussian_envelope must be positive and finite, got {self.gaussian_envelope}")

    @classmethod
    def of_energy(cls, energy: Callable[[Tensor], Tensor], **limits: object) -> "Density":
        """p proportional to e^-energy."""
        return cls(log_p=lambda x: -energy(x), **limits)  # type: ignore[arg-type]

    def value(self, x: Tensor) -> Tensor:
        """ln p, (b,), float64.

        Raises:
            ValueError: log_p returns another shape, NaN or +inf; names the state."""
        raw = self.log_p(x)
        if not isinstance(raw, Tensor) or raw.shape != x.shape[:1]:  # pyright: ignore[reportUnnecessaryIsInstance]
            got = tuple(raw.shape) if isinstance(raw, Tensor) else type(raw).__name__  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(
                f"the log-density returned {got} for states of shape {tuple(x.shape)}: it takes x (b, ...) and returns one "
                "number per state, (b,); sum over the other dimensions"
            )
        log_p = to_float64(raw)
        wrong = log_p.isnan() | (log_p == math.inf)
        if bool(wrong.any()):
            i = int(wrong.nonzero()[0])
            raise ValueError(
                f"the log-density is {log_p[i].item()} at state {format_values(x[i])}: it must be finite, or -inf "
                "where the density is 0"
            )
        if self.gaussian_envelope is not None:
            log_p = log_p - 0.5 * (to_float64(x) / self.gaussian_envelope).square().flatten(1).sum(1)
        if self.box is not None:
            inside = ((x >= self.box[0]) & (x <= self.box[1])).flatten(1).all(1).to(log_p.device)
            log_p = torch.where(inside, log_p, -math.inf)
        return log_p

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """ln p (b,) and its gradient, of the shape of x and 0 where p is 0.

        Raises:
            ValueError: as `value`, or the gradient is not finite where p is positive; names the state."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            log_p = self.value(leaf)
            if not log_p.requires_grad:
                return log_p, torch.zeros_like(x)  # a constant density
            (slope,) = torch.autograd.grad(log_p.sum(), leaf, materialize_grads=True)
        log_p, inside = log_p.detach(), append_dims(log_p.detach() > -math.inf, x).to(x.device)
        slope = torch.where(inside, slope, 0.0)
        if not bool(slope.isfinite().all()):
            i = int((~slope.isfinite().flatten(1).all(1)).nonzero()[0])
            raise ValueError(
                f"the gradient of the log-density is not finite at state {format_values(x[i])}: smooth it there"
            )
        return log_p, slope
