"""Reading sound files: any format of libsndfile, mixed to mono, resampled, with every failure in words."""

from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from langevin.extras import require
from langevin.modalities.content import is_file_in_shard, opened, size_of
from langevin.modalities.paths import regular

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".w64")
LONGEST = 4 * 3600  # seconds of a file
SHORTEST = 0.02  # seconds


class Unreadable(ValueError):
    """A sound file that cannot be used; the message continues "The file ..."."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a sound file says of itself: sampling rate in Hz, channels, frames, and format."""

    rate: int
    channels: int
    samples: int
    format: str

    @property
    def seconds(self) -> float:
        return self.samples / self.rate


def header(path: Path) -> Header:
    """The header of a sound file.

    Raises:
        Unreadable: it is not one."""
    if not regular(path):
        raise Unreadable("is not a regular file")
    soundfile = require("soundfile", "reading sound files")
    if size_of(path) == 0:
        raise Unreadable("is empty (0 bytes)")
    try:
        info = soundfile.info(_sound(path))
    except (soundfile.SoundFileError, OSError, ValueError, TypeError) as error:
        raise Unreadable(f"is no sound that can be read ({_brief(error)})") from error
    if not 1 <= info.channels <= 64 or not 100 <= info.samplerate <= 1_000_000:
        raise Unreadable(f"claims {info.channels} channels at {info.samplerate:,} Hz")
    return Header(
        rate=info.samplerate, channels=info.channels, samples=info.frames, format=f"{info.format} {info.subtype}"
    )


def read(path: Path, rate: int) -> Tensor:
    """The signal at `rate` Hz, mono, (n,) float32, not normalised.

    Raises:
        Unreadable: it cannot be read, is too short or too long, or holds numbers that are not finite."""
    found = header(path)
    if found.seconds > LONGEST:
        raise Unreadable(
            f"is {found.seconds / 3600:.1f} hours long: cut it into files of at most {LONGEST // 3600} hours"
        )
    soundfile = require("soundfile", "reading sound files")
    try:
        values, stored = soundfile.read(_sound(path), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError, ValueError, MemoryError) as error:
        raise Unreadable(f"is damaged ({_brief(error)})") from error
    if not np.isfinite(values).all():
        raise Unreadable("holds numbers that are not finite")
    mono = values.mean(1, dtype=np.float32)
    if stored != rate:
        mono = require("soxr", "resampling sound").resample(mono, stored, rate).astype(np.float32)
    if len(mono) < SHORTEST * rate:
        raise Unreadable(f"is too short: {1000 * len(mono) / rate:.0f} ms of at least {1000 * SHORTEST:.0f}")
    return torch.from_numpy(mono)


def _sound(path: Path) -> str | BufferedIOBase:
    """What libsndfile opens: the name of a file, or its bytes."""
    return opened(path) if is_file_in_shard(path) else str(path)


def _brief(error: Exception) -> str:
    """The last part of a message of libsndfile, without the path."""
    return str(error).rsplit(": ", 1)[-1].strip().rstrip(".") or type(error).__name__
