"""The input of a training step: clean data with its condition, and the randomness of its samples."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.condition import Condition
from langevin.diffusion.float64 import float64_device
from langevin.diffusion.noise import SampleNoise, mix
from langevin.diffusion.objective import low_discrepancy
from langevin.diffusion.shape import append_dims


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Clean data x (b, ...) or a mapping of such, and its condition.

    Args:
        mask: bool, the positions that the loss covers, with the shape of x or of its first dimensions, or (b, 1, *space);
            None: all. Of data in parts all elements that are not known count.
        known: bool, the elements that are never corrupted, with the shape of x; None: none.
    """

    x: Any
    condition: Condition | None = None
    mask: Tensor | None = None
    known: Any = None

    def counted(self) -> Tensor | None:
        """The positions that the loss covers: `mask` and the condition's data mask; None: all."""
        inside = None if self.condition is None or not isinstance(self.x, Tensor) else self.condition.over(self.x)
        if self.mask is None or inside is None:
            return inside if self.mask is None else self.mask
        return append_dims(self.mask.bool(), inside) & inside


@dataclass(frozen=True, kw_only=True)
class StepRandomness:
    """The randomness of samples of a global batch: a function of (seed, step, index), however the batch is split.

    Args:
        noise: one stream per sample.
        u: (b,) float64 uniforms for the times, on a lattice over the whole global batch.
        progress: of the run, from 0 to 1.
        restarts: how often the run was rolled back; a method may train more gently after that.
    """

    noise: SampleNoise
    u: Tensor
    progress: float = 0.0
    restarts: int = 0

    def select(self, index: Tensor) -> "StepRandomness":
        """The randomness of the samples of an index (m,) int64."""
        noise = SampleNoise(seeds=self.noise.seeds[index], steps=self.noise.steps[index])
        return replace(self, noise=noise, u=self.u[index])

    @property
    def corruption(self) -> SampleNoise:
        """The noise that x is corrupted with, by which a coupling has chosen x."""
        return self.noise.fork(2)


def step_randomness(
    *, seed: int, step: int, samples: Tensor, count: int, progress: float = 0.0, restarts: int = 0
) -> StepRandomness:
    """The randomness of the samples with indices `samples` (b,) int64 in a global batch of `count`."""
    name = torch.tensor([seed], dtype=torch.int64, device=samples.device)
    steps = torch.tensor([step], dtype=torch.int64, device=samples.device)
    offset = (
        SampleNoise(seeds=name, steps=steps)
        .fork(-1)
        .uniform(torch.empty(1, 1))[0, 0]
        .to(float64_device(samples.device))
    )
    noise = SampleNoise(seeds=mix(name.expand(len(samples)), samples), steps=steps.expand(len(samples)))
    u = low_discrepancy(count, offset, samples)
    return StepRandomness(noise=noise, u=u, progress=progress, restarts=restarts)
