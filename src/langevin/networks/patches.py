"""Patches to channels and back, in any number of space dimensions."""

from torch import Tensor


def patchify(x: Tensor, patch: int) -> Tensor:
    """(b, c, *space) -> (b, c patch^d, *space / patch), where d is the number of space dimensions.

    Raises:
        ValueError: a side is not a multiple of the patch."""
    space = x.shape[2:]
    if any(n % patch for n in space):
        raise ValueError(f"data of space {tuple(space)} cannot be cut into patches of side {patch}")
    if patch == 1:
        return x
    d = len(space)
    x = x.reshape(*x.shape[:2], *(size for n in space for size in (n // patch, patch)))  # (b, c, n1/p, p, n2/p, p, ...)
    order = [0, 1, *range(3, 3 + 2 * d, 2), *range(2, 2 + 2 * d, 2)]  # (b, c, p, p, ..., n1/p, n2/p, ...)
    return x.permute(order).reshape(len(x), -1, *(n // patch for n in space))


def unpatchify(x: Tensor, patch: int) -> Tensor:
    """The inverse of `patchify`: (b, c patch^d, *space / patch) -> (b, c, *space)."""
    if patch == 1:
        return x
    space = x.shape[2:]
    d = len(space)
    x = x.reshape(len(x), x.shape[1] // patch**d, *([patch] * d), *space)  # (b, c, p, p, ..., n1/p, n2/p, ...)
    order = [0, 1, *(i for axis in range(d) for i in (2 + d + axis, 2 + axis))]  # (b, c, n1/p, p, n2/p, p, ...)
    return x.permute(order).reshape(*x.shape[:2], *(n * patch for n in space))
