"""Built-in drifts: frozen configurations, called as f(x, t). One with an `energy` has a known stationary distribution."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class DoubleWell:
    """f = -V'(x), V = height (x^2 - 1)^2 in every coordinate, with minima at -1 and 1."""

    kind: Literal["double_well"] = "double_well"
    height: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.height < math.inf:
            raise ValueError(f"the height of the barrier must be positive and finite, got {self.height}")

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        return -4 * self.height * x * (x * x - 1)

    def energy(self, x: Tensor, g: float) -> Tensor:
        """2 V / g^2, summed over coordinates, (b,)."""
        return (2 * self.height / (g * g) * (x * x - 1).square()).flatten(1).sum(1)


@dataclass(frozen=True, kw_only=True)
class OrnsteinUhlenbeck:
    """The Ornstein-Uhlenbeck process f = -rate x; `turn` also rotates pairs of coordinates at that angular rate."""

    kind: Literal["pull"] = "pull"
    rate: float = 1.0
    turn: float = 0.0

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        if self.turn == 0:
            return -self.rate * x
        a, b = x[..., 0::2], x[..., 1::2]
        return -self.rate * x + self.turn * torch.stack([-b, a], -1).flatten(-2)

    def energy(self, x: Tensor, g: float) -> Tensor:
        """rate |x|^2 / g^2, (b,); the rotation does not change it."""
        return (self.rate / (g * g) * x * x).flatten(1).sum(1)


@dataclass(frozen=True, kw_only=True)
class LimitCycle:
    """f = pull x (1 - |x|^2) + turn (-x2, x1), in the plane: paths approach the unit circle and rotate on it.

    f is no gradient: the distribution becomes stationary, with a circulating flow."""

    kind: Literal["limit_cycle"] = "limit_cycle"
    pull: float = 1.0
    turn: float = 2.0

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        if x.shape[1:] != (2,):
            raise ValueError(f"a limit cycle needs points in the plane, (b, 2); got {tuple(x.shape)}")
        around = torch.stack([-x[:, 1], x[:, 0]], 1)
        return self.pull * x * (1 - x.square().sum(1, keepdim=True)) + self.turn * around


AnyField = DoubleWell | OrnsteinUhlenbeck | LimitCycle
