"""Linear operators: what a measurement sees of the data.

An operator maps x (b, *shape) to A x (b, ...), and its adjoint maps back: <A x, y> = <x, A' y> for all x and y. Its tensors
are batch-first, so each sample of a batch has its own mask, blur or matrix. Operators know nothing of noise levels and
networks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from langevin.diffusion.float64 import to_float64
from langevin.diffusion.noise import SampleNoise
from langevin.diffusion.shape import append_dims

BLOCK = 8192  # numbers that are summed on one thread


class Operator(Protocol):
    """A linear map A of b samples. It may also have `solve`, see `solve_white`."""

    def forward(self, x: Tensor) -> Tensor:
        """A x, (b, ...), for x (b, *shape)."""
        ...

    def adjoint(self, y: Tensor) -> Tensor:
        """A' y, (b, *shape), for y of the shape of A x."""
        ...


@dataclass(frozen=True, kw_only=True)
class Mask:
    """The elements of x that are seen; the others are 0.

    Args:
        seen: bool, of a shape that broadcasts over x (b, ...), such as (b, 1, h, w).
    """

    seen: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(self.seen, x, 0.0)

    def adjoint(self, y: Tensor) -> Tensor:
        return torch.where(self.seen, y, 0.0)

    def solve(self, y: Tensor, r2: Tensor, s2: Tensor) -> Tensor:
        return y / (append_dims(r2, y) * self.seen + append_dims(s2, y))


@dataclass(frozen=True, kw_only=True)
class Diagonal:
    """Each element of x times a weight: with noise of std s, an element of weight w is known to s / w; 0 hides it.

    Args:
        weight: of a shape that broadcasts over x (b, ...).
    """

    weight: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return self.weight.to(x) * x

    def adjoint(self, y: Tensor) -> Tensor:
        return self.weight.to(y) * y

    def solve(self, y: Tensor, r2: Tensor, s2: Tensor) -> Tensor:
        return y / (append_dims(r2, y) * self.weight.to(y).square() + append_dims(s2, y))


@dataclass(frozen=True, kw_only=True)
class Separable:
    """A matrix along each of the last two dimensions: a blur, a change of resolution.

    Args:
        down: (b, m, n), applied to the last dimension but one.
        across: (b, p, q), applied to the last dimension.
    """

    down: Tensor
    across: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return self._apply(x, self.down, self.across)

    def adjoint(self, y: Tensor) -> Tensor:
        return self._apply(y, self.down.mT, self.across.mT)

    def solve(self, y: Tensor, r2: Tensor, s2: Tensor) -> Tensor:
        """A A' is the product of two symmetric matrices along two dimensions, which their eigenvectors make diagonal."""
        (down, across), (a, b) = self._gram
        middle = (1,) * (y.ndim - 3)
        squares = a.to(y).reshape(len(a), *middle, -1, 1) * b.to(y).reshape(len(b), *middle, 1, -1)
        z = self._apply(y, down.mT, across.mT) / (append_dims(r2, y) * squares + append_dims(s2, y))
        return self._apply(z, down, across)

    @cached_property
    def _gram(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """The eigenvectors of down down' and across across' in columns, and their eigenvalues."""
        down, across = eigenvectors(self.down), eigenvectors(self.across)
        return (down[1], across[1]), (down[0], across[0])

    @staticmethod
    def _apply(x: Tensor, down: Tensor, across: Tensor) -> Tensor:
        middle = (1,) * (x.ndim - 3)  # channels
        down = down.to(x).reshape(len(down), *middle, *down.shape[1:])
        across = across.to(x).reshape(len(across), *middle, *across.shape[1:])
        return down @ x @ across.mT


@dataclass(frozen=True, kw_only=True)
class Channels:
    """Weighted sums of the channels: colour to grey.

    Args:
        weights: (b, m, c).
    """

    weights: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bmc,bc...->bm...", self.weights.to(x), x)

    def adjoint(self, y: Tensor) -> Tensor:
        return torch.einsum("bmc,bm...->bc...", self.weights.to(y), y)

    def solve(self, y: Tensor, r2: Tensor, s2: Tensor) -> Tensor:
        weights, one = self.weights.to(y), torch.eye(y.shape[1], dtype=y.dtype, device=y.device)
        matrix = append_dims(r2, weights) * (weights @ weights.mT) + append_dims(s2, weights) * one
        u: Tensor = torch.linalg.solve(matrix, y.flatten(2))  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return u.view_as(y)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


@dataclass(frozen=True, kw_only=True)
class Frequencies:
    """Some coefficients of the Hartley transform over the last two dimensions, H = Re F - Im F with F the orthonormal
    Fourier transform.

    H is real, symmetric and its own inverse. The coefficients at k and -k together are the Fourier coefficient at k.

    Args:
        seen: (b, 1, h, w) bool, in the order of `torch.fft.fft2`; symmetric in k and -k, to see Fourier coefficients.
    """

    seen: Tensor

    @staticmethod
    def transform(x: Tensor) -> Tensor:
        """H x."""
        f = torch.view_as_real(torch.fft.fft2(x, norm="ortho"))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        return f[..., 0] - f[..., 1]

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(self.seen, self.transform(x), 0.0)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.transform(torch.where(self.seen, y, 0.0))

    def solve(self, y: Tensor, r2: Tensor, s2: Tensor) -> Tensor:
        return y / (append_dims(r2, y) * self.seen + append_dims(s2, y))


@dataclass(frozen=True, kw_only=True)
class BlockCosines:
    """The cosine transform of blocks of 8x8, in units of the standard deviation of a JPEG file's rounding.

    JPEG rounds each coefficient to a multiple of its step q. The error is about uniform, of variance q^2 / 12, so that the
    coefficients divided by q / sqrt(12) are measured with noise 1: a linear problem.

    Args:
        std: (b, c, 8, 8), the standard deviation of the error of each coefficient, in units of x.
    """

    std: Tensor

    def forward(self, x: Tensor) -> Tensor:
        c = cosines(8).to(x)
        h, w = x.shape[2:]
        blocks = x.reshape(*x.shape[:2], h // 8, 8, w // 8, 8).transpose(-3, -2)  # (b, c, h / 8, w / 8, 8, 8)
        return (c @ blocks @ c.mT) / self.std.to(x)[:, :, None, None]

    def adjoint(self, y: Tensor) -> Tensor:
        c = cosines(8).to(y)
        blocks = c.mT @ (y / self.std.to(y)[:, :, None, None]) @ c
        return blocks.transpose(-3, -2).flatten(-4, -3).flatten(-2)

    def solve(self, y: Tensor, r2: Tensor, s2: Tensor) -> Tensor:
        return y / (append_dims(r2, y) * self.std.to(y)[:, :, None, None].square().reciprocal() + append_dims(s2, y))


def eigenvectors(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The eigenvalues (b, m) and, in columns, eigenvectors (b, m, m) of M M' for M (b, m, n), float64."""
    wide = to_float64(matrix)
    values, vectors = torch.linalg.eigh(wide @ wide.mT)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return values.clamp_min(0), vectors  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def cosines(n: int) -> Tensor:
    """The orthonormal cosine transform (DCT-II), (n, n) float64."""
    k = torch.arange(n, dtype=torch.float64)
    matrix = (torch.pi * k[:, None] * (k + 0.5) / n).cos() * (2 / n) ** 0.5
    matrix[0] /= 2**0.5
    return matrix


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """Any matrix on flattened samples.

    Args:
        matrix: (b, m, n).
        shape: of a sample x, of n elements.
    """

    matrix: Tensor
    shape: tuple[int, ...]

    def forward(self, x: Tensor) -> Tensor:
        return (self.matrix.to(x) @ x.flatten(1)[..., None])[..., 0]

    def adjoint(self, y: Tensor) -> Tensor:
        return (self.matrix.mT.to(y) @ y[..., None])[..., 0].reshape(len(y), *self.shape)

    def solve(self, y: Tensor, r2: Tensor, s2: Tensor) -> Tensor:
        values, vectors = (part.to(y) for part in self._gram)
        z = (vectors.mT @ y[..., None])[..., 0] / (r2[:, None] * values + s2[:, None])
        return (vectors @ z[..., None])[..., 0]

    @cached_property
    def _gram(self) -> tuple[Tensor, Tensor]:
        """The eigenvalues and eigenvectors of M M'."""
        return eigenvectors(self.matrix)


@dataclass(frozen=True, kw_only=True)
class Chain:
    """One operator after another: `second` of `first` of x."""

    first: Any
    second: Any

    def forward(self, x: Tensor) -> Tensor:
        return self.second.forward(self.first.forward(x))

    def adjoint(self, y: Tensor) -> Tensor:
        return self.first.adjoint(self.second.adjoint(y))


@dataclass(frozen=True, kw_only=True)
class Function:
    """An operator of the user's own, the same for every sample.

    Args:
        function: A, from (b, *shape) to (b, ...).
        adjoint_function: A'; None differentiates `function`, which costs another call of it.
        shape: of a sample x.

    Raises:
        ValueError: `function` is not linear, or the adjoint is not its adjoint.
    """

    function: Callable[[Tensor], Tensor]
    shape: tuple[int, ...]
    adjoint_function: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        require_adjoint(self, self.shape)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)

    def adjoint(self, y: Tensor) -> Tensor:
        if self.adjoint_function is not None:
            return self.adjoint_function(y)
        with torch.enable_grad():
            x = torch.zeros(len(y), *self.shape, dtype=y.dtype, device=y.device, requires_grad=True)
            return torch.autograd.grad(self.function(x), x, y)[0]


AnyOperator = Mask | Diagonal | Separable | Channels | Frequencies | BlockCosines | Matrix | Chain | Function


def require_adjoint(operator: Operator, shape: tuple[int, ...], *, count: int = 1, tolerance: float = 1e-6) -> None:
    """Check on random vectors, in float64, that A is linear and that <A x, y> = <x, A' y>.

    Args:
        shape: of a sample x.
        count: samples, for an operator whose tensors are of so many.

    Raises:
        ValueError: it is not; says which and by how much."""
    x, z = (_normal(torch.empty(count, *shape, dtype=torch.float64), label) for label in (0, 1))
    ax = operator.forward(x)
    y = _normal(torch.empty_like(ax), 2)
    bent = (operator.forward(2 * x + z) - 2 * ax - operator.forward(z)).abs().max()
    if not bool(bent <= tolerance * ax.abs().max().clamp_min(1)):
        raise ValueError(
            f"the operator is not linear: A(2x + z) differs from 2 A x + A z by {float(bent):.2g}; give the linear part as "
            "the operator, and the rest as the measurement's `nonlinearity`"
        )
    back = operator.adjoint(y)
    if back.shape != x.shape:
        raise ValueError(f"the adjoint returns {tuple(back.shape[1:])} per sample, and x is {shape}")
    left, right = (ax * y).flatten(1).sum(1), (x * back).flatten(1).sum(1)
    size = (dot(ax, ax) * dot(y, y)).sqrt().clamp_min(1e-30)
    if not bool(((left - right).abs() <= tolerance * size).all()):
        i = int(((left - right).abs() / size).argmax())
        raise ValueError(
            f"this is not the operator's adjoint: <A x, y> is {float(left[i]):.6g} and <x, A' y> is {float(right[i]):.6g} "
            "for random x and y; leave the adjoint out to have it derived"
        )


def _normal(like: Tensor, label: int) -> Tensor:
    names = torch.arange(len(like))
    return SampleNoise(seeds=names, steps=torch.full_like(names, label)).normal(like)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """The inner product of each sample, (b,), summed in one order whatever the number of samples and threads."""
    products = (a * b).flatten(1)
    if products.shape[1] > BLOCK:
        products = F.pad(products, (0, -products.shape[1] % BLOCK)).view(len(products), -1, BLOCK).sum(2)
    return products.sum(1)


def solve_white(operator: Any, y: Tensor, r2: Tensor, s2: Tensor) -> Tensor:
    """u of (r^2 A A' + s^2) u = y, shaped like y, for white data of variance r^2 and noise of variance s^2.

    In closed form by the operator's own `solve`, if it has one, else by conjugate gradients.

    Args:
        y: (b, ...), of the shape of A x.
        r2, s2: (b,).
    """
    own = getattr(operator, "solve", None)
    if own is not None:
        return own(y, r2, s2)
    at = operator.adjoint(y)

    def matrix(u: Tensor) -> Tensor:
        return operator.forward(append_dims(r2, at) * operator.adjoint(u)) + append_dims(s2, u) * u

    return solve_by_cg(matrix, y, iterations=100, tolerance=1e-5)


def solve_by_cg(
    matrix: Callable[[Tensor], Tensor], target: Tensor, *, iterations: int, tolerance: float = 0.0
) -> Tensor:
    """The solution u of `matrix(u) = target` for a symmetric positive matrix of each sample, by conjugate gradients.

    A sample whose residual has fallen below `tolerance` times that of 0 stays as it is, so samples are independent.

    Args:
        matrix: from (b, ...) to (b, ...).
        iterations: applications of the matrix, at most.
    """
    u, r = torch.zeros_like(target), target
    p, square = r, dot(r, r)
    floor = square * tolerance**2
    for _ in range(iterations):
        active = (square > floor) & (square > 0)
        if not bool(active.any()):
            break
        mp = matrix(p)
        curvature = dot(p, mp)
        active = active & (curvature > 0)  # a matrix that is not positive stops here
        step = append_dims(torch.where(active, square / torch.where(active, curvature, 1.0), 0.0), u)
        u, r = u + step * p, r - step * mp
        new = torch.where(active, dot(r, r), 0.0)
        p = r + append_dims(torch.where(active, new / torch.where(active, square, 1.0), 0.0), u) * p
        square = new
    return u
