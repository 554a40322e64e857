"""Sound files to mutate, and what is done with one; `python -m tests.fuzz.sounds COUNT SEED` does it often."""

import io
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from langevin.modalities.speech.sound_files import LONGEST, Unreadable, read
from tests.fuzz.mutate import many

RATE = 8000


def forms() -> dict[str, bytes]:
    """Small valid files of several formats, by name."""
    tone = 0.5 * np.sin(np.arange(1200) / 5)
    found = {"empty": b""}
    for name, form, subtype, channels in (
        ("a.wav", "WAV", "PCM_16", 1), ("b.wav", "WAV", "FLOAT", 2), ("c.wav", "WAV", "PCM_24", 1),
        ("d.flac", "FLAC", "PCM_16", 1), ("e.ogg", "OGG", "VORBIS", 1), ("f.mp3", "MP3", "MPEG_LAYER_III", 1),
        ("g.aiff", "AIFF", "PCM_16", 1), ("h.wav", "WAV", "MS_ADPCM", 1),
    ):  # fmt: skip
        content = io.BytesIO()
        soundfile.write(content, np.stack([tone] * channels, 1), RATE, format=form, subtype=subtype)
        found[name] = content.getvalue()
    return found


def listened(content: bytes) -> str:
    """Read a file. Raises for anything but a signal or a sentence."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.wav"  # the format is known by its first bytes
        path.write_bytes(content)
        try:
            signal = read(path, RATE)
        except Unreadable as error:
            assert len(str(error)) < 250, error
            return "broken"
        assert bool(signal.isfinite().all())
        assert len(signal) <= LONGEST * RATE
        return "read"


if __name__ == "__main__":
    many(int(sys.argv[1]), int(sys.argv[2]), forms(), listened)
