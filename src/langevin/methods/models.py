"""Models, typed by their process: network, process, denoiser and method of types that belong together.

Code that works with any model takes an `AnyModel`, and selects one kind by a `match`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from langevin.diffusion.batch import Batch
from langevin.diffusion.denoiser import CausalDenoiser, GaussianDenoiser, JointDenoiser, ScoreDenoiser, TokenDenoiser
from langevin.diffusion.process import GIDD, SDE, Gaussian, Masked, Product, UniformDiffusion
from langevin.diffusion.warp import TimeWarps
from langevin.methods.adversarial import Adversarial
from langevin.methods.autoencoder import Autoencoding
from langevin.methods.consistency import Consistency
from langevin.methods.diffusion import Diffusion
from langevin.methods.distribution_matching import DistributionMatching
from langevin.methods.meanflow import MeanFlow
from langevin.methods.score_matching import ScoreMatching
from langevin.methods.spectral import SpectralLoss
from langevin.networks import Transformer

LOG_SNR = torch.linspace(-6, 6, 7, dtype=torch.float64)  # sigma / alpha from 20 down to 0.05
TIMES = torch.linspace(0.05, 1, 7, dtype=torch.float64)  # for an SDE
MASKED = torch.tensor(
    [0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 1.0], dtype=torch.float64
)  # fractions of tokens that are masked
Losses = Callable[[Batch, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class GaussianModel:
    """Gaussian diffusion of continuous data.

    Args:
        method: trains the network.
        levels: name and values of the noise levels at which losses are evaluated, here and below.
        losses: (batch, names of its samples (b,) int64) -> losses (levels, b) on fixed noise.
    """

    network: nn.Module
    process: Gaussian
    denoiser: GaussianDenoiser
    method: Diffusion | Consistency | MeanFlow | DistributionMatching | SpectralLoss | Autoencoding | Adversarial
    levels: tuple[str, Tensor]
    losses: Losses


@dataclass(frozen=True, kw_only=True)
class SDEModel:
    """Diffusion of continuous data by an SDE with any drift; the network learns the score of p_t."""

    network: nn.Module
    process: SDE
    denoiser: ScoreDenoiser
    method: ScoreMatching
    levels: tuple[str, Tensor]
    losses: Losses


@dataclass(frozen=True, kw_only=True)
class TokenModel:
    """Discrete diffusion of tokens, or an autoregressive model of them.

    Args:
        autoregressive: each position is predicted from those before it. Its process is masked diffusion, whose sampler
            unmasks from left to right.
    """

    network: Transformer
    process: Masked | UniformDiffusion | GIDD
    denoiser: TokenDenoiser | CausalDenoiser
    method: Diffusion
    levels: tuple[str, Tensor]
    losses: Losses
    autoregressive: bool = False

    @property
    def attention(self) -> str:
        """full, causal or block."""
        return self.network.config.attention


@dataclass(frozen=True, kw_only=True)
class JointModel:
    """Diffusion of several named parts together, some continuous and some of tokens.

    Args:
        warps: the clocks of the parts' positions.
    """

    network: nn.Module
    process: Product
    denoiser: JointDenoiser
    method: Diffusion
    levels: tuple[str, Tensor]
    losses: Losses
    warps: TimeWarps


AnyModel = GaussianModel | SDEModel | TokenModel | JointModel
