"""Joint examples: an example of every part, and the caption of one of them as tokens."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch
from langevin.diffusion.noise import SampleNoise
from langevin.modalities.captions import CaptionVocabulary
from langevin.modalities.joint.data import Matched

CAPTION = "caption"  # name of the part of tokens


def whole(modality: Any, batch: Batch) -> Tensor:
    """x of a batch at the full size of its modality, with what stands for nothing where there is no data."""
    return modality.filled(batch) if hasattr(modality, "filled") else batch.x


@dataclass(frozen=True, kw_only=True, eq=False)
class JointBatches:
    """Examples x, a mapping by part, by index.

    Args:
        batches: of every part, and its modality.
        spoken: the part whose captions are tokens, with their vocabulary; None without.
    """

    dataset: Matched
    batches: Mapping[str, tuple[Any, Any]]
    spoken: tuple[str, CaptionVocabulary] | None
    device: torch.device
    remarks: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.batches) + (self.spoken is not None),)

    def __len__(self) -> int:
        return len(self.dataset)

    def __call__(self, items: Tensor, noise: SampleNoise | None = None) -> Batch:
        chosen = self.dataset.chosen(items.cpu(), noise)
        x = dict[str, Tensor]()
        for k, (name, (modality, batches)) in enumerate(self.batches.items()):
            own = None if noise is None else noise.fork(40 + k)
            x[name] = whole(modality, batches(chosen[name], own)).to(self.device)
        if self.spoken is not None:
            part, vocabulary = self.spoken
            captions = self.dataset.parts[part].captions
            x[CAPTION] = vocabulary.encode([captions[i] for i in chosen[part].tolist()]).to(self.device)
        return Batch(x=x)
