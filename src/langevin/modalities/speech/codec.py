"""Codecs of speech: maps between signals and x (channels, frames)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from langevin import strict_yaml
from langevin.diffusion.noise import SampleNoise
from langevin.modalities.speech.signal import FLOOR, STFT, mel_filters, mel_inverse, together
from langevin.training.checkpoint import identity

PEAK = 0.9  # largest magnitude of a normalised signal
TOGETHER = 2**22  # samples that are analysed together, at most if one signal is no more
DIVERGED = "the generated sound holds numbers that are not finite: the model or its guidance diverged"


def peak_normalised(signal: Tensor) -> Tensor:
    """A signal (n,) scaled so that its largest magnitude is 0.9; silence stays silent."""
    return signal * (PEAK / (float(signal.abs().max()) + 1e-6))


@dataclass(frozen=True, kw_only=True)
class LogMel:
    """A log-mel spectrogram, standardised per bin over the training data; its inverse is Griffin-Lim.

    Args:
        bins: mel bins, the channels of x.
        n_fft: samples of a window; None takes 64 ms, as a power of two.
        hop: samples from one frame to the next; None is a quarter of `n_fft`.
        iterations: of Griffin-Lim.
        mean, std: of each bin; fitted to the data.
    """

    kind: Literal["log_mel"] = "log_mel"
    bins: int = 64
    n_fft: int | None = None
    hop: int | None = None
    iterations: int = 32
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 4 <= self.bins <= 512 or not 0 <= self.iterations <= 1000:
            raise ValueError(
                f"data.codec has 4 to 512 bins and 0 to 1000 iterations, got {self.bins} and {self.iterations}"
            )
        n_fft, hop = self.n_fft or 512, self.hop or (self.n_fft or 512) // 4
        if not 16 <= n_fft <= 65536 or n_fft % 2 or not 1 <= hop <= n_fft // 2:
            raise ValueError(
                "data.codec.n_fft is even, from 16 to 65536, and data.codec.hop at most half of it, "
                f"got {self.n_fft} and {self.hop}"
            )

    def at(self, rate: int) -> "LogMel":
        """With the sizes of windows for a sampling rate."""
        n_fft = self.n_fft or 2 ** round(math.log2(0.064 * rate))
        return replace(self, n_fft=n_fft, hop=self.hop or n_fft // 4)

    @property
    def channels(self) -> int:
        return self.bins

    @property
    def stft(self) -> STFT:
        """The transform. Needs `at`."""
        assert self.n_fft, "the codec of a run has sizes"
        assert self.hop, "the codec of a run has sizes"
        return STFT(self.n_fft, self.hop)

    @property
    def stride(self) -> int:
        """Samples per frame of x."""
        return self.stft.hop

    @property
    def shortest(self) -> int:
        """Samples of the shortest signal that can be encoded."""
        return self.stft.n_fft // 2 + 1

    def frames(self, samples: int) -> int:
        """Frames of x of a signal."""
        return self.stft.frames(samples)

    def log_mel(self, signal: Tensor, rate: int) -> Tensor:
        """Signals (b, n) to log-mel spectrograms (b, bins, frames), not standardised."""
        magnitude = self.stft(signal).abs()
        return (mel_filters(rate, self.stft.n_fft, self.bins).to(magnitude) @ magnitude).clamp_min(FLOOR).log()

    def fitted(self, signals: Sequence[Tensor], rate: int) -> "LogMel":
        """With mean and standard deviation of each bin over all frames of signals (n,)."""
        spectrograms = [self.log_mel(long_enough(signal, self.shortest)[None], rate)[0] for signal in signals]
        frames = torch.cat(spectrograms, 1).double()
        std = frames.std(1).clamp_min(1e-2)
        return replace(self, mean=_rounded(frames.mean(1)), std=_rounded(std))

    def encode(self, signals: Sequence[Tensor], rate: int) -> list[Tensor]:
        """Signals (n,) to x (bins, frames) each."""
        ready = [long_enough(signal, self.shortest) for signal in signals]
        rows = [torch.empty(0)] * len(ready)
        for items in together([len(signal) for signal in ready], TOGETHER):
            for i, row in zip(items, self._encode([ready[i] for i in items], rate), strict=True):
                rows[i] = row
        return rows

    def _encode(self, signals: Sequence[Tensor], rate: int) -> list[Tensor]:
        margin = self.stft.n_fft // 2  # reflected at either end of each signal, whatever its neighbours' lengths
        reflected = [torch.nn.functional.pad(s[None], (margin, margin), mode="reflect")[0] for s in signals]
        spectrogram = self.stft.uncentred(torch.nn.utils.rnn.pad_sequence(reflected, batch_first=True)).abs()
        mel = mel_filters(rate, self.stft.n_fft, self.bins).to(spectrogram) @ spectrogram
        x = (mel.clamp_min(FLOOR).log() - _column(self.mean, mel)) / _column(self.std, mel)
        return [row[:, : self.frames(len(signal))].clone() for row, signal in zip(x, signals, strict=True)]

    def decode(self, x: Tensor, rate: int, seeds: Tensor) -> Tensor:
        """x (b, bins, frames) to signals (b, (frames - 1) hop) in [-1, 1], whose phases start from those of seeds (b,).

        Griffin-Lim amplifies rounding, so each sample is decoded alone: its bytes do not depend on the others.

        Raises:
            ValueError: x is not finite."""
        if not bool(torch.isfinite(x).all()):
            raise ValueError(DIVERGED)
        return torch.cat([self._decode(row[None], rate, seeds[i : i + 1]) for i, row in enumerate(x)])

    def _decode(self, x: Tensor, rate: int, seeds: Tensor) -> Tensor:
        magnitude = (mel_inverse(rate, self.stft.n_fft, self.bins) @ self.magnitudes(x)).clamp_min(0)
        noise = SampleNoise(seeds=seeds, steps=torch.zeros_like(seeds))
        phase = 2 * math.pi * noise.uniform(magnitude.mT.contiguous()).mT.to(magnitude)  # laid out frame by frame
        long = (x.shape[2] - 1) * self.stride > self.stft.n_fft // 2  # a shorter signal cannot be analysed again
        iterations = self.iterations if long else 0
        signal = self.stft.griffin_lim(magnitude, phase, iterations=iterations)
        return signal / signal.abs().max().clamp_min(1)  # a loud one is made quieter, not cut off

    def magnitudes(self, x: Tensor) -> Tensor:
        """The mel spectrogram (..., bins, frames) of x, not logarithmic."""
        return (x.float() * _column(self.std, x) + _column(self.mean, x)).clamp_max(20).exp()


def long_enough(signal: Tensor, samples: int) -> Tensor:
    """A signal (n,), with zeros after it up to a number of samples."""
    return torch.nn.functional.pad(signal, (0, max(0, samples - len(signal))))


def _rounded(values: Tensor) -> tuple[float, ...]:
    return tuple(float(f"{value:.4g}") for value in values.tolist())


def _column(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=like.device)[:, None]


@dataclass(frozen=True, kw_only=True)
class Waveform:
    """The signal itself, in patches of `patch` samples, divided by its standard deviation; train with prediction clean.

    Args:
        patch: samples per frame, the channels of x.
        std: of the signal; fitted to the data.
    """

    kind: Literal["waveform"] = "waveform"
    patch: int = 64
    std: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.patch <= 4096 or not 0 < self.std < math.inf:
            raise ValueError(f"data.codec.patch is 1 to 4096 and std positive, got {self.patch} and {self.std}")

    def at(self, rate: int) -> "Waveform":
        """Itself: its sizes do not depend on the rate."""
        return self

    @property
    def channels(self) -> int:
        return self.patch

    @property
    def stride(self) -> int:
        return self.patch

    @property
    def shortest(self) -> int:
        return 1

    def frames(self, samples: int) -> int:
        """Frames of x of a signal."""
        return -(-samples // self.patch)

    def fitted(self, signals: Sequence[Tensor], rate: int) -> "Waveform":
        """With the standard deviation of signals (n,)."""
        return replace(self, std=float(f"{float(torch.cat(list(signals)).double().std().clamp_min(1e-4)):.4g}"))

    def encode(self, signals: Sequence[Tensor], rate: int) -> list[Tensor]:
        """Signals (n,) to x (patch, frames) each; the last patch is filled up with zeros."""
        padded = [torch.nn.functional.pad(signal, (0, -len(signal) % self.patch)) for signal in signals]
        return [signal.view(-1, self.patch).T / self.std for signal in padded]

    def decode(self, x: Tensor, rate: int, seeds: Tensor) -> Tensor:
        """x (b, patch, frames) to signals (b, patch frames).

        Raises:
            ValueError: x is not finite."""
        if not bool(torch.isfinite(x).all()):
            raise ValueError(DIVERGED)
        return (x.float().mT.flatten(1) * self.std).clamp(-1, 1)


@dataclass(frozen=True, kw_only=True)
class Vocoder:
    """The log-mel spectrogram of a vocoder run, which makes the signals.

    Args:
        path: of the run.
        sha256: of its weights; fitted when the run is first read, and required from then on.
        mel, std: its spectrogram, and the standard deviation of its signals; fitted.
    """

    kind: Literal["vocoder"] = "vocoder"
    path: str
    sha256: str = ""
    mel: LogMel = LogMel()
    std: float = 1.0

    def read(self, rate: int) -> "Vocoder":
        """With what the run at `path` says.

        Raises:
            ValueError: it is no vocoder, or one of another rate."""
        recipe = Path(self.path) / "recipe.yaml"
        try:
            data: Any = strict_yaml.parse(recipe.read_text(encoding="utf-8"))["data"]
            mel: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data["vocoder"].items()}
            if data["rate"] != rate:
                raise ValueError(f"it is of {data['rate']} samples per second, and the recordings are of {rate}")
            return replace(
                self, path=str(Path(self.path).absolute()), mel=LogMel(**mel), std=float(data["codec"]["std"]),
                sha256=identity(Path(self.path) / "checkpoints"),
            )  # fmt: skip
        except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(
                f"data.codec.path={self.path} is no vocoder for this data ({type(error).__name__}: {error}): train one, as "
                "the recipe speech/vocoder does"
            ) from error

    def at(self, rate: int) -> "Vocoder":
        """Itself: its sizes are those of the vocoder."""
        return self

    def fitted(self, signals: Sequence[Tensor], rate: int) -> "Vocoder":
        """Itself, read from its run."""
        return self.read(rate)

    @property
    def channels(self) -> int:
        return self.mel.channels

    @property
    def stride(self) -> int:
        return self.mel.stride

    @property
    def shortest(self) -> int:
        return self.mel.shortest

    def frames(self, samples: int) -> int:
        """Frames of x of a signal."""
        return self.mel.frames(samples)

    def encode(self, signals: Sequence[Tensor], rate: int) -> list[Tensor]:
        """Signals (n,) to x (bins, frames) each."""
        return self.mel.encode(signals, rate)

    def decode(self, x: Tensor, rate: int, seeds: Tensor) -> Tensor:
        """By Griffin-Lim, where the network is not at hand; see `vocode`."""
        return self.mel.decode(x, rate, seeds)


AnyCodec = LogMel | Waveform | Vocoder
