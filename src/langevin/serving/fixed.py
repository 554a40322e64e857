"""A denoiser whose arithmetic does not depend on how many samples it is given."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser, TokenDenoiser
from langevin.diffusion.posterior import Prediction, concatenate
from langevin.diffusion.shape import first_leaf, tree_map

BATCH = 8


@dataclass(frozen=True, kw_only=True)
class FixedBatch:
    """`denoiser`, evaluated on exactly `batch_size` inputs at a time; missing ones repeat the last.

    Matrix products of another size round otherwise. With this one a sample's prediction is the same to the bit in
    any batch, on a CPU and on GPUs whose kernels do not depend on the content of the other inputs."""

    denoiser: Denoiser[Prediction]
    batch_size: int = BATCH

    def __call__(self, x_t: Any, t: Any, condition: Condition | None = None) -> Prediction:
        count, parts = len(first_leaf(x_t)), list[Prediction]()
        for first in range(0, count, self.batch_size):
            index = torch.arange(first, first + self.batch_size, device=first_leaf(x_t).device).clamp_max(count - 1)
            part = self._evaluated(index, x_t, t, condition)
            parts.append(part.select(slice(0, min(self.batch_size, count - first))))
        return concatenate(parts)

    def _evaluated(self, index: Tensor, x_t: Any, t: Any, condition: Condition | None) -> Prediction:
        return self.denoiser(
            tree_map(lambda part: part[index], x_t), tree_map(lambda part: part[index.to(part.device)], t),
            None if condition is None else condition.map(lambda part: part[index.to(part.device)]),
        )  # fmt: skip


def fixed(denoiser: Denoiser[Any]) -> FixedBatch:
    """The denoiser at a fixed batch size, and of tokens at every position: the number of masks varies too."""
    if isinstance(denoiser, TokenDenoiser):
        denoiser = replace(denoiser, at_masks_only=False)
    return FixedBatch(denoiser=denoiser)


__all__ = ["BATCH", "FixedBatch", "fixed"]
