"""A generator of signals in the domain of the short-time Fourier transform.

Frames at one resolution pass through ConvNeXt blocks; the last layer predicts the magnitude and phase of every frequency,
and the inverse transform makes the signal ("Vocos: Closing the gap between time-domain and Fourier-based neural vocoders
for high-quality audio synthesis", 2023, arXiv 2306.00814). A signal is x (b, hop, frames), `hop` samples per frame; it is
conditioned on the port `concat`, such as a spectrogram of as many frames. Frame i is centred at sample i hop.

The input x is noise. It is ignored, used as it is, or scaled so that it follows the energy of the condition at each frame
("PriorGrad: Improving Conditional Denoising Diffusion Models with Data-Dependent Adaptive Prior", 2021, arXiv 2106.06406).
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from langevin.diffusion.condition import Condition
from langevin.networks.embedding import ConditioningConfig, require_bounded, require_input
from langevin.networks.encoder import ConditionEncoder
from langevin.networks.sizes import DataSizes, Reads, conditioned, require_space

LARGEST = 6.0  # of a logarithm of a magnitude


class ConvNeXt(nn.Module):
    """x + scale MLP(norm(depthwise convolution of x)), (b, width, frames)."""

    def __init__(self, width: int, kernel: int, mlp_ratio: float, scale: float) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.convolution = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.scale = nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.convolution(x).transpose(1, 2))
        return x + (self.scale * self.mlp(h)).transpose(1, 2)


class InverseSTFT(nn.Module):
    """(b, hop, frames) noise and its condition -> a signal (b, hop, frames)."""

    non_hidden = ("conv_in", "convolution", "proj_out", "encoder", "spread", "scale")
    head = ("norm", "proj_out")

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Args:
        width: channels of a frame.
        depth: number of blocks.
        kernel: frames of a depthwise convolution, an odd number.
        mlp_ratio: hidden channels of a block's MLP over `width`.
        n_fft: samples of a window; 0 takes four times the hop.
        prior: how the input noise is used: not at all, as it is, or with the energy of the condition.
        channels: samples per frame, the hop; None is taken from the data.
        """

        kind: Literal["inverse_stft"] = "inverse_stft"
        reads: ClassVar[Reads] = "grids"
        width: int = 256
        depth: int = 6
        kernel: int = 7
        mlp_ratio: float = 3.0
        n_fft: int = 0
        prior: Literal["none", "unit", "energy"] = "none"
        channels: int | None = None
        conditioning: ConditioningConfig = ConditioningConfig()

        def __post_init__(self) -> None:
            require_bounded(self)
            if min(self.width, self.depth) < 1 or self.kernel % 2 == 0 or not 0 < self.mlp_ratio <= 64:
                raise ValueError(f"an inverse STFT has positive sizes and an odd kernel: {self}")
            if self.n_fft % 2 or (self.channels and self.n_fft and self.n_fft < 2 * self.channels):
                raise ValueError(f"network.n_fft is even, and at least twice the hop, got {self.n_fft}")
            self.conditioning.require("an inverse STFT", self.supported_ports, cross_attends=False)

        @property
        def supported_ports(self) -> tuple[str, ...]:
            """The ports that this network can be built with."""
            return ("concat",)

        def fitted(self, sizes: DataSizes) -> "InverseSTFT.Config":
            """For data of these sizes."""
            require_space(1, sizes, 1, "frames")
            hop = sizes.channels or 0
            conditioning = conditioned(self.conditioning, sizes)
            return replace(self, channels=hop, n_fft=self.n_fft or 4 * hop, conditioning=conditioning)

        def build(self) -> "InverseSTFT":
            return InverseSTFT(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        bins = config.conditioning.concat_channels
        if not config.channels or not config.n_fft or (not bins and config.prior != "unit"):
            raise ValueError(
                "an inverse STFT needs network.channels, network.n_fft, and a condition (the port concat) unless its prior "
                "is unit"
            )
        self.config, width = config, config.width
        self.encoder = ConditionEncoder(config.conditioning, width, network="an inverse STFT")
        noise = 0 if config.prior == "none" else config.channels
        self.spread = nn.Conv1d(bins, 1, 1) if config.prior == "energy" else None
        if self.spread is not None:
            nn.init.constant_(self.spread.weight, 1 / bins)  # the mean over bins
            nn.init.zeros_(self.spread.bias)  # type: ignore[arg-type]
        self.conv_in = nn.Conv1d(bins + noise, width, 7, padding=3)
        self.blocks = nn.ModuleList(
            ConvNeXt(width, config.kernel, config.mlp_ratio, 1 / config.depth) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.proj_out = nn.Linear(width, config.n_fft + 2)
        self.register_buffer("window", torch.hann_window(config.n_fft), persistent=False)

    def forward(self, x: Tensor, c_time: Tensor, condition: Condition | None = None) -> Tensor:
        config = self.config
        require_input(x, c_time, channels=config.channels or 0, dimensions=1)
        conditioning = self.encoder(condition, x, tuple(x.shape[2:]))
        given = x[:, :0] if conditioning.channels is None else conditioning.channels
        mask = None if conditioning.data_mask is None else conditioning.data_mask[:, None]
        if config.prior != "none":
            noise = x if self.spread is None else x * F.softplus(self.spread(given))
            given = torch.cat([given, noise if mask is None else torch.where(mask, noise, 0)], 1)
        h = self.conv_in(given)
        for block in self.blocks:
            h = block(h if mask is None else torch.where(mask, h, 0))
        out = self.proj_out(self.norm(h.transpose(1, 2)))
        y = self._signal(out if out.dtype == torch.float64 else out.float(), conditioning.data_mask)
        return y if mask is None else torch.where(mask, y, 0)

    def _signal(self, h: Tensor, mask: Tensor | None) -> Tensor:
        """Logarithms of magnitudes, and phases, (b, frames, n_fft + 2), to the signal (b, hop, frames).

        Frames outside the mask (b, frames) add nothing to those inside."""
        n_fft, hop, frames = self.config.n_fft, self.config.channels or 1, h.shape[1]
        log_magnitude, phase = h.chunk(2, -1)
        spectrum = torch.polar(log_magnitude.clamp_max(LARGEST).exp(), phase)
        window: Tensor = self.window  # type: ignore[assignment]
        pieces = torch.fft.irfft(spectrum, n_fft) * window
        envelope = window.square().to(pieces).expand(len(h), frames, n_fft)
        if mask is not None:
            pieces, envelope = (torch.where(mask[..., None], part, 0) for part in (pieces, envelope))
        length = (frames - 1) * hop + n_fft
        signal, weight = (
            F.fold(part.transpose(1, 2), (1, length), (1, n_fft), stride=(1, hop))[:, 0, 0]
            for part in (pieces, envelope)
        )
        begin = n_fft // 2  # frame 0 is centred at the first sample
        y = (signal / weight.clamp_min(1e-3))[:, begin : begin + frames * hop]
        return y.unflatten(1, (frames, hop)).transpose(1, 2)
