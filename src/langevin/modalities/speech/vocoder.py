"""Vocoders: signals from log-mel spectrograms, by a network that is a run of its own.

A vocoder run is trained on windows of signals, conditioned on their spectrograms (the port `concat`), and is asked once per
signal, at t = 1. Another run uses it as its codec, by its path; a hash of its weights is part of that run's recipe.
"""

from collections import defaultdict
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch
from langevin.diffusion.condition import Condition, Port
from langevin.diffusion.noise import SampleNoise
from langevin.modalities.modality import Predict
from langevin.modalities.speech.batches import FIXED, padded_frames
from langevin.modalities.speech.codec import LogMel
from langevin.modalities.speech.data import Clips

TOGETHER = 32  # signals of one request
Vocoding = Generator[Predict, Tensor, list[Tensor]]


def vocode(mels: Sequence[Tensor], seeds: Tensor, *, hop: int, std: float, model: str = "run") -> Vocoding:
    """The signals ((frames - 1) hop,) of standardised log-mel spectrograms (bins, frames), as a part of a plan.

    Args:
        seeds: (n,) of the input noise.
        hop, std: of the vocoder's signals.
        model: which model makes them.
    """
    signals, groups = [torch.empty(0)] * len(mels), defaultdict[int, list[int]](list)
    for i, mel in enumerate(mels):
        groups[padded_frames(mel.shape[1])].append(i)
    for frames, members in sorted(groups.items()):
        for items in torch.tensor(members).split(TOGETHER):
            x_t = SampleNoise(seeds=seeds[items], steps=torch.zeros_like(items)).normal(
                torch.empty(len(items), hop, frames)
            )
            condition = _condition([mels[i] for i in items.tolist()], frames)
            y = yield Predict(x_t=x_t, t=torch.ones(len(items), dtype=torch.float64), condition=condition, model=model)
            for row, i in zip(y, items.tolist(), strict=True):
                length = (mels[i].shape[1] - 1) * hop
                signal = row.T.flatten()[:length].float() * std
                signals[i] = signal / signal.abs().max().clamp_min(1)
    return signals


def _condition(mels: Sequence[Tensor], frames: int) -> Condition:
    rows = [torch.nn.functional.pad(mel, (0, frames - mel.shape[1])) for mel in mels]
    lengths = torch.tensor([mel.shape[1] for mel in mels])
    return Condition(concat=Port(tensor=torch.stack(rows)), data_mask=torch.arange(frames) < lengths[:, None])


@dataclass(frozen=True, kw_only=True, eq=False)
class VocoderBatches:
    """Windows of signals x (hop, frames) with their spectrograms.

    Args:
        mel: the spectrogram, of as many frames.
        std: by which signals are divided.
        window: frames of an example.
    """

    dataset: Clips
    mel: LogMel
    std: float
    window: int
    device: torch.device = torch.device("cpu")
    remarks: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.mel.stride, padded_frames(self.window))

    def __len__(self) -> int:
        return len(self.dataset)

    def __call__(self, items: Tensor, noise: SampleNoise | None = None) -> Batch:
        """Windows of the recordings at `items` (b,); without noise, the window is a function of the item."""
        own = noise or SampleNoise(seeds=items.clone(), steps=torch.full_like(items, FIXED))
        u, hop, frames = own.fork(3).uniform(torch.empty(len(items), 1)), self.mel.stride, padded_frames(self.window)
        margin = -(-self.mel.stft.n_fft // (2 * hop))  # frames that the first one's window reaches back to
        x, cuts, spans = torch.zeros(len(items), hop, frames), list[Tensor](), list[tuple[int, int]]()
        for row, item in enumerate(items.tolist()):
            signal = self.dataset.signal(item)
            whole = max(1, len(signal) // hop)  # frames with all of their samples
            start = int(u[row, 0] * max(1, whole - self.window + 1))
            count = min(self.window, whole - start)
            piece = torch.nn.functional.pad(signal[start * hop : (start + count) * hop], (0, max(0, hop - len(signal))))
            x[row, :, :count] = piece.view(count, hop).T / self.std
            begin = max(0, start - margin)
            cuts.append(signal[begin * hop : (start + count + margin) * hop])
            spans.append((start - begin, count))
        mels = self.mel.encode(cuts, self.dataset.rate)
        given = [mel[:, first : first + count] for mel, (first, count) in zip(mels, spans, strict=True)]
        return Batch(x=x.to(self.device), condition=_condition(given, frames).to(self.device))
