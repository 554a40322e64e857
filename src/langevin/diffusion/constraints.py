"""Hard constraints on continuous data: a box, a norm, fixed values, a coarse band, linear equations.

Each set is convex and has an exact projection. The projection onto all of them is found by Dykstra's algorithm: sets are
projected onto in turn, each with what it took away before put back ("A Method for Finding Projections onto the Intersection
of Convex Sets in Hilbert Spaces", 1986). A denoiser whose mean is projected at every step, and the sample at the end,
obeys; its law is not the model's given the constraints, which projection does not know.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Protocol

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.measurement.operator import Operator, dot, solve_by_cg
from langevin.diffusion.posterior import Point, Prediction
from langevin.diffusion.pyramid import block_means, repeated
from langevin.diffusion.shape import append_dims

TURNS = 200  # of Dykstra's algorithm
HALVINGS = 40  # of the interval that a block's shift lies in
TOLERANCE = 1e-4  # of a violation, in units of x


class Constraint(Protocol):
    """A closed convex set."""

    def project(self, x: Tensor) -> Tensor:
        """The nearest point of the set to each sample of x (b, ...)."""
        ...


@dataclass(frozen=True, kw_only=True)
class InBox:
    """low <= x <= high at every element.

    Raises:
        ValueError: an empty box.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"the box from {self.low:g} to {self.high:g} is empty")

    def project(self, x: Tensor) -> Tensor:
        return x.clamp(self.low, self.high)


@dataclass(frozen=True, kw_only=True)
class InBall:
    """|x| <= radius, over all elements of a sample.

    Raises:
        ValueError: a negative radius.
    """

    radius: float

    def __post_init__(self) -> None:
        if not self.radius >= 0:
            raise ValueError(f"a ball needs a radius of at least 0, got {self.radius:g}")

    def project(self, x: Tensor) -> Tensor:
        return x * append_dims((self.radius / dot(x, x).sqrt().clamp_min(1e-30)).clamp_max(1), x)


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """x = value where `where` holds.

    Args:
        where: bool, of a shape that broadcasts over x.
        value: likewise.
    """

    where: Tensor
    value: Tensor

    def project(self, x: Tensor) -> Tensor:
        return torch.where(self.where, self.value.to(x), x)


@dataclass(frozen=True, kw_only=True)
class Linear:
    """A x = y.

    Args:
        operator: A.
        y: of the shape of A x.
    """

    operator: Operator
    y: Tensor

    def project(self, x: Tensor) -> Tensor:
        residual = self.y.to(x) - self.operator.forward(x)

        def gram(u: Tensor) -> Tensor:
            return self.operator.forward(self.operator.adjoint(u))

        return x + self.operator.adjoint(solve_by_cg(gram, residual, iterations=200, tolerance=1e-7))


@dataclass(frozen=True, kw_only=True)
class CoarseBand:
    """The means of blocks of `side` positions along each dimension of space are given, and all elements lie in a box.

    The nearest point adds a number to each block and clips it, up to the mean that is given: without a box the coarse band
    of a pyramid is replaced ("ILVR: Conditioning Method for Denoising Diffusion Probabilistic Models", 2021,
    arXiv:2108.02938). With it, a block whose mean is white becomes white, where clipping afterwards would leave it darker.

    Args:
        side: of the blocks.
        means: (b, channels, *space / side), or of one sample that all share.
        box: low and high; None is everywhere.

    Raises:
        ValueError: means outside of the box, or (when called) space that is not divided into blocks.
    """

    side: int
    means: Tensor
    box: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        low, high = self.box or (-torch.inf, torch.inf)
        if not bool(((self.means >= low - TOLERANCE) & (self.means <= high + TOLERANCE)).all()):
            raise ValueError(f"the means of some blocks lie outside of the box from {low:g} to {high:g}")

    def project(self, x: Tensor) -> Tensor:
        means = self.means.to(x)
        if self.box is not None:
            low, high = self.box
            most = append_dims(x.flatten(1).abs().amax(1), x) + max(
                abs(low), abs(high)
            )  # by which every block is clipped
            least, most = (end.expand(len(x), *means.shape[1:]) for end in (-most, most))
            for _ in range(HALVINGS):
                middle = (least + most) / 2
                below = block_means((x + repeated(middle, self.side)).clamp(low, high), self.side) < means
                least, most = torch.where(below, middle, least), torch.where(below, most, middle)
            x = (x + repeated(most, self.side)).clamp(low, high)
        return x + repeated(means - block_means(x, self.side), self.side)


AnyConstraint = InBox | InBall | Fixed | CoarseBand | Linear


def project(constraints: Sequence[Constraint], x: Tensor, *, turns: int = TURNS) -> Tensor:
    """The nearest point of the intersection to each sample of x (b, ...)."""
    if len(constraints) == 1:
        return constraints[0].project(x)
    taken = [torch.zeros_like(x) for _ in constraints]
    for _ in range(turns):
        before, moved = x, list[Tensor]()
        for i, constraint in enumerate(constraints):
            y = x + taken[i]
            x = constraint.project(y)
            moved.append((y - x - taken[i]).abs().amax())
            taken[i] = y - x
        still = torch.stack([*moved, (x - before).abs().amax()])  # x alone can stand still for many turns
        if bool((still < TOLERANCE / 1000).all()):
            break
    return x


def violations(constraints: Sequence[Constraint], x: Tensor) -> dict[str, float]:
    """By how much an element of x is off at most, or of A x for equations, by constraint."""
    found = dict[str, float]()
    for one in constraints:
        off = one.y.to(x) - one.operator.forward(x) if isinstance(one, Linear) else one.project(x) - x
        found[named(one)] = float(off.abs().amax())
    return found


def named(constraint: Any) -> str:
    """A constraint in words."""
    match constraint:
        case InBox():
            return f"the box from {constraint.low:g} to {constraint.high:g}"
        case InBall():
            return f"a norm of at most {constraint.radius:g}"
        case Fixed():
            return "the fixed values"
        case CoarseBand():
            return "the coarse band"
        case Linear():
            return "the linear equations"
        case _:
            return type(constraint).__name__


def require_feasible(constraints: Sequence[Constraint], like: Tensor) -> None:
    """Check that some point obeys all constraints.

    Args:
        like: a sample, (b, ...), for shape and type.

    Raises:
        ValueError: none does; names the constraint or the two that contradict each other, or that all together do."""
    for count in (1, 2, len(constraints)):
        for some in combinations(constraints, min(count, len(constraints))):
            x = project(some, torch.zeros_like(like), turns=10 * TURNS)
            worst = max(violations(some, x).values())
            if worst > TOLERANCE:
                names = " and ".join(map(named, some))
                what = f"{names} contradict each other" if len(some) > 1 else f"{names} cannot be satisfied"
                raise ValueError(f"{what}: the nearest point is off by {worst:.2g}")


@dataclass(frozen=True, kw_only=True)
class Constrained:
    """`denoiser` with its mean projected onto the constraints, for `Draw.wrap`; project the finished sample too.

    Raises:
        ValueError: (when called) a prediction that is not a mean.
    """

    denoiser: Denoiser[Prediction]
    constraints: tuple[AnyConstraint, ...]

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Point:
        q = self.denoiser(x_t, t, condition)
        if not isinstance(q, Point):
            raise ValueError("constraints are for continuous data, whose prediction is a mean")
        return Point(project(self.constraints, q.mean))
