"""Training an autoencoder by a bound on the likelihood, per number of the data:

    E_q [ |x - decode(z)|^2 / (2 s^2) ] + log s + log(2 pi) / 2  +  b KL(q(z | x) | N(0, 1)),    q(z | x) = encode(x)

"Auto-Encoding Variational Bayes" (2013, arXiv 1312.6114). With b = 1 it is the negative ELBO, in nats per number. The
smaller s is, the more detail is worth its place in the latent. The generator is a denoiser that is asked once, at t = 1,
where its input is noise, of which the latent is a part.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from langevin.diffusion.batch import Batch, StepRandomness
from langevin.diffusion.denoiser import GaussianDenoiser
from langevin.diffusion.likelihood import Levels, gaussian_mass
from langevin.diffusion.noise import Noise
from langevin.diffusion.objective import mean_per_sample
from langevin.methods.method import Player, Report
from langevin.networks.autoencoder import Autoencoder


class Autoencoding:
    """A variational autoencoder: one player, `autoencoder`.

    Args:
        network: the autoencoder.
        denoiser: the generator, with prediction "clean"; it holds `network`.
        std: s, of the decoder's Gaussian, in units of x.
        kl_weight: b.
        precision: dtype of matrix products.
        non_hidden: see `Player`.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """How much detail the latent holds.

        Args:
            std: of the decoder's Gaussian, in units of x, whose own is about 1/2.
            kl_weight: of the divergence of the latent from a normal; 1 is the ELBO.
        """

        kind: Literal["autoencoder"] = "autoencoder"
        one_step: ClassVar[bool] = True
        ranked_by_loss: ClassVar[bool] = False
        std: float = 0.05
        kl_weight: float = 1.0

        def __post_init__(self) -> None:
            if not 0 < self.std < math.inf or not 0 <= self.kl_weight < math.inf:
                raise ValueError(
                    f"method.std is positive and method.kl_weight at least 0, got {self.std} and {self.kl_weight}"
                )

    def __init__(
        self,
        *,
        network: Autoencoder,
        denoiser: GaussianDenoiser,
        std: float,
        kl_weight: float = 1.0,
        precision: torch.dtype = torch.float32,
        non_hidden: tuple[str, ...] = (),
    ) -> None:
        self.network, self.denoiser, self.std, self.kl_weight = network, denoiser, std, kl_weight
        self.precision = precision
        player = Player(module=nn.ModuleDict({"network": network}), non_hidden=non_hidden)
        self.players: Mapping[str, Player] = {"autoencoder": player}

    def loss(self, player: str, batch: Batch, draw: StepRandomness) -> Report:
        """The losses of a batch's samples; see `Method.loss`."""
        error, kl = self.parts(batch, draw.noise.fork(2))
        likelihood = 0.5 * error / self.std**2 + math.log(self.std) + 0.5 * math.log(2 * math.pi)
        terms = {"squared_error": error.detach(), "kl": kl.detach()}
        return Report(loss=likelihood + self.kl_weight * kl, plain=(likelihood + kl).detach(), terms=terms)

    def parts(self, batch: Batch, noise: Noise) -> tuple[Tensor, Tensor]:
        """The squared error and the divergence of each sample, per number of the data, (b,) float32 each."""
        x: Tensor = batch.x
        with torch.autocast(x.device.type, dtype=self.precision, enabled=self.precision != torch.float32):
            mean, log_variance = (part.to(x) for part in self.network.encode(x))
            y = self.network.decode(mean + (0.5 * log_variance).exp() * noise.normal(mean)).to(x)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
        counted = batch.counted()
        error = mean_per_sample((x - y).square(), counted)
        if counted is None:
            return error, divergence.flatten(1).sum(1) / math.prod(x.shape[1:])
        places = counted[:, *(slice(None, None, stride) for stride in self.network.config.strides)]
        inside = torch.where(places[:, None].to(x.device), divergence, 0).flatten(1).sum(1)
        return error, inside / (x.shape[1] * counted.flatten(1).sum(1)).clamp_min(1).to(x)

    @torch.no_grad()
    def bound(self, x: Tensor, noise: Noise, levels: Levels) -> Tensor:
        """-ln P(k) <= E_q[-ln P(k | z)] + KL(q(z | x) | N(0, 1)) of the recorded levels k of x, by one z of each sample.

        P(k | z) is what the decoder's Gaussian has in the bin of k (`gaussian_mass`). The weight b is of training alone.

        Returns:
            (b,) float64, in nats per sample.

        Raises:
            ValueError: x is not on the levels."""
        mean, log_variance = self.network.encode(x)
        y = self.network.decode(mean + (0.5 * log_variance).exp() * noise.normal(mean))
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).double()
        return divergence.flatten(1).sum(1).cpu() - gaussian_mass(x, levels, y, self.std).flatten(1).sum(1).cpu()

    def generator(self) -> GaussianDenoiser:
        """The denoiser that is asked at t = 1."""
        return self.denoiser
