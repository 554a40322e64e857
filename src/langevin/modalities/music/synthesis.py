"""Sound of a piece: additive synthesis, or the program fluidsynth with a soundfont.

A note of frequency f is sum_k a_k sin(2 pi k f t) with a_k = k^-1.6, decaying as exp(-t / 1.2 s), the faster the higher the
harmonic; ramps at both ends avoid clicks.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch

from langevin.modalities.music.piece import Piece
from langevin.modalities.sound import wav

RATE = 22_050  # samples per second
HARMONICS = 8
DECAY, ATTACK, RELEASE = 1.2, 0.008, 0.06  # seconds
PEAK = 0.8
MOST_SECONDS = 1800
TIMEOUT = 600  # seconds that fluidsynth may take


def sound(piece: Piece, *, step: float) -> np.ndarray:
    """The signal of a piece, (samples,) float64 in [-PEAK, PEAK], where a step lasts `step` seconds.

    Raises:
        ValueError: it would last longer than half an hour."""
    seconds = piece.steps * step + RELEASE
    if seconds > MOST_SECONDS:
        raise ValueError(
            f"the sound would last {seconds / 60:,.0f} minutes, more than {MOST_SECONDS // 60}: draw fewer samples, or "
            "write each to a file of its own, into a folder (--out NAME without a suffix)"
        )
    signal = np.zeros(int(seconds * RATE) + 1)
    for first, last, pitch, _ in piece.notes.tolist():
        note = tone(pitch, (last - first) * step)
        start = int(first * step * RATE)
        end = min(len(signal), start + len(note))
        signal[start:end] += note[: end - start]
    peak = np.abs(signal).max()
    return signal * (PEAK / peak) if peak > 0 else signal


def tone(pitch: int, seconds: float) -> np.ndarray:
    """A note of a MIDI pitch that is held for some seconds, with its release, (samples,) float64."""
    t = np.arange(int((seconds + RELEASE) * RATE)) / RATE
    frequency = 440 * 2 ** ((pitch - 69) / 12)
    harmonics = [k for k in range(1, HARMONICS + 1) if k * frequency < RATE / 2]
    # a_k sin(2 pi k f t) exp(-t (1 + (k - 1) / 4) / DECAY)
    waves = [k**-1.6 * np.sin(2 * np.pi * k * frequency * t) * np.exp(-t * (3 + k) / (4 * DECAY)) for k in harmonics]
    return np.sum(waves, 0) * np.minimum(1, t / ATTACK) * np.clip((seconds + RELEASE - t) / RELEASE, 0, 1)


def rendered(piece: Piece, *, step: float) -> bytes:
    """The piece as a WAV file by additive synthesis."""
    return wav(torch.from_numpy(sound(piece, step=step)), RATE)


def fluidsynth(soundfont: Path) -> str:
    """The program fluidsynth. Raises `ValueError` if it or the soundfont is missing."""
    program = shutil.which("fluidsynth")
    if program is None:
        raise ValueError(
            "--soundfont needs the program fluidsynth, which is not installed: install it, or leave it out"
        )
    if not soundfont.is_file():
        raise ValueError(f"there is no soundfont at {soundfont}")
    return program


def by_fluidsynth(midi: bytes, soundfont: Path) -> bytes:
    """A MIDI file as a WAV file by the program fluidsynth.

    Raises:
        ValueError: the program or the soundfont is missing, or it fails."""
    program = fluidsynth(soundfont)
    with tempfile.TemporaryDirectory() as folder:
        score, out = Path(folder) / "score.mid", Path(folder) / "score.wav"
        score.write_bytes(midi)
        command = [program, "-n", "-i", "-q", "-F", str(out), "-T", "wav", str(soundfont.absolute()), str(score)]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT, stdin=subprocess.DEVNULL)
            return out.read_bytes()
        except (OSError, subprocess.SubprocessError) as error:
            raise ValueError(f"fluidsynth cannot render with {soundfont}: {str(error)[:200]}") from error
