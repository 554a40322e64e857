"""Training examples of clips: a window of frames, its caption, and a mask where the clip is shorter."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch
from langevin.diffusion.condition import Condition, Port
from langevin.diffusion.noise import SampleNoise
from langevin.modalities.captions import CaptionVocabulary
from langevin.modalities.video.codec import AnyCodec, Latents
from langevin.modalities.video.data import Clips
from langevin.training.ahead import copied


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoBatches:
    """Windows x (b, channels, frames, side, side): of longer clips at a random place with noise, else at the beginning.

    Latents of clips that have no other window are kept, as they are slow to make."""

    dataset: Clips
    codec: AnyCodec
    frames: int
    captions: CaptionVocabulary | None
    device: torch.device
    remarks: tuple[str, ...] = ()
    kept: dict[int, Tensor] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        channels, height, width = self.codec.frame_shape(self.dataset.shape)
        return (channels, self.frames, height, width)

    def __len__(self) -> int:
        return len(self.dataset)

    def __call__(self, items: Tensor, noise: SampleNoise | None = None) -> Batch:
        data, items = self.dataset, items.cpu()
        lengths = data.lengths[items]
        spare = (lengths - self.frames).clamp_min(0)
        first = torch.zeros_like(spare)
        if noise is not None:
            first = (noise.fork(11).uniform(torch.empty(len(items))).cpu() * (spare + 1)).long().minimum(spare)
        index = torch.arange(self.frames).minimum(lengths[:, None] - 1) + (data.starts[items] + first)[:, None]
        x = copied(self._encoded(items, index), self.device)
        mask = None
        if bool((data.lengths < self.frames).any()):
            inside = torch.arange(self.frames) < lengths[:, None]
            mask = inside[:, :, None, None].expand(-1, -1, *x.shape[3:]).to(self.device)
            x = torch.where(mask[:, None], x, 0)
        texts = None if data.captions is None else [data.captions[i] for i in items.tolist()]
        return Batch(x=x, condition=condition_of(texts, self.captions, data_mask=mask, device=self.device))

    def _encoded(self, items: Tensor, index: Tensor) -> Tensor:
        """x of the frames `index` (b, frames) of the store, which are those of the clips `items`."""
        if not isinstance(self.codec, Latents) or bool((self.dataset.lengths > self.frames).any()):
            return self.codec.encode(self.dataset.store[index])
        names = items.tolist()
        missing = [i for i, name in enumerate(names) if name not in self.kept]
        if missing:
            made = self.codec.encode(self.dataset.store[index[missing]])
            self.kept.update({names[i]: x for i, x in zip(missing, made, strict=True)})
        return torch.stack([self.kept[name] for name in names])


def condition_of(
    texts: list[str] | None, vocabulary: CaptionVocabulary | None, *, data_mask: Tensor | None = None,
    device: torch.device = torch.device("cpu"),  # noqa: B008
) -> Condition | None:  # fmt: skip
    """The condition of b clips; a caption of no words is withheld. None for nothing."""
    port = None
    if vocabulary is not None:
        tokens = vocabulary.encode(texts or [])
        keep = tokens.amax(1) > 0
        port = Port(tensor=tokens.to(device), mask=(tokens > 0).to(device), keep=keep.to(device))
    if port is None and data_mask is None:
        return None
    return Condition(cross=port, data_mask=data_mask)
