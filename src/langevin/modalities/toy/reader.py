"""From points to the batches that a method trains on."""

from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch
from langevin.diffusion.noise import RowNoise
from langevin.modalities.toy.codec import Coordinates
from langevin.modalities.toy.data import Points


@dataclass(frozen=True, kw_only=True)
class PointReader:
    """Batches of points by item number."""

    points: Points
    codec: Coordinates
    device: torch.device = torch.device("cpu")
    remarks: tuple[str, ...] = ()

    @property
    def part(self) -> Points:
        """What is read."""
        return self.points

    def __call__(self, items: Tensor, noise: RowNoise | None = None) -> Batch:
        """The items (b,) int64."""
        return Batch(x=self.codec.encode(self.points.read(items).to(self.device)))
