"""A network whose deep layers are computed for some evaluations of a sample only, and used again for the others.

    out(x, t) = shallow(x, t, deep),   deep of the sample's evaluation at which it was computed last

Features are kept per sample (`features`), in its condition, so they follow it into any batch and end with it. An input
whose gradient is asked for, and one without slots, is computed in full.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.features import Entry
from langevin.diffusion.light import FeatureCache
from langevin.diffusion.shape import first_leaf


@dataclass(eq=False)
class Deep:
    """What the deep layers gave for b inputs before, and give now.

    Args:
        shallow: layers that are always computed, see `FeatureCache`.
        stale: (b,) bool, where they are computed.
        kept: (b, ...), what they gave before, anything where stale; None if all are.
        given: (b, ...), what they give now, after a call.
    """

    shallow: int
    stale: Tensor
    kept: Tensor | None
    given: Tensor | None = None

    def after(self, h: Tensor, layers: Callable[[Tensor | None], Tensor]) -> Tensor:
        """What layers make of h (b, ...), where what they add to it is used again.

        Args:
            layers: from the indices (m,) int64 of the inputs, or None for all, to their result (m, ...)."""
        if self.kept is None:
            result = layers(None)
            self.given = result - h
            return result
        self.given = self.kept.to(h.dtype)
        result = h + self.given
        if len(index := self.stale.nonzero()[:, 0]):
            computed = layers(index).to(result.dtype)
            result[index] = computed
            self.given = self.given.index_copy(0, index, (computed - h[index]).to(self.given.dtype))
        return result

    def instead(self, layers: Callable[[Tensor | None], Tensor]) -> Tensor:
        """What layers give (b, ...), which is used again itself."""
        if self.kept is None:
            self.given = layers(None)
        else:
            self.given = self.kept
            if len(index := self.stale.nonzero()[:, 0]):
                self.given = self.kept.index_copy(0, index, layers(index).to(self.kept.dtype))
        return self.given


class HasDeepLayers(Protocol):
    """A network that can be called without computing its deep layers."""

    def num_layers(self) -> int:
        """The largest number of shallow layers that leaves a deep one."""
        ...

    def reusing(self, x: Any, c_time: Any, condition: Condition | None, deep: Deep) -> Any:
        """The output, as of a call, by the deep layers that `deep` gives."""
        ...


@dataclass(frozen=True, kw_only=True)
class Reusing:
    """`network`, whose deep layers are used again for inputs whose condition has `features`.

    Raises:
        ValueError: the network has no layers that could be reused, or fewer than are to be shallow.
    """

    network: Any
    cache: FeatureCache

    def __post_init__(self) -> None:
        if not hasattr(self.network, "reusing"):
            raise ValueError(
                f"a cache keeps the deep layers of a U-Net or of a transformer over grids, parts or columns, and "
                f"{type(self.network).__name__} has none that could be used again: leave it out"
            )
        if self.cache.shallow > self.network.num_layers():
            raise ValueError(
                f"{self.cache.shallow} shallow layers leave this network no deep ones: take a cache with shallow at most "
                f"{self.network.num_layers()}, or leave it out"
            )

    @property
    def config(self) -> Any:
        """Of the network."""
        return self.network.config

    def __call__(self, x: Any, c_time: Any, condition: Condition | None = None) -> Any:
        features = None if condition is None else condition.features
        condition = None if condition is None else replace(condition, features=None)
        if features is None or (torch.is_grad_enabled() and first_leaf(x).requires_grad):
            return self.network(x, c_time, condition)
        entries, shape = features.entries(), tuple(first_leaf(x).shape[1:])
        levels = torch.cat([part.reshape(len(part), -1) for part in _leaves(c_time)], 1)
        stale = torch.tensor([self._stale(entry, shape, levels[i]) for i, entry in enumerate(entries)])
        deep = Deep(shallow=self.cache.shallow, stale=stale.to(levels.device), kept=_stacked(entries, stale))
        output = self.network.reusing(x, c_time, condition, deep)
        assert deep.given is not None, "a network calls its deep layers once"
        for i, entry in enumerate(entries):
            entry.age += 1
            if stale[i]:
                entry.deep, entry.level = deep.given[i].clone(), levels[i].clone()  # a view would keep the whole batch
                entry.shape, entry.age = shape, 1
        return output

    def _stale(self, entry: Entry, shape: tuple[int, ...], level: Tensor) -> bool:
        """Whether the deep layers are computed for an input."""
        if entry.deep is None or entry.level is None or entry.shape != shape or entry.level.shape != level.shape:
            return True
        moved = self.cache.moved
        far = moved is not None and float((level - entry.level).abs().max()) > moved / 8  # c_time is -log-SNR / 8
        return far or entry.age >= self.cache.interval


def _leaves(value: Any) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else [leaf for part in value.values() for leaf in _leaves(part)]


def _stacked(entries: list[Entry], stale: Tensor) -> Tensor | None:
    """The deep features of all entries, (b, ...), zeros where stale; None if all are."""
    if bool(stale.all()):
        return None
    held = [None if old else entry.deep for entry, old in zip(entries, stale.tolist(), strict=True)]  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType, reportUnknownArgumentType]
    like = next(part for part in held if part is not None)
    return torch.stack([torch.zeros_like(like) if part is None else part for part in held])
