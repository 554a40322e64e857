"""Speech as training examples: windows of encoded signals with their speaker, units in time, and given context."""

from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch
from langevin.diffusion.condition import Condition, Port
from langevin.diffusion.noise import SampleNoise
from langevin.modalities.speech.codec import AnyCodec
from langevin.modalities.speech.data import Clips
from langevin.modalities.speech.examples import FIXED, Example, Examples, Recorded

PAD = 8  # lengths are rounded up to a multiple of this, so that few shapes occur


def padded_frames(frames: int) -> int:
    """The number of frames that a sample of so many is drawn with."""
    return -(-frames // PAD) * PAD


def condition_of(
    *, speakers: Tensor | None, aligned: list[Tensor] | None, context: Tensor | None, lengths: Tensor, frames: int
) -> Condition:
    """The condition of b samples of `frames` frames, of which the first `lengths` (b,) hold data.

    Args:
        speakers: (b,) int64; None if the network is not conditioned on them.
        aligned: the port of each sample, (length, width); None without texts.
        context: (b, channels + 1, frames), see `context_of`; None if the network does not read it.
    """
    inside = torch.arange(frames) < lengths[:, None]
    port = None
    if aligned is not None:
        rows = [torch.nn.functional.pad(row, (0, 0, 0, frames - len(row))) for row in aligned]
        port = Port(tensor=torch.stack(rows), mask=inside)
    return Condition(
        global_=None if speakers is None else Port(tensor=speakers),
        aligned=port,
        concat=None if context is None else Port(tensor=context),
        data_mask=inside,
    )


def context_of(x: Tensor, given: Tensor) -> Tensor:
    """The port `concat` (b, channels + 1, frames): x (b, channels, frames) where `given` (b, frames) holds, and `given`."""
    return torch.cat([torch.where(given[:, None], x, 0), given[:, None].to(x)], 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class SpeechBatches:
    """Encoded windows by index.

    Args:
        examples: makes the examples of items.
        window: frames of the longest example.
        labelled: whether the network is conditioned on speakers.
        given: probability that all but a span of the example is given as context, see `_given`; None if the network reads
            none. In half of these examples the units of what is given are withheld, as a request may not know them.
    """

    dataset: Clips
    codec: AnyCodec
    examples: Examples
    window: int
    labelled: bool
    given: float | None
    device: torch.device = torch.device("cpu")
    remarks: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.codec.channels, padded_frames(self.window))

    @property
    def lengths(self) -> Tensor | None:
        """Frames of each example, where they are known."""
        if not isinstance(self.examples, Recorded):
            return None
        frames = [self.codec.frames(samples) for samples in self.dataset.lengths.tolist()]
        return torch.tensor(frames).clamp_max(self.window)

    def __len__(self) -> int:
        return len(self.dataset)

    def __call__(self, items: Tensor, noise: SampleNoise | None = None) -> Batch:
        """The examples at `items` (b,); without noise, windows and splices are a function of the item."""
        own = noise or SampleNoise(seeds=items.clone(), steps=torch.full_like(items, FIXED))
        u = own.fork(3).uniform(torch.empty(len(items), 4))
        examples = list[Example]()
        for row, one in enumerate(self.examples(items.tolist(), own)):
            room = one.x.shape[1] - self.window
            start = int(u[row, 0] * (room + 1)) if room > 0 else 0
            examples.append(one.window(start, self.window))
        lengths = torch.tensor([example.x.shape[1] for example in examples])
        frames = padded_frames(int(lengths.max()))
        x = torch.stack([torch.nn.functional.pad(e.x, (0, frames - e.x.shape[1])) for e in examples])
        given = (
            None if self.given is None else _given(u[:, 1:], lengths, frames, self.given if noise is not None else 0.0)
        )
        aligned = [e.aligned for e in examples if e.aligned is not None] or None
        if aligned and given is not None and self.given and not self.examples.encoder.packed:
            silent = given & (u[:, 1:2] < self.given / 2)
            aligned = [torch.where(row[: len(e), None], 0, e) for row, e in zip(silent, aligned, strict=True)]
        condition = condition_of(
            speakers=torch.tensor([e.speaker for e in examples]) if self.labelled else None,
            aligned=aligned, context=None if given is None else context_of(x, given), lengths=lengths, frames=frames,
        )  # fmt: skip
        mask = None if given is None else ~given[:, None]
        batch = Batch(x=x, condition=condition, mask=mask)
        if self.device.type == "cpu":
            return batch
        return Batch(
            x=x.to(self.device),
            condition=condition.to(self.device),
            mask=None if mask is None else mask.to(self.device),
        )


def _given(u: Tensor, lengths: Tensor, frames: int, share: float) -> Tensor:
    """Which frames are given, (b, frames) bool, from uniforms u (b, 3): with probability `share` all but one span.

    The span covers 30 to 90 % of the example, anywhere, so that beginnings, endings and gaps all occur."""
    span = ((0.3 + 0.6 * u[:, 1]) * lengths).long().clamp_min(1)
    start = ((lengths - span + 1) * (1.5 * u[:, 2] - 0.25).clamp(0, 0.999)).long()  # a quarter each at either end
    at = torch.arange(frames)
    outside = (at < start[:, None]) | (at >= (start + span)[:, None])
    return outside & (at < lengths[:, None]) & (u[:, :1] < share)
