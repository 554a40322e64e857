"""Images as training examples."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch
from langevin.diffusion.condition import Condition
from langevin.diffusion.noise import SampleNoise
from langevin.modalities.captions import CaptionVocabulary
from langevin.modalities.image.codec import AnyCodec, Pixels
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
    codec: AnyCodec
    captions: CaptionVocabulary | None = None
    labelled: bool = False
    flip: bool = False
    enlarging: Enlarging | None = None
    device: torch.device = torch.device("cpu")
    remarks: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return self.codec.shape(self.dataset.shape)

    def __len__(self) -> int:
        return len(self.dataset)

    def __call__(self, items: Tensor, noise: SampleNoise | None = None) -> Batch:
        """The images at `items` (b,) int64; without `noise` none is mirrored."""
        mirrored = torch.zeros(len(items), dtype=torch.bool)
        if self.flip and noise is not None:
            mirrored = noise.fork(7).uniform(torch.empty(len(items), 1))[:, 0].cpu() < 0.5
        x = self.encoded(items, mirrored)
        concat = None if self.enlarging is None else self.enlarging.of_example(x, noise)
        return Batch(x=x, condition=self.condition(items, concat))

    def encoded(self, items: Tensor, mirrored: Tensor) -> Tensor:
        """x of the images at `items` (b,), those `mirrored` (b,) bool from right to left."""
        if isinstance(self.codec, Pixels):
            return self.codec.encode(self.oriented(items, mirrored).to(self.device))
        x = torch.empty(len(items), *self.shape)
        for way in mirrored.unique().tolist():
            x[mirrored == way] = self.latents(items[mirrored == way], way)
        return self.codec.scaled(x).to(self.device)

    def latents(self, items: Tensor, mirrored: bool) -> Tensor:
        """The latents of the images at `items` (b,), from those that are kept where possible."""
        assert not isinstance(self.codec, Pixels), "only then there are latents"
        codec, way = self.codec, torch.tensor([mirrored])
        kept = codec.kept(self.dataset.fingerprint, len(self), self.dataset.shape, mirrored=mirrored)

        def make(missing: Tensor) -> Tensor:
            return codec.latent(self.oriented(missing, way.expand(len(missing))))

        return make(items) if kept is None else kept.at(items, make)

    def oriented(self, items: Tensor, mirrored: Tensor) -> Tensor:
        """The images at `items` (b,) uint8, those `mirrored` (b,) bool from right to left."""
        raw = self.dataset.read(items)
        return torch.where(mirrored[:, None, None, None], raw.flip(-1), raw) if bool(mirrored.any()) else raw

    def prepare(self, progress: Callable[[int, int], None]) -> None:
        """Make the latents before the first step, so that no step is slower than others."""
        if isinstance(self.codec, Pixels):
            return
        ways = (False, True) if self.flip else (False,)
        if self.codec.kept(self.dataset.fingerprint, len(self), self.dataset.shape, mirrored=False) is None:
            return
        for i, way in enumerate(ways):
            for items in torch.arange(len(self)).split(256):
                self.latents(items, way)
                progress(i * len(self) + int(items[-1]) + 1, len(ways) * len(self))

    def condition(self, items: Tensor, concat: Tensor | None = None) -> Condition | None:
        """The conditions of the images at `items` (b,), with what an enlarger reads; None for an unconditional network."""
        labels = self.dataset.labels[items] if self.labelled and self.dataset.labels is not None else None
        captions = None
        if self.captions is not None and self.dataset.captions is not None:
            captions = [self.dataset.captions[i] for i in items.tolist()]
        return encode(labels, captions, self.captions, self.device, concat=concat)
