"""Tiny spoken data: vowels of two voices, made of harmonics, as WAV files."""

from pathlib import Path

import numpy as np
import soundfile
import torch

from langevin.modalities.speech.metrics.measure import mel_distance
from langevin.modalities.speech.preview import joined

RATE = 8000
VOWELS = {"ah": (700, 1200), "ee": (300, 2300), "oo": (350, 800)}  # first two formants in Hz
PITCH = {"anna": 210.0, "ben": 110.0}


def vowel(word: str, pitch: float, seconds: float, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """A sung vowel: harmonics of a pitch under two formants, with a little noise."""
    t = np.arange(int(seconds * rate)) / rate
    random = np.random.default_rng(seed)
    signal = np.zeros_like(t)
    for k in range(1, int(0.45 * rate / pitch)):
        gain = sum(np.exp(-(((k * pitch - f) / 150) ** 2)) for f in VOWELS[word])
        signal += gain * np.sin(2 * np.pi * (k * pitch * t + random.uniform()))
    return (0.2 * signal + 0.003 * random.normal(size=len(t))) * np.hanning(len(t)) ** 0.3


def spoken(folder: Path, *, each: int = 5) -> Path:
    """`each` recordings of every word by every voice, with `metadata.csv`."""
    folder.mkdir(parents=True, exist_ok=True)
    lines, number = ["file_name,text,speaker"], 0
    for word in VOWELS:
        for voice, pitch in PITCH.items():
            for k in range(each):
                name, number = f"{word}_{voice}_{k}.wav", number + 1
                sound = vowel(word, pitch * (1 + 0.02 * k), 0.22 + 0.03 * ((k + number) % 4), seed=number)
                soundfile.write(folder / name, sound, RATE)
                lines.append(f"{name},{word},{voice}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder


def digits(folder: Path) -> Path:
    """The same recordings, said to be of the digits zero, one and two."""
    names = dict(zip(VOWELS, ("zero", "one", "two")))
    metadata = spoken(folder) / "metadata.csv"
    lines = [line.split(",") for line in metadata.read_text().splitlines()]
    metadata.write_text("".join(f"{file},{names.get(text, text)},{voice}\n" for file, text, voice in lines))
    return folder


def keeps_its_bound(modality, train, bound: float) -> None:
    """Check that copies of recordings by the codec differ by at most `bound`: in samples, or in log-mel on average."""
    signals = [train.signal(i) for i in range(4)]
    copies = modality.decoded(modality.encoder.signals(signals), torch.arange(4))
    if modality.codec.kind == "waveform":
        for copy, signal in zip(copies, signals, strict=True):
            assert float((copy[: len(signal)] - signal).abs().max()) <= bound
            assert float(copy[len(signal) :].abs().sum()) == 0
        return
    assert all(abs(len(a) - len(b)) <= modality.codec.stride for a, b in zip(copies, signals, strict=True))
    assert mel_distance(signals, copies, RATE) <= bound


def read_back(form: str, out: Path, samples) -> None:
    """Check that a file holds the samples."""
    if form == ".npz":
        held = dict(np.load(out))
        for row, length, signal in zip(held["signals"], held["length"], samples.values, strict=True):
            assert np.array_equal(row[:length], signal.numpy())
        assert tuple(held.get("names", ())) == (samples.names if any(samples.names) else ())
    elif form == ".png":
        assert out.read_bytes() == samples.preview().content
    else:
        files = sorted(out.iterdir()) if form == "" else [out]
        sounds = [soundfile.read(path)[0] for path in files]
        wanted = [signal.numpy() for signal in samples.values]
        if form == ".wav":
            wanted = [joined(samples.values, RATE).numpy()]
        for sound, signal in zip(sounds, wanted, strict=True):
            assert np.abs(sound - signal).max() < 1e-4
