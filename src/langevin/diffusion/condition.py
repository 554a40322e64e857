"""What a denoiser is told besides (x_t, t): five ports, each with a mask, a keep bit and a guidance weight a row.

    global_   one thing for the whole row: a class index (b,), or a vector (b, d)
    cross     a sequence to attend to: token indices (b, n), or vectors (b, n, d)
    prepend   places put before the data's own, (b, n, d)
    concat    channels beside the data's own, (b, c, ...), of its shape (a low-resolution picture, a mask)
    aligned   a sequence with seconds of its own, (b, n, d), lined up with the data's time axis

A keep bit of False withholds a port from its row: what training does at random and classifier-free guidance on purpose.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from langevin.diffusion.posterior import Index


@dataclass(frozen=True, kw_only=True)
class Port:
    """One thing a denoiser is told.

    Args:
        tensor: (b, ...), see the module.
        mask: (b, n) bool, True where a sequence holds something; None if it does everywhere.
        keep: (b,) bool, False where the row is not to see it; None if all do.
    """

    tensor: Tensor
    mask: Tensor | None = None
    keep: Tensor | None = None

    def kept(self) -> Tensor:
        """(b,) bool."""
        if self.keep is not None:
            return self.keep
        return torch.ones(len(self.tensor), dtype=torch.bool, device=self.tensor.device)

    def shown(self) -> Tensor:
        """(b, n) bool: the mask, all True where there is none."""
        if self.mask is not None:
            return self.mask
        return torch.ones(self.tensor.shape[:2], dtype=torch.bool, device=self.tensor.device)

    def map(self, function: Callable[[Tensor], Tensor]) -> "Port":
        """`function` on each of its tensors."""
        return Port(
            tensor=function(self.tensor),
            mask=None if self.mask is None else function(self.mask),
            keep=None if self.keep is None else function(self.keep),
        )

    def only(self, keep: Tensor) -> "Port":
        """The same port, seen by the rows where `keep` (b,) bool holds (and that saw it before)."""
        return Port(tensor=self.tensor, mask=self.mask, keep=self.kept() & keep)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """The five ports and `guidance` (b,), the weight of classifier-free guidance (1 is neutral); None is absent."""

    global_: Port | None = None
    cross: Port | None = None
    prepend: Port | None = None
    concat: Port | None = None
    aligned: Port | None = None
    guidance: Tensor | None = None

    def _over(self, port: Callable[[Port], Port], guidance: Callable[[Tensor], Tensor]) -> "Condition":
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        weight = values.pop("guidance")
        return Condition(
            **{name: None if value is None else port(value) for name, value in values.items()},
            guidance=None if weight is None else guidance(weight),
        )

    def map(self, function: Callable[[Tensor], Tensor]) -> "Condition":
        """`function` on every tensor."""
        return self._over(lambda port: port.map(function), function)

    def rows(self, index: Index) -> "Condition":
        return self.map(lambda tensor: tensor[index])

    def only(self, keep: Tensor) -> "Condition":
        """Every port withheld from the rows where `keep` (b,) is False."""
        return self._over(lambda port: port.only(keep), lambda weight: weight)

    def dropped(self) -> "Condition":
        """Every port withheld from every row: the unconditional question."""
        return self._over(lambda port: port.only(torch.zeros_like(port.kept())), lambda weight: weight)


def join(first: Condition, second: Condition) -> Condition:
    """The rows of `first`, then those of `second`; both must have the same ports.

    Raises:
        ValueError: a port is present in one only.
    """
    parts: dict[str, Port | Tensor | None] = {}
    for f in fields(Condition):
        a, b = getattr(first, f.name), getattr(second, f.name)
        if (a is None) != (b is None):
            raise ValueError(f"cannot join conditions: '{f.name}' is present in one and absent in the other")
        if isinstance(a, Port):
            mask = None if a.mask is None and b.mask is None else torch.cat([a.shown(), b.shown()])
            tensor, keep = torch.cat([a.tensor, b.tensor]), torch.cat([a.kept(), b.kept()])
            parts[f.name] = Port(tensor=tensor, mask=mask, keep=keep)
        else:
            parts[f.name] = None if a is None else torch.cat([a, b])
    return Condition(**parts)  # type: ignore[arg-type]
