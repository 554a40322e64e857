"""A signal by a log-mel spectrogram and by what is known of the signal itself.

A mel spectrogram is blurred over frequencies, so its harmonics are lost. Next to a gap they are not: the fine structure F
of the last and the first whole frame, by which their magnitudes differ from those of their mel spectrogram, is carried into
it, and scaled until the mel spectrogram is the wanted one. Phases then grow into the gap from its edges, and Griffin-Lim
with the known samples fixed makes them consistent. Where no sample is known for certain, as under noise, magnitudes are
scaled and the phases stay.
"""

import torch
from torch import Tensor

from langevin.modalities.speech.codec import DIVERGED, LogMel
from langevin.modalities.speech.signal import STFT, mel_filters, mel_inverse

AROUND = 32  # frames on either side of what is lost that are looked at
SCALINGS = 3  # of the magnitudes, towards the wanted mel spectrogram
STRUCTURE = 3.0  # |ln F| at most
FAINT = 1e-3  # of the largest magnitude: below it there is no structure


def reconstruct(codec: LogMel, x: Tensor, signal: Tensor, kept: Tensor, rate: int) -> Tensor:
    """A signal (n,) of the spectrogram x (bins, frames), like a given one, whose samples stay where `kept` (n,) bool holds.

    Args:
        signal: (n,) float32, 0 where nothing is known.
        kept: the samples that are known for certain; none for a noisy signal.

    Raises:
        ValueError: x is not finite."""
    if not bool(torch.isfinite(x).all()):
        raise ValueError(DIVERGED)
    stft, n = codec.stft, (x.shape[1] - 1) * codec.stride
    if bool(kept.any()) and not bool(kept.all()):
        lost = (~kept).nonzero()[:, 0]
        first = max(0, int(lost[0]) // codec.stride - AROUND)
        last = min(x.shape[1], int(lost[-1]) // codec.stride + AROUND)
        if last - first < x.shape[1]:  # the rest is known
            a, b = first * codec.stride, min(len(signal), (last - 1) * codec.stride)
            part = reconstruct(codec, x[:, first:last], signal[a:b], kept[a:b], rate)
            return torch.cat([signal[:a], part, signal[b:]])
    if n <= stft.n_fft // 2:  # too short to be analysed
        return torch.where(kept, signal, 0.0)
    own, wanted = stft(signal[None, :n])[0], codec.magnitudes(x)
    whole = share_of(kept[:n], stft, x.shape[1]) == 1
    filters = mel_filters(rate, stft.n_fft, codec.bins)
    if not bool(kept.any()):
        magnitude = scaled(own.abs().clamp_min(1e-6), wanted, filters, whole)
        made = stft.inverse(torch.polar(magnitude, own.angle())[None])[0]
    else:
        smooth = (mel_inverse(rate, stft.n_fft, codec.bins) @ wanted).clamp_min(0)
        magnitude = scaled(structured(own.abs(), smooth, whole), wanted, filters, whole)
        known = (signal[None, :n], kept[None, :n])
        made = stft.griffin_lim(
            magnitude[None], grown(magnitude, known, stft), iterations=codec.iterations, known=known
        )[0]
    return torch.where(kept, signal, torch.nn.functional.pad(made, (0, len(signal) - n)))


def share_of(kept: Tensor, stft: STFT, frames: int) -> Tensor:
    """(frames,): the share of each frame's samples that is kept."""
    padded = torch.nn.functional.pad(kept.float(), (stft.n_fft // 2,) * 2, value=1.0)
    return padded.unfold(0, stft.n_fft, stft.hop)[:frames].mean(1)


def structured(own: Tensor, smooth: Tensor, whole: Tensor) -> Tensor:
    """Magnitudes (k, frames): the own of whole frames, elsewhere smooth ones with the structure of these."""
    floor = FAINT * smooth.max().clamp_min(1e-6)
    fine = ((own + floor) / (smooth + floor)).log().clamp(-STRUCTURE, STRUCTURE)
    found = whole.nonzero()[:, 0]
    if not len(found):
        return smooth
    at = torch.arange(len(whole))
    right = torch.searchsorted(found, at).clamp_max(len(found) - 1)
    after, before = found[right], found[(right - (found[right] > at).long()).clamp_min(0)]
    way = ((at - before) / (after - before).clamp_min(1)).clamp(0, 1)
    between = (1 - way) * fine[:, before] + way * fine[:, after]
    return torch.where(whole, own, smooth * between.exp())


def scaled(magnitude: Tensor, wanted: Tensor, filters: Tensor, whole: Tensor) -> Tensor:
    """Magnitudes (k, frames) whose mel spectrogram is nearly the wanted one; whole frames stay."""
    covered = filters.sum(0)[:, None]
    for _ in range(SCALINGS):
        gain = (filters.mT @ (wanted / (filters @ magnitude).clamp_min(1e-6))) / covered.clamp_min(1e-12)
        magnitude = torch.where(whole | (covered == 0), magnitude, magnitude * gain)
    return magnitude


def grown(magnitude: Tensor, known: tuple[Tensor, Tensor], stft: STFT) -> Tensor:
    """Phases (1, k, frames) that grow from the known samples into the gaps, frame by frame."""
    signal, kept = known
    near = share_of(kept[0], stft, magnitude.shape[1]) > 0.25
    made = torch.where(kept, signal, 0.0)
    while True:
        spectrogram = torch.polar(magnitude * near, stft(made)[0].angle())
        made = torch.where(kept, signal, stft.inverse(spectrogram[None]))
        if bool(near.all()):
            return stft(made).angle()
        near = torch.nn.functional.max_pool1d(near[None].float(), 3, stride=1, padding=1)[0] > 0
