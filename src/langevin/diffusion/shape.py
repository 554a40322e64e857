"""Broadcasting by trailing dimensions, and functions on data that may be a mapping of tensors.

Time is (b,), or has the first dimensions of the data, each of its size or 1: (b, positions) for tokens, (b, 1, frames) for
x (b, channels, frames, ...). To multiply them, times get trailing dimensions of size 1. For data that is a mapping of
parts, time is shared by all parts, or a mapping with the same names.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import Tensor

Data = Tensor | Mapping[str, "Data"]  # (b, ...), or a mapping of such: every leaf has the same b
D = TypeVar("D", bound=Data)


def append_dims(t: Tensor, like: Tensor) -> Tensor:
    """`t` with trailing ones until it has as many dimensions as `like`."""
    return t.reshape(t.shape + (1,) * (like.ndim - t.ndim))


def tree_map(function: Callable[..., Tensor], x: D, *others: Any) -> D:
    """`function` on a tensor, or on every part of a mapping (with the same part of the others)."""
    if isinstance(x, Tensor):
        return function(x, *others)  # type: ignore[return-value]
    return {name: tree_map(function, part, *(o[name] for o in others)) for name, part in x.items()}  # type: ignore[return-value]


def leaves(x: Data) -> list[Tensor]:
    """The tensors of x, in its order."""
    return [x] if isinstance(x, Tensor) else [leaf for part in x.values() for leaf in leaves(part)]


def first_leaf(x: Data) -> Tensor:
    """Any tensor of x, for its device and number of samples."""
    return x if isinstance(x, Tensor) else first_leaf(next(iter(x.values())))


def part_of(t: Data, name: str) -> Tensor:
    """The times of a named part: `t` itself if all parts share it."""
    return t if isinstance(t, Tensor) else first_leaf(t[name])


def format_values(x: Tensor) -> str:
    """The first four values of a tensor, for messages."""
    shown = ", ".join(f"{float(v):.4g}" for v in x.detach().flatten()[:4])
    return f"[{shown}{', ...' if x.numel() > 4 else ''}]"


def require_times(t: Data, x: Data) -> None:
    """Check that `t` is (b,), or one per position: (b, positions) for x (b, positions, ...), (b, 1, frames) for x (b,
    channels, frames, ...); and within [0, 1]; for every part of x.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(x, Tensor):
        if not isinstance(t, Tensor) and t.keys() != x.keys():
            raise ValueError(f"times are given for {', '.join(t)}, and the parts of the data are {', '.join(x)}")
        for name, part in x.items():
            require_times(part_of(t, name), part)
        return
    if not isinstance(t, Tensor):
        raise ValueError("times by part are for data that is a mapping of parts, and this is one tensor")
    fits = 1 <= t.ndim <= x.ndim and len(t) == len(x)
    if not fits or any(size not in (1, whole) for size, whole in zip(t.shape[1:], x.shape[1:], strict=False)):
        raise ValueError(
            f"time of shape {tuple(t.shape)} does not lead data of shape {tuple(x.shape)}: give one time per sample, (b,), "
            "one per position, (b, positions), or one per frame, (b, 1, frames)"
        )
    if not bool(((t >= 0) & (t <= 1)).all()):
        bad = t[~((t >= 0) & (t <= 1))][0].item()
        raise ValueError(f"time must lie in [0, 1] (0 is clean, 1 is the prior), got {bad}")
