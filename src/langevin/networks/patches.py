"""Patches to channels and back, in any number of space dimensions."""

import math

from torch import Tensor

Patch = int | tuple[int, ...]  # the side along every dimension of space, or along each


def patch_sides(patch: Patch, dimensions: int) -> tuple[int, ...]:
    """The side of a patch along each dimension of space. Raises `ValueError` for sides of another number of dimensions."""
    sides = (patch,) * dimensions if isinstance(patch, int) else tuple(patch)
    if len(sides) != dimensions:
        raise ValueError(
            f"network.patch has a side for each of the {dimensions} dimensions of space, or one; got {patch}"
        )
    return sides


def patchify(x: Tensor, patch: Patch) -> Tensor:
    """(b, c, *space) -> (b, c volume, *space / patch), the volume of a patch.

    Raises:
        ValueError: a side is not a multiple of the patch."""
    space = x.shape[2:]
    d = len(space)
    sides = patch_sides(patch, d)
    if any(n % side for n, side in zip(space, sides, strict=True)):
        raise ValueError(f"data of space {tuple(space)} cannot be cut into patches of side {patch}")
    if set(sides) == {1}:
        return x
    cut = (size for n, side in zip(space, sides, strict=True) for size in (n // side, side))
    x = x.reshape(*x.shape[:2], *cut)  # (b, c, n1/p, p, n2/p, p, ...)
    order = [0, 1, *range(3, 3 + 2 * d, 2), *range(2, 2 + 2 * d, 2)]  # (b, c, p, p, ..., n1/p, n2/p, ...)
    return x.permute(order).reshape(x.shape[0], -1, *(n // side for n, side in zip(space, sides, strict=True)))


def unpatchify(x: Tensor, patch: Patch) -> Tensor:
    """The inverse of `patchify`: (b, c volume, *space / patch) -> (b, c, *space)."""
    space = x.shape[2:]
    d = len(space)
    sides = patch_sides(patch, d)
    if set(sides) == {1}:
        return x
    x = x.reshape(x.shape[0], x.shape[1] // math.prod(sides), *sides, *space)  # (b, c, p, p, ..., n1/p, n2/p, ...)
    order = [0, 1, *(i for axis in range(d) for i in (2 + d + axis, 2 + axis))]  # (b, c, n1/p, p, n2/p, p, ...)
    return x.permute(order).reshape(*x.shape[:2], *(n * side for n, side in zip(space, sides, strict=True)))
