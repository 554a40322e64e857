"""What one training step is given: clean data with its condition, and the randomness of its rows."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.noise import RowNoise, mix
from langevin.diffusion.objective import lattice


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Clean data x (b, ...) or a mapping of such, and its condition.

    Args:
        mask: the places that count; None: all.
        known: the places that are given and never corrupted; None: none.
    """

    x: Any
    condition: Condition | None = None
    mask: Tensor | None = None
    known: Any = None


@dataclass(frozen=True, kw_only=True)
class Draw:
    """The randomness of some rows of a global batch: a function of (seed, step, row), however the batch is split.

    Args:
        noise: one stream a row.
        u: (b,) float64 uniforms of a lattice that the whole global batch shares, for the times.
    """

    noise: RowNoise
    u: Tensor


def draw(*, seed: int, step: int, rows: Tensor, count: int) -> Draw:
    """The randomness of the rows `rows` (b,) int64 of the `count` rows of a step's global batch."""
    name = torch.tensor([seed], dtype=torch.int64, device=rows.device)
    steps = torch.tensor([step], dtype=torch.int64, device=rows.device)
    offset = RowNoise(seeds=name, steps=steps).fork(-1).uniform(torch.empty(1, 1))[0, 0].to(rows.device)
    noise = RowNoise(seeds=mix(name.expand(len(rows)), rows), steps=steps.expand(len(rows)))
    return Draw(noise=noise, u=lattice(count, offset, rows))
