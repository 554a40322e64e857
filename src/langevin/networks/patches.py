"""Space to channels and back, in any number of dimensions: patches of side p become channels."""

from torch import Tensor


def fold(x: Tensor, patch: int) -> Tensor:
    """(b, c, *space) -> (b, c p^k, *space / p).

    Raises:
        ValueError: a side is no multiple of the patch."""
    space = x.shape[2:]
    if any(n % patch for n in space):
        raise ValueError(f"data of space {tuple(space)} cannot be cut into patches of side {patch}")
    if patch == 1:
        return x
    k = len(space)
    x = x.reshape(*x.shape[:2], *(m for n in space for m in (n // patch, patch)))
    order = [0, 1, *range(3, 3 + 2 * k, 2), *range(2, 2 + 2 * k, 2)]
    return x.permute(order).reshape(len(x), -1, *(n // patch for n in space))


def unfold(x: Tensor, patch: int) -> Tensor:
    """The inverse of `fold`."""
    if patch == 1:
        return x
    space = x.shape[2:]
    k = len(space)
    x = x.reshape(len(x), x.shape[1] // patch**k, *([patch] * k), *space)
    order = [0, 1, *(i for a in range(k) for i in (2 + k + a, 2 + a))]
    return x.permute(order).reshape(*x.shape[:2], *(n * patch for n in space))
