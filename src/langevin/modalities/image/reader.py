"""From stored images to the batches that a method trains on."""

from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch
from langevin.diffusion.condition import Condition, Port
from langevin.diffusion.noise import RowNoise
from langevin.modalities.image.codec import Pixels
from langevin.modalities.image.data import Images
from langevin.modalities.text.codec import Words


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Batches of `images` by item number.

    Args:
        words: how captions are told; None if they are not.
        labelled: whether labels are told.
        flip: mirror half of the rows, by their noise.
    """

    images: Images
    codec: Pixels
    words: Words | None = None
    labelled: bool = False
    flip: bool = False
    device: torch.device = torch.device("cpu")
    remarks: tuple[str, ...] = ()

    @property
    def part(self) -> Images:
        """What is read."""
        return self.images

    def __call__(self, items: Tensor, noise: RowNoise | None = None) -> Batch:
        """The items (b,) int64; without `noise` they come unmirrored."""
        raw = self.images.read(items)
        if self.flip and noise is not None:
            mirrored = noise.fork(7).uniform(torch.empty(len(items), 1))[:, 0] < 0.5
            raw = torch.where(mirrored[:, None, None, None], raw.flip(-1), raw)
        return Batch(x=self.codec.encode(raw.to(self.device)), condition=self.condition(items))

    def condition(self, items: Tensor) -> Condition | None:
        """What is told of the items."""
        labels = self.images.labels[items] if self.labelled and self.images.labels is not None else None
        captions = None
        if self.words is not None and self.images.captions is not None:
            captions = [self.images.captions[i] for i in items.tolist()]
        return tell(labels, captions, self.words, self.device)


def tell(
    labels: Tensor | None, captions: list[str] | None, words: Words | None, device: torch.device
) -> Condition | None:
    """The condition of labels (b,) int64 and captions, either or both; None if there is nothing to tell."""
    if labels is None and (captions is None or words is None):
        return None
    text = words.encode(captions).to(device) if captions is not None and words is not None else None
    return Condition(
        global_=None if labels is None else Port(tensor=labels.to(device)),
        cross=None if text is None else Port(tensor=text, mask=text > 0),
    )
