"""An equation of the user's own, dx = f(x, t) dt + g(t) dw, and what is asked of f and g each time they are called.

Time here is the equation's own, from 0 to its `horizon`; the rest of the house counts from 0 to 1.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch does not say the types of norms, splits, triangular solves and Fourier transforms)

import math
from collections.abc import Callable

import torch
from torch import Tensor

from langevin.diffusion.schedule import Beta, Brownian
from langevin.diffusion.shape import state_of

Field = Callable[[Tensor, Tensor], Tensor]  # f: x (b, ...), time (b,) -> (b, ...)
Level = float | Callable[[Tensor], Tensor]  # g: time (b,) -> (b,), or one number


def call(f: Field, x: Tensor, time: Tensor) -> Tensor:
    """f(x, time), checked.

    Raises:
        ValueError: it is of another shape or holds numbers that are not finite: at which time and state, what to do."""
    value = f(x, time.to(x.dtype))
    if not isinstance(value, Tensor) or value.shape != x.shape:  # pyright: ignore[reportUnnecessaryIsInstance]
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(
            f"the drift returned {got} for states of shape {tuple(x.shape)} at time {time[0].item():.4g}: f(x, t) takes x "
            "(b, ...) and t (b,), and returns the shape of x (write t[:, None] to multiply a vector by time)"
        )
    finite = value.isfinite().flatten(1).all(1)
    if not bool(finite.all()):
        row = int((~finite).nonzero()[0])
        raise ValueError(
            f"the drift is not finite at time {time[row].item():.4g} and state {state_of(x[row])}: it explodes there, or "
            "the steps on the way were too long; take more steps (process.steps), or a drift that pulls back"
        )
    return value.to(x.dtype)


def level(g: Level, time: Tensor) -> Tensor:
    """g(time), (b,) float64, checked.

    Raises:
        ValueError: another shape, negative, or not finite: at which time."""
    if isinstance(g, int | float):
        return torch.full_like(time, g, dtype=torch.float64)
    value = g(time)
    if value.shape != time.shape:
        raise ValueError(
            f"g(t) takes times (b,) and returns (b,): given {tuple(time.shape)}, it gave {tuple(value.shape)}"
        )
    if not bool((value.isfinite() & (value >= 0)).all()):
        bad = time[~(value.isfinite() & (value >= 0))][0].item()
        raise ValueError(
            f"the noise g is {g(time[time == bad])[0].item():.4g} at time {bad:.4g}: it must be finite, not negative"
        )
    return value.double()


def clock(g: Level, horizon: float) -> Brownian:
    """The noise added so far, V(t) = int_0^(horizon t) g^2, as a schedule: grids and time densities read it.

    Raises:
        ValueError: g is nowhere positive, or the horizon no time."""
    if not 0 < horizon < math.inf:
        raise ValueError(f"the horizon is the time that the equation runs for: positive and finite, got {horizon}")
    if isinstance(g, int | float):
        if not 0 < g < math.inf:
            raise ValueError(
                f"the noise g must be positive and finite, got {g}: without noise there is nothing to reverse"
            )
        return Brownian(beta=Beta(values=(horizon * g * g, horizon * g * g)))
    times = torch.linspace(0, horizon, 1025, dtype=torch.float64)
    rates = horizon * level(g, times).square()
    return Brownian(beta=Beta(values=tuple(rates.tolist())))
