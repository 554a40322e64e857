"""Points as training examples."""

from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch
from langevin.diffusion.noise import SampleNoise
from langevin.modalities.points.codec import Coordinates
from langevin.modalities.points.data import PointSet
from langevin.training.ahead import copied


@dataclass(frozen=True, kw_only=True)
class PointBatches:
    """Encoded points by index; `noise` is not used."""

    dataset: PointSet
    codec: Coordinates
    device: torch.device = torch.device("cpu")
    remarks: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return self.dataset.shape

    def __len__(self) -> int:
        return len(self.dataset)

    def __call__(self, items: Tensor, noise: SampleNoise | None = None) -> Batch:
        """The points at `items` (b,) int64."""
        return Batch(x=self.codec.encode(copied(self.dataset.read(items), self.device)))
