"""Training a generator of signals by its spectrograms at several resolutions, without an adversary.

    sum_r  | |S_r(x)| - |S_r(y)| |_F / | |S_r(x)| |_F  +  mean | ln |S_r(x)| - ln |S_r(y)| |

over short-time Fourier transforms S_r of several window lengths ("Parallel WaveGAN: A fast waveform generation model based
on generative adversarial networks with multi-resolution spectrogram", 2019, arXiv 1910.11480). The generator is a denoiser
that is asked once, at t = 1, where its input is noise. Phases are free: signals of one spectrogram have equal losses.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from langevin.diffusion.batch import Batch, StepRandomness
from langevin.diffusion.denoiser import GaussianDenoiser
from langevin.diffusion.float64 import float64_device
from langevin.diffusion.noise import Noise
from langevin.diffusion.process import Gaussian
from langevin.methods.method import Player, Report

FLOOR = 1e-3  # of magnitudes, before their logarithm


class SpectralLoss:
    """A generator trained by multi-resolution spectrograms: one player, `denoiser`.

    Args:
        process: whose prior is the generator's input.
        denoiser: the trained generator, with prediction "clean"; it holds `network`.
        network: the module whose weights are trained.
        windows: samples of the transforms' windows.
        non_hidden: see `Player`.
        generator: the denoiser that is sampled from, if not `denoiser`.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The resolutions.

        Args:
            windows: samples of the transforms' windows; each moves on by a quarter of it.
        """

        kind: Literal["spectral"] = "spectral"
        one_step: ClassVar[bool] = True
        ranked_by_loss: ClassVar[bool] = True
        windows: tuple[int, ...] = (64, 128, 256, 512, 1024)

        def __post_init__(self) -> None:
            if not self.windows or len(self.windows) > 16 or not all(16 <= w <= 65536 for w in self.windows):
                raise ValueError(f"method.windows has 1 to 16 lengths of 16 to 65,536 samples, got {self.windows}")

    def __init__(
        self,
        *,
        process: Gaussian,
        denoiser: GaussianDenoiser,
        network: nn.Module,
        windows: tuple[int, ...],
        non_hidden: tuple[str, ...] = (),
        generator: GaussianDenoiser | None = None,
    ) -> None:
        self.process, self.denoiser, self.windows = process, denoiser, windows
        player = Player(module=nn.ModuleDict({"network": network}), non_hidden=non_hidden)
        self.players: Mapping[str, Player] = {"denoiser": player}
        self._generator = generator or denoiser

    def loss(self, player: str, batch: Batch, draw: StepRandomness) -> Report:
        """The losses of a batch's samples; see `Method.loss`."""
        y = generated(self.denoiser, self.process, batch, draw.noise.fork(2))
        convergence, magnitude = spectral_distance(y, batch.x, self.windows)
        loss = convergence + magnitude
        terms = {"convergence": convergence.detach(), "log_magnitude": magnitude.detach()}
        return Report(loss=loss, plain=magnitude.detach(), terms=terms)

    def generator(self) -> GaussianDenoiser:
        """The denoiser that is asked at t = 1."""
        return self._generator


def generated(denoiser: GaussianDenoiser, process: Gaussian, batch: Batch, noise: Noise) -> Tensor:
    """The generator's samples for the conditions of a batch, shaped like its x."""
    t = torch.ones(len(batch.x), dtype=torch.float64, device=float64_device(batch.x.device))
    return denoiser(process.prior(batch.x, noise, t), t, batch.condition).mean


def spectral_distance(y: Tensor, x: Tensor, windows: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Spectral convergence and distance of log-magnitudes of signals (b, hop, frames), means over windows, (b,) each."""
    signals = torch.cat([part.float().transpose(1, 2).flatten(1) for part in (y, x)])
    parts = list[tuple[Tensor, Tensor]]()
    for n in windows:
        if signals.shape[1] <= n // 2:
            continue
        made, real = _magnitudes(signals, n).chunk(2)
        norm = real.flatten(1).norm(dim=1).clamp_min(FLOOR)
        log_distance = (made.clamp_min(FLOOR).log() - real.clamp_min(FLOOR).log()).abs()
        parts.append(((made - real).flatten(1).norm(dim=1) / norm, log_distance.flatten(1).mean(1)))
    if not parts:
        raise ValueError(f"signals of {signals.shape[1]} samples are shorter than every window of method.windows")
    convergence, magnitude = (torch.stack(values).mean(0) for values in zip(*parts))
    return convergence, magnitude


def _magnitudes(signals: Tensor, n: int) -> Tensor:
    """(b, n / 2 + 1, frames), with a gradient that is finite at 0."""
    window = torch.hann_window(n, device=signals.device)
    padded = F.pad(signals[:, None], (n // 2, n // 2), mode="reflect")[:, 0]
    spectrogram = torch.stft(padded, n, n // 4, window=window, center=False, return_complex=True)
    return (spectrogram.real.square() + spectrogram.imag.square() + 1e-9).sqrt()
