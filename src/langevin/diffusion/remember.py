"""Functions of time, remembered: a sampler asks for the numbers of the same few times over and over.

Coefficients are computed in float64, a dozen small operations each time, which for few rows costs more than the step that
they are for. They depend on the time alone, elementwise, so what was computed for a time can be looked up by its value.
"""

from collections.abc import Callable

import torch
from torch import Tensor

FEW = 256  # times at once up to which looking up by value is cheaper than computing
MOST = 1 << 16  # remembered times


class Remembered:
    """An elementwise function of float64 times of one shape; its numbers as one tensor (numbers, *shape).

    Remembered are few times on a CPU without gradients, which is sampling; training never asks for a time twice, and a
    GPU would have to be waited for."""

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
                known = self.known = {}  # not emptied: another thread may be reading
            new = [key for key in dict.fromkeys(keys) if key not in known]
            rows = torch.stack(self.function(*torch.tensor(new, dtype=torch.float64).unbind(1)), 1)
            known.update(zip(new, rows.tolist(), strict=True))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        return torch.tensor([known[key] for key in keys], dtype=torch.float64).t().reshape(-1, *shape)
