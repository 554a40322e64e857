"""What follows a linear operator in a measurement that is not linear: y = h(A x) + noise.

Each is a function of A x that can be differentiated; where it is flat or jumps, the derivative is that of a straight line
through it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Values beyond a range are cut: an overexposed photograph, a recording too loud.

    Args:
        low, high: (b,).
    """

    low: Tensor
    high: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        low, high = (end.to(x).reshape(-1, *(1,) * (x.ndim - 1)) for end in (self.low, self.high))
        return x.maximum(low).minimum(high)


@dataclass(frozen=True, kw_only=True)
class Round:
    """Values are rounded to multiples of a step: quantisation. Its derivative is taken to be 1.

    Args:
        step: (b,).
    """

    step: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        step = self.step.to(x).reshape(-1, *(1,) * (x.ndim - 1))
        return x + ((x / step).round() * step - x).detach()


@dataclass(frozen=True, kw_only=True)
class Spectrogram:
    """The magnitude of the short-time Fourier transform of (b, 1, samples): (b, 1, window / 2 + 1, frames).

    Args:
        window: samples of a (Hann) window.
        hop: samples from one to the next.
    """

    window: int
    hop: int

    def __call__(self, x: Tensor) -> Tensor:
        shape = torch.hann_window(self.window, dtype=x.dtype, device=x.device)
        f = torch.stft(x.flatten(1), self.window, self.hop, window=shape, return_complex=True, pad_mode="constant")
        return (f.real.square() + f.imag.square() + 1e-12).sqrt()[:, None]  # with a derivative at silence


AnyNonlinearity = Clip | Round | Spectrogram
