"""Blocks one after another, of which those in the middle may be computed for some inputs of a batch only."""

from collections.abc import Callable, Iterable

from torch import Tensor, nn

from langevin.diffusion.reuse import Deep

Through = Callable[[nn.Module, Tensor, Tensor | None], Tensor]


def picked(x: Tensor, index: Tensor | None) -> Tensor:
    """The entries of x (b, ...) with the indices (m,) int64; all for None."""
    return x if index is None else x[index]


def through_blocks(blocks: Iterable[nn.Module], h: Tensor, through: Through, deep: Deep | None = None) -> Tensor:
    """h (b, ...) after all blocks.

    Args:
        through: h after a block, for the inputs of the indices (m,) int64; None is all.
        deep: how often the blocks between its first and last shallow ones are computed; None is always."""
    blocks = list(blocks)
    if deep is None:
        return _all(blocks, through, h, None)
    first, middle, last = (blocks[part] for part in _parts(deep.shallow))
    h = _all(first, through, h, None)
    start = h
    h = deep.after(start, lambda index: _all(middle, through, picked(start, index), index))
    return _all(last, through, h, None)


def _parts(shallow: int) -> tuple[slice, slice, slice]:
    return slice(0, shallow), slice(shallow, -shallow), slice(-shallow, None)


def _all(blocks: Iterable[nn.Module], through: Through, h: Tensor, index: Tensor | None) -> Tensor:
    for block in blocks:
        h = through(block, h, index)
    return h
