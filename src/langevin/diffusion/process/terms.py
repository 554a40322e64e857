"""The protocol of a process, and the named terms of its variational bound.

-ln p(x) <= prior + E_t[diffusion] + reconstruction, in nats, with t uniform on (0, 1). `diffusion` is the integrand at the
given t: the term is its mean over uniform times, or the mean of diffusion / density over times of another density.
"""

from dataclasses import dataclass
from typing import Any, Generic, Protocol, runtime_checkable

from torch import Tensor
from typing_extensions import TypeVar  # with defaults

from langevin.diffusion.noise import Noise

X = TypeVar("X", default=Any)  # the data: a tensor, or a mapping of tensors
Q_contra = TypeVar("Q_contra", contravariant=True, default=Any)  # the prediction that a step takes


@dataclass(frozen=True, kw_only=True)
class Terms(Generic[X]):
    """The terms of the bound in nats, float64, one value per element of x (or a mapping of parts), not reduced.

    Args:
        prior: KL(q(x_1 | x) || prior).
        diffusion: the integrand at the given times.
        reconstruction: E[-ln p(x | x_0)], zero for tokens. For continuous data, whose integral ends at a smallest noise
            level, `likelihood` adds it.
    """

    prior: X
    diffusion: X
    reconstruction: X


class Process(Protocol[X, Q_contra]):
    """The forward process q(x_t | x), from x_0 = x to x_1 ~ prior, and its reverse transition.

    Times t are (b,) or (b, positions), in [0, 1]; x and x_t are (b, ...), or a mapping of such. Samples are independent.
    """

    def prior(self, like: X, noise: Noise, t: Tensor | None = None) -> X:
        """Initial states of sampling, shaped like `like`: draws from the prior at t (default 1), which approximates q(x_t).

        Raises:
            ValueError: t < 1, for a process whose prior is known at t = 1 only."""
        ...

    def corrupt(self, x: X, t: Tensor, noise: Noise, known: Any = None) -> X:
        """A draw of x_t ~ q(x_t | x); elements where `known` (bool, shaped like x) holds stay clean."""
        ...

    def transition(self, q: Q_contra, x_t: X, t: Tensor, s: Tensor, noise: Noise) -> X:
        """A draw of x_s ~ p(x_s | x_t) for s <= t, given the prediction q of a denoiser at (x_t, t); x_t where s = t."""
        ...


@runtime_checkable
class Bounded(Process[X, Q_contra], Protocol[X, Q_contra]):
    """A process whose variational bound has a closed form."""

    def bound(self, q: Q_contra, x: X, x_t: X, t: Tensor) -> Terms[X]:
        """The terms of the bound for clean x, corrupted to x_t at t, and the prediction q at (x_t, t)."""
        ...
