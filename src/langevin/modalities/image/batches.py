"""Images as training examples."""

from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch
from langevin.diffusion.condition import Condition
from langevin.diffusion.noise import SampleNoise
from langevin.modalities.captions import CaptionVocabulary
from langevin.modalities.image.codec import Pixels
from langevin.modalities.image.conditions import encode
from langevin.modalities.image.data import Images
from langevin.modalities.image.enlarge import Enlarging


@dataclass(frozen=True, kw_only=True)
class ImageBatches:
    """Encoded images by index, with their conditions.

    Args:
        captions: the tokenizer of captions; None if the network is not conditioned on captions.
        labelled: whether the network is conditioned on class labels.
        flip: whether to mirror each image with probability 1/2, as a function of its noise.
        enlarging: how an enlarger reads the smaller images; None if the network draws whole ones.
    """

    dataset: Images
    codec: Pixels
    captions: CaptionVocabulary | None = None
    labelled: bool = False
    flip: bool = False
    enlarging: Enlarging | None = None
    device: torch.device = torch.device("cpu")
    remarks: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return self.dataset.shape

    def __len__(self) -> int:
        return len(self.dataset)

    def __call__(self, items: Tensor, noise: SampleNoise | None = None) -> Batch:
        """The images at `items` (b,) int64; without `noise` none is mirrored."""
        raw = self.dataset.read(items)
        if self.flip and noise is not None:
            mirrored = noise.fork(7).uniform(torch.empty(len(items), 1))[:, 0] < 0.5
            raw = torch.where(mirrored[:, None, None, None], raw.flip(-1), raw)
        x = self.codec.encode(raw.to(self.device))
        concat = None if self.enlarging is None else self.enlarging.of_example(x, noise)
        return Batch(x=x, condition=self.condition(items, concat))

    def condition(self, items: Tensor, concat: Tensor | None = None) -> Condition | None:
        """The conditions of the images at `items` (b,), with what an enlarger reads; None for an unconditional network."""
        labels = self.dataset.labels[items] if self.labelled and self.dataset.labels is not None else None
        captions = None
        if self.captions is not None and self.dataset.captions is not None:
            captions = [self.dataset.captions[i] for i in items.tolist()]
        return encode(labels, captions, self.captions, self.device, concat=concat)
