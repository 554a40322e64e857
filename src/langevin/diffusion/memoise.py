"""Memoised functions of time: a sampler needs the coefficients of the same few times again and again.

Coefficients take a dozen small float64 operations, which for few samples cost more than the step itself. They are
elementwise functions of time, so they are stored and looked up by its value.
"""

from collections.abc import Callable

import torch
from torch import Tensor

FEW = 256  # number of times in a call up to which a look-up is cheaper than computing
MOST = 1 << 16  # stored times


class MemoisedByTime:
    """An elementwise function of float64 times of equal shape; its k values as one tensor (k, *shape).

    It stores values only for few times on a CPU without gradients, as in sampling. Training does not repeat times, and on a
    GPU the look-up would synchronise."""

    def __init__(self, function: Callable[..., tuple[Tensor, ...]]) -> None:
        self.function = function
        self.known: dict[tuple[float, ...], list[float]] = {}

    def __call__(self, *times: Tensor) -> Tensor:
        shape = times[0].shape
        if torch.is_grad_enabled() or times[0].device.type != "cpu" or not 0 < shape.numel() <= FEW:
            return torch.stack(self.function(*times))
        columns: list[list[float]] = [t.flatten().tolist() for t in times]  # pyright: ignore[reportUnknownMemberType]
        keys, known = list(zip(*columns, strict=True)), self.known
        if any(key not in known for key in keys):
            if len(known) > MOST:
                known = self.known = {}  # a new dict: another thread may be reading the old one
            new = [key for key in dict.fromkeys(keys) if key not in known]
            values = torch.stack(self.function(*torch.tensor(new, dtype=torch.float64).unbind(1)), 1)
            known.update(zip(new, values.tolist(), strict=True))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        return torch.tensor([known[key] for key in keys], dtype=torch.float64).t().reshape(-1, *shape)
