"""Broadcasting by trailing dimensions, and functions on data that may be a mapping of tensors.

Time is (b,), or has the first dimensions of the data, each of its size or 1: (b, positions) for tokens, (b, 1, frames) for
x (b, channels, frames, ...). To multiply them, times get trailing dimensions of size 1.
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


def first_leaf(x: Data) -> Tensor:
    """Any tensor of x, for its device and number of samples."""
    return x if isinstance(x, Tensor) else first_leaf(next(iter(x.values())))


def format_values(x: Tensor) -> str:
    """The first four values of a tensor, for messages."""
    shown = ", ".join(f"{float(v):.4g}" for v in x.detach().flatten()[:4])
    return f"[{shown}{', ...' if x.numel() > 4 else ''}]"


def require_times(t: Tensor, x: Tensor) -> None:
    """Check that `t` is (b,), or one per position: (b, positions) for x (b, positions, ...), (b, 1, frames) for x (b,
    channels, frames, ...); and within [0, 1].

    Raises:
        ValueError: it is not.
    """
    fits = 1 <= t.ndim <= x.ndim and len(t) == len(x)
    if not fits or any(size not in (1, whole) for size, whole in zip(t.shape[1:], x.shape[1:], strict=False)):
        raise ValueError(
            f"time of shape {tuple(t.shape)} does not lead data of shape {tuple(x.shape)}: give one time per sample, (b,), "
            "one per position, (b, positions), or one per frame, (b, 1, frames)"
        )
    if not bool(((t >= 0) & (t <= 1)).all()):
        bad = t[~((t >= 0) & (t <= 1))][0].item()
        raise ValueError(f"time must lie in [0, 1] (0 is clean, 1 is the prior), got {bad}")
