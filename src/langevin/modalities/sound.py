"""Sound as a WAV file, for any modality that can be heard."""

import io
import wave

import numpy as np
from torch import Tensor


def wav(signal: Tensor, rate: int) -> bytes:
    """A mono 16-bit WAV file of a signal (n,), clipped to [-1, 1], at `rate` samples per second; one that
    was read from such a file is written as it was.

    Raises:
        ValueError: the signal is not finite."""
    values = signal.detach().cpu().double().numpy()
    if not np.isfinite(values).all():
        raise ValueError("the sound holds numbers that are not finite: the model or its guidance diverged")
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((values * 32768).round().clip(-32768, 32767).astype("<i2").tobytes())
    return content.getvalue()
