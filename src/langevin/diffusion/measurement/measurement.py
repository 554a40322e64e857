"""A measurement of each sample: y = A x + noise, or y = h(A x) + noise.

One object says what was seen and how well. All methods of restoration read it from `Condition.measurement`, so samples with
different measurements share a batch: a masked image beside a blurred one, and one of which nothing was measured.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from langevin.diffusion.measurement.nonlinear import AnyNonlinearity
from langevin.diffusion.measurement.operator import AnyOperator, require_adjoint, solve_white
from langevin.diffusion.shape import append_dims, format_values


@dataclass(frozen=True, kw_only=True)
class Mixed:
    """Operators of several kinds, each for some of the samples; A x is flattened, and padded with 0 to one length.

    Args:
        parts: operators, each of all b samples, which is applied to its own ones only.
        shapes: of a sample of A x of each part.
        which: (b,) int64, the part of each sample; -1 measures nothing.
        shape: of a sample x.
    """

    parts: tuple[Any, ...]
    shapes: tuple[tuple[int, ...], ...]
    which: Tensor
    shape: tuple[int, ...]

    def forward(self, x: Tensor) -> Tensor:
        y = x.new_zeros(len(x), max(math.prod(shape) for shape in self.shapes))
        for part, shape, index in self._own:
            y[index, : math.prod(shape)] = part.forward(x[index]).flatten(1)
        return y

    def adjoint(self, y: Tensor) -> Tensor:
        x = y.new_zeros(len(y), *self.shape)
        for part, shape, index in self._own:
            x[index] = part.adjoint(y[index, : math.prod(shape)].reshape(len(index), *shape))
        return x

    def solve(self, y: Tensor, r2: Tensor, s2: Tensor) -> Tensor:
        u = torch.zeros_like(y)
        for part, shape, index in self._own:
            own = y[index, : math.prod(shape)].reshape(len(index), *shape)
            u[index, : math.prod(shape)] = solve_white(part, own, r2[index], s2[index]).flatten(1)
        return u

    @cached_property
    def _own(self) -> list[tuple[Any, tuple[int, ...], Tensor]]:
        """Each part with the shape of its A x and the indices of its samples."""
        found = list[tuple[Any, tuple[int, ...], Tensor]]()
        for i, (part, shape) in enumerate(zip(self.parts, self.shapes, strict=True)):
            index = (self.which == i).nonzero()[:, 0]
            if len(index):
                found.append((mapped(part, lambda tensor, index=index: tensor[index]), shape, index))
        return found


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What was measured of b samples.

    Args:
        operator: A.
        y: (b, ...), of the shape of A x.
        noise: (b,) the standard deviation of the Gaussian noise, in units of y; positive.
        shape: of a sample x.
        nonlinearity: h, for y = h(A x) + noise; None is the identity.

    Raises:
        ValueError: noise that is not positive and finite, or y of another shape than A x.
    """

    operator: AnyOperator | Mixed
    y: Tensor
    noise: Tensor
    shape: tuple[int, ...]
    nonlinearity: AnyNonlinearity | Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        if self.noise.shape != (len(self.y),) or not bool(((self.noise > 0) & self.noise.isfinite()).all()):
            shown = format_values(self.noise)
            raise ValueError(
                f"a measurement has a standard deviation of noise per sample, (b,), above 0 and finite; got {shown}: of "
                "exact values, give that of their rounding"
            )

    def check(self) -> None:
        """Check the shapes, and that the adjoint is one.

        Raises:
            ValueError: they do not fit, see `require_adjoint`."""
        require_adjoint(self.map(lambda part: part.cpu()).operator, self.shape, count=len(self.y))
        got = self.predicted(torch.zeros(len(self.y), *self.shape, device=self.y.device)).shape
        if got != self.y.shape:
            raise ValueError(
                f"a measurement of {self.shape} gives {tuple(got[1:])}, and y is {tuple(self.y.shape[1:])}"
            )

    def map(self, function: Callable[[Tensor], Tensor]) -> "Measurement":
        """`function` on each of its tensors."""
        return mapped(self, function)

    def predicted(self, x: Tensor) -> Tensor:
        """What would be measured of x without noise: h(A x)."""
        y = self.operator.forward(x)
        return y if self.nonlinearity is None else self.nonlinearity(y)

    def residual(self, x: Tensor) -> Tensor:
        """y - h(A x), shaped like y."""
        return self.y.to(x) - self.predicted(x)

    def log_likelihood(self, x: Tensor) -> Tensor:
        """ln p(y | x) up to a constant, (b,): -|y - h(A x)|^2 / 2 noise^2."""
        return -0.5 * self.residual(x).flatten(1).square().sum(1) / self.noise.to(x).square()

    def variance(self, like: Tensor) -> Tensor:
        """noise^2, to be broadcast over `like` (b, ...)."""
        return append_dims(self.noise.to(like).square(), like)


def mapped(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """`function` on every tensor of nested dataclasses and tuples; all else stays."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, tuple):
        parts: tuple[Any, ...] = value  # pyright: ignore[reportUnknownVariableType]
        return tuple(mapped(part, function) for part in parts)
    if is_dataclass(value) and not isinstance(value, type):
        new = object.__new__(type(value))  # without its checks, which have been made
        for f in fields(value):
            object.__setattr__(new, f.name, mapped(getattr(value, f.name), function))
        return new
    return value


def join_measurements(parts: Sequence[Measurement | None], counts: Sequence[int]) -> Measurement | None:
    """The measurements of all samples, in order; None where nothing was measured of any.

    Operators of one class and size are concatenated, others are `Mixed`.

    Raises:
        ValueError: samples x of different shapes, or different nonlinearities, which cannot share a batch."""
    given = [part for part in parts if part is not None]
    if not given:
        return None
    first = given[0]
    for part in given:
        if part.shape != first.shape:
            raise ValueError(f"cannot join measurements of samples of {first.shape} and of {part.shape}")
        if _static(part.nonlinearity) != _static(first.nonlinearity):
            raise ValueError("cannot join measurements that are not linear in different ways: run them one by one")
    if first.nonlinearity is not None and len(given) < len(parts):
        raise ValueError("cannot join a measurement that is not linear with samples of which nothing was measured")
    first = replace(first, nonlinearity=_concatenated([part.nonlinearity for part in given]))
    noise = torch.cat([torch.ones(n) if p is None else p.noise.cpu() for p, n in zip(parts, counts, strict=True)])
    noise = noise.to(first.noise)
    if len(given) == len(parts) and len({(_static(p.operator), p.y.shape[1:]) for p in parts if p is not None}) == 1:
        one = _concatenated([p.operator for p in given])
        return replace(first, operator=one, y=torch.cat([p.y for p in given]), noise=noise)
    operator, y = _mixed(parts, counts, first)
    return replace(first, operator=operator, y=y, noise=noise)


def _mixed(parts: Sequence[Measurement | None], counts: Sequence[int], first: Measurement) -> tuple[Mixed, Tensor]:
    """The operator, and y, of samples measured in several ways."""
    operators, shapes, which = list[Any](), list[tuple[int, ...]](), list[Tensor]()
    start, total = 0, sum(counts)
    flat = list[Tensor]()
    for part, n in zip(parts, counts, strict=True):
        if part is None:
            which.append(torch.full((n,), -1))
            flat.append(first.y.new_zeros(n, 0))
        else:
            held = part.operator
            inner = held.parts if isinstance(held, Mixed) else (held,)
            own = held.which.cpu() if isinstance(held, Mixed) else torch.zeros(n, dtype=torch.int64)
            which.append(torch.where(own >= 0, own + len(operators), -1))
            index = (torch.arange(total) - start).clamp(0, n - 1)  # others repeat its first or last sample
            operators += [mapped(one, lambda tensor, index=index: tensor[index.to(tensor.device)]) for one in inner]
            shapes += held.shapes if isinstance(held, Mixed) else [tuple(part.y.shape[1:])]
            flat.append(part.y.flatten(1))
        start += n
    longest = max(math.prod(shape) for shape in shapes)
    y = torch.cat([F.pad(one[:, :longest], (0, max(0, longest - one.shape[1]))) for one in flat])
    mixed = Mixed(
        parts=tuple(operators), shapes=tuple(shapes), which=torch.cat(which).to(first.y.device), shape=first.shape
    )
    return mixed, y


def _static(value: Any) -> Any:
    """The structure of nested dataclasses, with the shapes of tensors in their place; hashable."""
    if isinstance(value, Tensor):
        return (tuple(value.shape[1:]), value.dtype)
    if isinstance(value, tuple):
        parts: tuple[Any, ...] = value  # pyright: ignore[reportUnknownVariableType]
        return tuple(_static(part) for part in parts)
    if is_dataclass(value):
        return (type(value), *(_static(getattr(value, f.name)) for f in fields(value)))
    return value


def _concatenated(values: Sequence[Any]) -> Any:
    """Values of one structure with their tensors concatenated."""
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat(list(values))
    if isinstance(first, tuple):
        return tuple(_concatenated(group) for group in zip(*values, strict=True))
    if is_dataclass(first):
        new = object.__new__(type(first))
        for f in fields(first):
            object.__setattr__(new, f.name, _concatenated([getattr(value, f.name) for value in values]))
        return new
    return first
