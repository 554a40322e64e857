"""The face of a process, and the named terms of its variational bound.

-ln p(x) <= prior + E_t[diffusion] + reconstruction, in nats, with t uniform on (0, 1): `diffusion` is the integrand at
the given t, so its mean over times (weighted by 1 / density where they are not uniform) is the term itself.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from langevin.diffusion.noise import Noise


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Named terms of the bound, a value a place (or a mapping of parts), never reduced.

    `reconstruction` is what is lost at t = 0, zero where corruption there loses nothing of discrete data; the densities
    of continuous data end at a smallest noise level instead, which `likelihood` adds.
    """

    prior: Any
    diffusion: Any
    reconstruction: Any


class Process(Protocol):
    """x_0 = x to x_1 ~ prior. Times are (b,) or (b, places); `known` (bool, shape of x) marks places that never change."""

    def prior(self, like: Any, noise: Noise, t: Tensor | None = None) -> Any: ...
    def corrupt(self, x: Any, t: Tensor, noise: Noise, known: Any = None) -> Any: ...
    def transition(self, q: Any, x_t: Any, t: Tensor, s: Tensor, noise: Noise) -> Any: ...
    def bound(self, q: Any, x: Any, x_t: Any, t: Tensor) -> Terms: ...
