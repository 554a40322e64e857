"""Training examples of clips: a window of frames, its caption, and a mask where the clip is shorter."""

from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch
from langevin.diffusion.condition import Condition, Port
from langevin.diffusion.noise import SampleNoise
from langevin.modalities.captions import CaptionVocabulary
from langevin.modalities.video.codec import Pixels
from langevin.modalities.video.data import Clips


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoBatches:
    """Windows x (b, channels, frames, side, side): of longer clips at a random place with noise, else at the beginning."""

    dataset: Clips
    codec: Pixels
    frames: int
    captions: CaptionVocabulary | None
    device: torch.device
    remarks: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        channels, height, width = self.dataset.shape
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
        x = self.codec.encode(data.store[index]).to(self.device)
        mask = None
        if bool((data.lengths < self.frames).any()):
            inside = torch.arange(self.frames) < lengths[:, None]
            mask = inside[:, :, None, None].expand(-1, -1, *x.shape[3:]).to(self.device)
            x = torch.where(mask[:, None], x, 0)
        texts = None if data.captions is None else [data.captions[i] for i in items.tolist()]
        return Batch(x=x, condition=condition_of(texts, self.captions, data_mask=mask, device=self.device))


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
