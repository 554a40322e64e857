"""Spectrograms and back: the short-time Fourier transform, the mel scale, and the fast Griffin-Lim algorithm.

    S[k, i] = sum_j w[j] x[i hop + j - n_fft / 2] exp(-2 pi i j k / n_fft)          w: periodic Hann, edges reflected
    X = ln max(M |S|, floor)                                                        M: triangles on the mel scale
    f(m) = 700 (10^(m / 2595) - 1)                                                  Hz of mel (the scale of HTK)

Frame i is centred at sample i hop, so n samples have 1 + n // hop frames. The mel scale discards phases, which Griffin-Lim
finds again: it alternates between the spectrograms of some signal and those of the wanted magnitude ("Signal Estimation
from Modified Short-Time Fourier Transform", 1984), with momentum ("A Fast Griffin-Lim Algorithm", 2013).
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

FLOOR = 1e-4  # of mel magnitudes, before the logarithm
MOMENTUM = 0.99  # of Griffin-Lim


@dataclass(frozen=True)
class STFT:
    """A short-time Fourier transform of signals (b, n), n > n_fft / 2, with a window of n_fft samples."""

    n_fft: int
    hop: int

    def frames(self, samples: int) -> int:
        """Number of frames of a signal."""
        return 1 + samples // self.hop

    def __call__(self, x: Tensor) -> Tensor:
        """Signals (b, n) to complex spectrograms (b, 1 + n_fft / 2, frames)."""
        return self.uncentred(torch.nn.functional.pad(x[:, None], (self.n_fft // 2,) * 2, mode="reflect")[:, 0])

    def uncentred(self, x: Tensor) -> Tensor:
        """Signals (b, n) that have margins of n_fft / 2 samples at either end already."""
        window = hann(self.n_fft, x.device, x.dtype)
        return torch.stft(x, self.n_fft, self.hop, window=window, center=False, return_complex=True)

    def inverse(self, spectrogram: Tensor) -> Tensor:
        """Complex spectrograms (b, 1 + n_fft / 2, frames) to the signals of least squared error, (b, (frames - 1) hop)."""
        window = hann(self.n_fft, spectrogram.device, spectrogram.real.dtype)
        length = (spectrogram.shape[-1] - 1) * self.hop
        return torch.istft(spectrogram, self.n_fft, self.hop, window=window, center=True, length=length)

    def griffin_lim(
        self, magnitude: Tensor, phase: Tensor, *, iterations: int, known: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Signals (b, (frames - 1) hop) whose spectrograms have nearly this magnitude (b, 1 + n_fft / 2, frames).

        Args:
            phase: initial phases in radians, shaped like the magnitude.
            iterations: of the algorithm; 0 keeps the initial phases.
            known: signals of that shape, and where their samples are kept, bool: what is between fits to them.
        """

        def signal(spectrogram: Tensor) -> Tensor:
            made = self.inverse(spectrogram)
            return made if known is None else torch.where(known[1], known[0], made)

        angle = torch.polar(torch.ones_like(phase), phase)
        previous = torch.zeros_like(angle)
        for _ in range(iterations):
            rebuilt = self(signal(magnitude * angle))
            accelerated = rebuilt - MOMENTUM / (1 + MOMENTUM) * previous
            angle = accelerated / accelerated.abs().clamp_min(1e-12)
            previous = rebuilt
        return signal(magnitude * angle)


def together(sizes: Sequence[int], most: int) -> Iterator[list[int]]:
    """Indices in groups of similar size, which padded to the largest are at most `most` in all; a larger one is alone."""
    items = list[int]()
    for i in sorted(range(len(sizes)), key=sizes.__getitem__):
        if items and (len(items) + 1) * sizes[i] > most:
            yield items
            items = []
        items.append(i)
    if items:
        yield items


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread: short transforms gain nothing from more, which wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@lru_cache(maxsize=32)
def hann(n: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The periodic Hann window, (n,)."""
    return torch.hann_window(n, device=device, dtype=dtype)


def mel_of(hertz: float) -> float:
    """Mel of a frequency."""
    return 2595 * math.log10(1 + hertz / 700)


@lru_cache(maxsize=32)
def mel_filters(rate: int, n_fft: int, bins: int) -> Tensor:
    """Triangular filters (bins, 1 + n_fft / 2), evenly spaced in mel from 0 to rate / 2, of equal area in Hz; float32.

    A filter that is narrower than the frequencies' distance takes the nearest one."""
    mel = torch.linspace(0, mel_of(rate / 2), bins + 2, dtype=torch.float64)
    knots = 700 * (10 ** (mel / 2595) - 1)  # Hz
    frequency = torch.linspace(0, rate / 2, 1 + n_fft // 2, dtype=torch.float64)
    low, centre, high = knots[:-2, None], knots[1:-1, None], knots[2:, None]
    rows = torch.minimum((frequency - low) / (centre - low), (high - frequency) / (high - centre)).clamp_min(0)
    nearest = (frequency - centre).abs().argmin(1)
    empty = (rows.sum(1) == 0).nonzero()[:, 0]
    rows[empty, nearest[empty]] = 1
    return (rows * 2 / (high - low)).float()


@lru_cache(maxsize=32)
def mel_inverse(rate: int, n_fft: int, bins: int) -> Tensor:
    """The pseudo-inverse of the filters, (1 + n_fft / 2, bins), float32."""
    return torch.linalg.pinv(mel_filters(rate, n_fft, bins).double()).float()
