"""A density known up to its constant: its logarithm and the slope of that, checked whenever it is asked."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.diffusion.shape import right_pad, state_of


@dataclass(frozen=True, kw_only=True)
class Density:
    """ln p(x) up to a constant, at rows x (b, ...).

    Args:
        log_p: x (b, ...) -> (b,), differentiable by torch; -inf where p is 0.
        box: (low, high): p is 0 outside of it in any coordinate.
        confine: multiply p by exp(-|x|^2 / (2 confine^2)), which makes it proper.
    """

    log_p: Callable[[Tensor], Tensor]
    box: tuple[float, float] | None = None
    confine: float | None = None

    def __post_init__(self) -> None:
        if self.box is not None and not self.box[0] < self.box[1]:
            raise ValueError(f"a box goes from low to high, got {self.box}")
        if self.confine is not None and not 0 < self.confine < math.inf:
            raise ValueError(f"the confining width must be positive and finite, got {self.confine}")

    @classmethod
    def of_energy(cls, energy: Callable[[Tensor], Tensor], **limits: object) -> "Density":
        """p proportional to e^-energy."""
        return cls(log_p=lambda x: -energy(x), **limits)  # type: ignore[arg-type]

    def value(self, x: Tensor) -> Tensor:
        """ln p, (b,), float64.

        Raises:
            ValueError: a wrong shape, NaN or +inf: at which state."""
        raw = self.log_p(x)
        if not isinstance(raw, Tensor) or raw.shape != x.shape[:1]:  # pyright: ignore[reportUnnecessaryIsInstance]
            got = tuple(raw.shape) if isinstance(raw, Tensor) else type(raw).__name__  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(
                f"the log-density returned {got} for states of shape {tuple(x.shape)}: it takes x (b, ...) and returns one "
                "number a row, (b,); sum over the other dimensions"
            )
        log_p = raw.double()
        wrong = log_p.isnan() | (log_p == math.inf)
        if bool(wrong.any()):
            row = int(wrong.nonzero()[0])
            raise ValueError(
                f"the log-density is {log_p[row].item()} at state {state_of(x[row])}: it must be finite, or -inf where the "
                "density is 0"
            )
        if self.confine is not None:
            log_p = log_p - 0.5 * (x.double() / self.confine).square().flatten(1).sum(1)
        if self.box is not None:
            inside = ((x >= self.box[0]) & (x <= self.box[1])).flatten(1).all(1)
            log_p = torch.where(inside, log_p, -math.inf)
        return log_p

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """ln p (b,) and its gradient, of the shape of x and 0 where p is 0.

        Raises:
            ValueError: as `value`, or the gradient is not finite where p is positive: at which state."""
        with torch.enable_grad():
            asked = x.detach().requires_grad_()
            log_p = self.value(asked)
            if not log_p.requires_grad:
                return log_p, torch.zeros_like(x)  # a constant density is flat
            (slope,) = torch.autograd.grad(log_p.sum(), asked, materialize_grads=True)
        log_p, inside = log_p.detach(), right_pad(log_p.detach() > -math.inf, x)
        slope = torch.where(inside, slope, 0.0)
        if not bool(slope.isfinite().all()):
            row = int((~slope.isfinite().flatten(1).all(1)).nonzero()[0])
            raise ValueError(f"the slope of the log-density is not finite at state {state_of(x[row])}: smooth it there")
        return log_p, slope
