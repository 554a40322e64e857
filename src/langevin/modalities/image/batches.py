"""Images as training examples."""

from collections.abc import Callable
from dataclasses import dataclass, replace

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
from langevin.training.ahead import copied


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

    @property
    def buckets(self) -> Tensor | None:
        """The bucket of each image, (len,) int64; None if all are of one shape."""
        return self.dataset.buckets

    @property
    def shards(self) -> Tensor | None:
        """Where each image is stored, (len,) int64; None where all are files."""
        return self.dataset.shards

    @property
    def window(self) -> int | None:
        """Images among which an epoch has to be shuffled; None for all."""
        return self.dataset.window

    def ahead(self, items: Tensor) -> None:
        """The images at `items` (b,) are read next: decode them meanwhile, unless their latents are kept."""
        if isinstance(self.codec, Pixels):
            self.dataset.expect(items)

    def __len__(self) -> int:
        return len(self.dataset)

    def __call__(self, items: Tensor, noise: SampleNoise | None = None) -> Batch:
        """The images at `items` (b,) int64; without `noise` none is mirrored.

        Those of several buckets are padded on the right and below, to the largest width and height, under a data mask."""
        mirrored = torch.zeros(len(items), dtype=torch.bool)
        if self.flip and noise is not None:
            mirrored = noise.fork(7).uniform(torch.empty(len(items), 1))[:, 0].cpu() < 0.5
        parts = [(at, self.encoded(items[at], mirrored[at], shape)) for shape, at in self.dataset.by_bucket(items)]
        if len(parts) == 1:
            x = parts[0][1]
            concat = None if self.enlarging is None else self.enlarging.of_example(x, noise)
            return Batch(x=x, condition=self.condition(items, concat))
        x, mask = padded(parts)
        return Batch(x=x, condition=replace(self.condition(items) or Condition(), data_mask=mask))

    def encoded(self, items: Tensor, mirrored: Tensor, shape: tuple[int, int, int]) -> Tensor:
        """x of the images at `items` (b,) of one shape, those `mirrored` (b,) bool from right to left."""
        if isinstance(self.codec, Pixels):
            return self.codec.encode(copied(self.oriented(items, mirrored), self.device))
        x = torch.empty(len(items), *self.codec.shape(shape))
        for way in mirrored.unique().tolist():
            x[mirrored == way] = self.latents(items[mirrored == way], way, shape)
        return copied(self.codec.scaled(x), self.device)

    def latents(self, items: Tensor, mirrored: bool, shape: tuple[int, int, int]) -> Tensor:
        """The latents of the images at `items` (b,) of one shape, from those that are kept where possible."""
        assert not isinstance(self.codec, Pixels), "only then there are latents"
        codec, way, data = self.codec, torch.tensor([mirrored]), self.dataset
        alike = torch.arange(len(self))  # those of the shape, which are kept together
        if data.buckets is not None:
            alike = (data.buckets == data.buckets[items[0]]).nonzero()[:, 0]
        kept = codec.kept(data.fingerprint, len(alike), shape, mirrored=mirrored)

        def make(missing: Tensor) -> Tensor:
            return codec.latent(self.oriented(alike[missing], way.expand(len(missing))))

        place = torch.searchsorted(alike, items)
        return make(place) if kept is None else kept.at(place, make)

    def oriented(self, items: Tensor, mirrored: Tensor) -> Tensor:
        """The images at `items` (b,) uint8 of one shape, those `mirrored` (b,) bool from right to left."""
        raw = self.dataset.read_shaped(items)
        return torch.where(mirrored[:, None, None, None], raw.flip(-1), raw) if bool(mirrored.any()) else raw

    def prepare(self, progress: Callable[[int, int], None]) -> None:
        """Make the latents before the first step, so that no step is slower than others."""
        if isinstance(self.codec, Pixels):
            return
        ways = (False, True) if self.flip else (False,)
        if self.codec.kept(self.dataset.fingerprint, len(self), self.dataset.shape, mirrored=False) is None:
            return
        done = 0
        for way in ways:
            for shape, alike in self.dataset.by_bucket(torch.arange(len(self))):
                for items in alike.split(256):
                    self.latents(items, way, shape)
                    done += len(items)
                    progress(done, len(ways) * len(self))

    def condition(self, items: Tensor, concat: Tensor | None = None) -> Condition | None:
        """The conditions of the images at `items` (b,), with what an enlarger reads; None for an unconditional network."""
        labels = self.dataset.labels[items] if self.labelled and self.dataset.labels is not None else None
        captions = None
        if self.captions is not None and self.dataset.captions is not None:
            captions = [self.dataset.captions[i] for i in items.tolist()]
        return encode(labels, captions, self.captions, self.device, concat=concat)


def padded(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Samples (n, c, h, w) of several sizes, with their places (n,) in the batch, on one canvas: x (b, c, height, width),
    and where it holds data, (b, height, width) bool."""
    b, first = sum(len(at) for at, _ in parts), parts[0][1]
    height, width = (max(x.shape[dim] for _, x in parts) for dim in (2, 3))
    canvas = first.new_zeros(b, first.shape[1], height, width)
    mask = torch.zeros(b, height, width, dtype=torch.bool, device=first.device)
    for at, x in parts:
        h, w = x.shape[2:]
        canvas[at, :, :h, :w] = x
        mask[at, :h, :w] = True
    return canvas, mask
