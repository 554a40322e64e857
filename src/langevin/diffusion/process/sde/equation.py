"""The drift f and diffusion coefficient g of a user's SDE, dx = f(x, t) dt + g(t) dw, with checks at every call.

Time here is that of the SDE, from 0 to its `duration`; all other modules use t in [0, 1].
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch does not say the types of norms, splits, triangular solves and Fourier transforms)

import math
from collections.abc import Callable

import torch
from torch import Tensor

from langevin.diffusion.float64 import to_float64
from langevin.diffusion.schedule import Beta, Brownian
from langevin.diffusion.shape import format_values

Field = Callable[[Tensor, Tensor], Tensor]  # f: x (b, ...), time (b,) -> (b, ...)
DiffusionCoefficient = float | Callable[[Tensor], Tensor]  # g: time (b,) -> (b,), or one number


def drift_at(f: Field, x: Tensor, time: Tensor) -> Tensor:
    """f(x, time), (b, ...), checked.

    Raises:
        ValueError: another shape, or a value that is not finite; names time and state."""
    value = f(x, time.to(x))
    if not isinstance(value, Tensor) or value.shape != x.shape:  # pyright: ignore[reportUnnecessaryIsInstance]
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(
            f"the drift returned {got} for states of shape {tuple(x.shape)} at time {time[0].item():.4g}: f(x, t) takes x "
            "(b, ...) and t (b,), and returns the shape of x (write t[:, None] to multiply a vector by time)"
        )
    finite = value.isfinite().flatten(1).all(1)
    if not bool(finite.all()):
        i = int((~finite).nonzero()[0])
        raise ValueError(
            f"the drift is not finite at time {time[i].item():.4g} and state {format_values(x[i])}: it explodes there, "
            "or the steps on the way were too long; take more steps (process.steps), or a confining drift"
        )
    return value.to(x)


def diffusion_at(g: DiffusionCoefficient, time: Tensor) -> Tensor:
    """g(time), (b,) float64, checked.

    Raises:
        ValueError: another shape, or a value that is negative or not finite; names the time."""
    if isinstance(g, int | float):
        return torch.full_like(time, g, dtype=torch.float64)
    value = g(time)
    if value.shape != time.shape:
        raise ValueError(
            f"g(t) takes times (b,) and returns (b,): for {tuple(time.shape)} it returned {tuple(value.shape)}"
        )
    if not bool((value.isfinite() & (value >= 0)).all()):
        bad = time[~(value.isfinite() & (value >= 0))][0].item()
        raise ValueError(
            f"the noise g is {g(time[time == bad])[0].item():.4g} at time {bad:.4g}: it must be finite and not negative"
        )
    return to_float64(value)


def clock(g: DiffusionCoefficient, duration: float) -> Brownian:
    """The accumulated noise V(t) = int_0^(duration t) g^2 as a schedule, for grids and time densities.

    Raises:
        ValueError: g is nowhere positive, or the duration is not positive and finite."""
    if not 0 < duration < math.inf:
        raise ValueError(f"the duration of an SDE must be positive and finite, got {duration}")
    if isinstance(g, int | float):
        if not 0 < g < math.inf:
            raise ValueError(
                f"the noise g must be positive and finite, got {g}: without noise there is nothing to reverse"
            )
        return Brownian(beta=Beta(values=(duration * g * g, duration * g * g)))
    times = torch.linspace(0, duration, 1025, dtype=torch.float64)
    rates = duration * diffusion_at(g, times).square()
    return Brownian(beta=Beta(values=tuple(rates.tolist())))
