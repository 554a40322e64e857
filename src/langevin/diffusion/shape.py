"""The one shape rule: per-row and per-place numbers stand at the left and are padded on the right.

Time is (b,) or (b, places); data is (b, ...) or (b, places, ...). Multiplying one by the other pads the first with
trailing ones. Mappings of tensors (data of several parts) are handled part by part.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor


def right_pad(t: Tensor, like: Tensor) -> Tensor:
    """`t` with trailing ones until it has as many dimensions as `like`."""
    return t.reshape(t.shape + (1,) * (like.ndim - t.ndim))


def each(function: Callable[..., Tensor], x: Any, *others: Any) -> Any:
    """`function` on a tensor, or on every part of a mapping (with the same part of the others)."""
    if isinstance(x, Mapping):
        return {name: each(function, part, *(o[name] for o in others)) for name, part in x.items()}  # type: ignore[union-attr]
    return function(x, *others)


def some(x: Any) -> Tensor:
    """A tensor of x, whichever: for its device and number of rows."""
    return some(next(iter(x.values()))) if isinstance(x, Mapping) else x  # type: ignore[arg-type,return-value]


def state_of(x: Tensor) -> str:
    """A state in words: its first few numbers."""
    shown = ", ".join(f"{float(v):.4g}" for v in x.flatten()[:4])
    return f"[{shown}{', ...' if x.numel() > 4 else ''}]"


def require_times(t: Tensor, x: Tensor) -> None:
    """Check that `t` is (b,) or (b, places) for x (b, places, ...), within [0, 1].

    Raises:
        ValueError: with both shapes, or the offending value.
    """
    if t.ndim < 1 or t.shape != x.shape[: t.ndim]:
        raise ValueError(
            f"time of shape {tuple(t.shape)} does not lead data of shape {tuple(x.shape)}: "
            "give one time a row, (b,), or one a place, (b, places)"
        )
    if not bool(((t >= 0) & (t <= 1)).all()):
        bad = t[~((t >= 0) & (t <= 1))][0].item()
        raise ValueError(f"time must lie in [0, 1] (0 is clean, 1 is the prior), got {bad}")
