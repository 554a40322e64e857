"""Training an autoencoder by a bound on the likelihood, per number of the data:

    E_q [ |x - y|^2 / (2 s^2) ] + log s + log(2 pi) / 2  +  b KL(q(z | x) | prior),    y = decode(z),  q(z | x) = encode(x)

"Auto-Encoding Variational Bayes" (2013, arXiv 1312.6114). With b = 1 it is the negative ELBO, in nats per number. The
smaller s is, the more detail is worth its place in the latent. The prior is N(0, 1), or uniform where z is one of K codes
(`network.quantizer`); then KL is ln K at each place, and training also makes the distances of codes small, weighed as the
squared error is ("Neural Discrete Representation Learning", 2017, arXiv 1711.00937). The generator is a denoiser that is
asked once, at t = 1, where its input is noise, of which the latent is a part.

Two further terms make copies sharper, and are no part of the bound ("Taming Transformers for High-Resolution Image
Synthesis", 2020, arXiv 2012.09841): the squared difference of responses to y and x, of fixed random filters or of a
classifier of the data, weighed as the squared error is, and the loss of y against a discriminator of patches, in nats as
the bound is. That discriminator is a second player, with the loss and the penalties of `adversarial.py`. One that wins is
flat, and leaves the other terms.
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
from langevin.methods.adversarial import GAMMA, relativistic, with_squared_slope
from langevin.methods.method import Player, Report
from langevin.networks.autoencoder import Autoencoder
from langevin.networks.patch_discriminator import PatchDiscriminator
from langevin.networks.random_filters import RandomFilters, Responses, perceptual_distance


@dataclass(frozen=True, kw_only=True)
class Copy:
    """What an autoencoder makes of a batch's x.

    Args:
        y: the copies, shaped like x, and equal to it where the loss does not look.
        squared_error: (b,), a mean over the numbers of x.
        nats: (b,), the divergence of the latent from its prior, per number of x.
        distance: (b,), the squared distances of codes, a mean over places of the latent.
    """

    y: Tensor
    squared_error: Tensor
    nats: Tensor
    distance: Tensor


class Autoencoding:
    """An autoencoder: the player `autoencoder`, and `discriminator` if there is an adversarial term.

    Args:
        network: the autoencoder.
        denoiser: the generator, with prediction "clean"; it holds `network`.
        std: s, of the decoder's Gaussian, in units of x.
        kl_weight: b.
        perceptual: weight of the perceptual distance, of `responses`: those of random filters, until others are put there.
        adversarial: weight of the adversarial loss.
        discriminator: for that loss.
        precision: dtype of matrix products.
        non_hidden: see `Player`; of both.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """How much detail the latent holds, and of which kind.

        Args:
            std: of the decoder's Gaussian, in units of x, whose own is about 1/2.
            kl_weight: of the divergence of the latent from its prior; 1 is the ELBO. That of codes is a constant.
            perceptual: weight of the squared difference of responses, beside the squared error.
            responses: of fixed random filters, or of a classifier that is trained on the labels of the data before the
                first step.
            sha256: of the classifier's weights; filled in before training, and required from then on.
            adversarial: weight of the loss against a discriminator of patches.
        """

        kind: Literal["autoencoder"] = "autoencoder"
        one_step: ClassVar[bool] = True
        ranked_by_loss: ClassVar[bool] = False
        std: float = 0.05
        kl_weight: float = 1.0
        perceptual: float = 0.0
        responses: Literal["random_filters", "classifier"] = "random_filters"
        sha256: str = ""
        adversarial: float = 0.0

        def __post_init__(self) -> None:
            if not 0 < self.std < math.inf or not 0 <= self.kl_weight < math.inf:
                raise ValueError(
                    f"method.std is positive and method.kl_weight at least 0, got {self.std} and {self.kl_weight}"
                )
            if not (0 <= self.perceptual < math.inf and 0 <= self.adversarial < math.inf):
                raise ValueError(
                    "method.perceptual and method.adversarial are weights, at least 0 and finite, got "
                    f"{self.perceptual} and {self.adversarial}"
                )
            if self.responses != "random_filters" and not self.perceptual:
                raise ValueError(
                    f"method.responses={self.responses} has no effect without a weight: give method.perceptual=1"
                )

    def __init__(
        self,
        *,
        network: Autoencoder,
        denoiser: GaussianDenoiser,
        std: float,
        kl_weight: float = 1.0,
        perceptual: float = 0.0,
        adversarial: float = 0.0,
        discriminator: PatchDiscriminator | None = None,
        precision: torch.dtype = torch.float32,
        non_hidden: tuple[str, ...] = (),
    ) -> None:
        if (discriminator is None) != (adversarial == 0):
            raise ValueError("an adversarial term has a weight above 0 and a discriminator, or neither")
        self.network, self.denoiser, self.std, self.kl_weight = network, denoiser, std, kl_weight
        self.perceptual, self.adversarial, self.discriminator = perceptual, adversarial, discriminator
        self.precision = precision
        self.responses: Responses = RandomFilters(channels=network.config.channels or 1)
        self.players: Mapping[str, Player] = {
            "autoencoder": Player(module=nn.ModuleDict({"network": network}), non_hidden=non_hidden)
        }
        if discriminator is not None:
            module = nn.ModuleDict({"network": discriminator})
            self.players = {**self.players, "discriminator": Player(module=module, non_hidden=non_hidden, ema=False)}

    def loss(self, player: str, batch: Batch, draw: StepRandomness) -> Report:
        """The losses of a batch's samples; see `Method.loss`."""
        if player not in self.players:
            raise KeyError(player)
        with torch.set_grad_enabled(player == "autoencoder" and torch.is_grad_enabled()):
            copy = self.copied(batch, draw.noise.fork(2))
        if player == "discriminator":
            return self._judged(copy.y, batch)
        gaussian = 0.5 / self.std**2  # nats of a squared error of 1
        likelihood = gaussian * copy.squared_error + math.log(self.std) + 0.5 * math.log(2 * math.pi)
        loss = likelihood + self.kl_weight * copy.nats + gaussian * copy.distance
        terms = {"squared_error": copy.squared_error, "kl": copy.nats}
        if self.network.config.codes is not None:
            terms["distance"] = copy.distance
        if self.perceptual:
            terms["perceptual"] = perceptual_distance(copy.y, batch.x, self.responses)
            loss = loss + gaussian * self.perceptual * terms["perceptual"]
        if self.discriminator is not None:
            margin = self._scores(copy.y) - self._scores(batch.x).detach()
            terms["adversarial"] = self._over_places(relativistic(margin), batch)
            loss = loss + self.adversarial * terms["adversarial"]
        shown = {name: values.detach() for name, values in terms.items()}
        return Report(loss=loss, plain=(likelihood + copy.nats).detach(), terms=shown)

    def _judged(self, y: Tensor, batch: Batch) -> Report:
        """The discriminator's loss, a mean over patches, with the penalties of its slope at x and y."""
        real, r1 = with_squared_slope(self._scores, batch.x)
        fake, r2 = with_squared_slope(self._scores, y)
        plain, penalty = self._over_places(relativistic(real - fake), batch), r1 + r2
        terms = {"penalty": penalty.detach()}
        return Report(loss=plain + 0.5 * GAMMA * penalty, plain=plain.detach(), terms=terms)

    def _scores(self, x: Tensor) -> Tensor:
        """How real each patch of x is to the discriminator, (b, *places)."""
        assert self.discriminator is not None, "there is an adversarial term"
        with torch.autocast(x.device.type, dtype=self.precision, enabled=self.precision != torch.float32):
            return self.discriminator(x)

    def copied(self, batch: Batch, noise: Noise) -> Copy:
        """The copies of a batch's x, what they lack and what they cost, float32."""
        x: Tensor = batch.x
        with torch.autocast(x.device.type, dtype=self.precision, enabled=self.precision != torch.float32):
            latent = self.network.latent(x, noise)
            y = self.network.decode(latent.z).to(x)
        counted, nats, numbers = _positions(batch), latent.nats, math.prod(x.shape[1:])
        if counted is not None:
            y = torch.where(counted[:, None].to(x.device), y, x)
            nats = torch.where(self._places(counted).to(x.device), nats, 0)
            numbers = (x.shape[1] * counted.flatten(1).sum(1)).clamp_min(1).to(x)
        return Copy(
            y=y, squared_error=mean_per_sample((x - y).square(), None if counted is None else counted[:, None]),
            nats=nats.flatten(1).sum(1) / numbers, distance=self._over_places(latent.distance, batch),
        )  # fmt: skip

    def _places(self, counted: Tensor) -> Tensor:
        """The places of the latent, (b, *places), of positions of x (b, *space)."""
        return counted[:, *(slice(None, None, stride) for stride in self.network.config.strides)]

    def _over_places(self, values: Tensor, batch: Batch) -> Tensor:
        """The mean of values (b, *places) over the places that the loss covers, (b,)."""
        counted = _positions(batch)
        return mean_per_sample(values, None if counted is None else self._places(counted))

    @torch.no_grad()
    def bound(self, x: Tensor, noise: Noise, levels: Levels) -> Tensor:
        """-ln P(k) <= E_q[-ln P(k | z)] + KL(q(z | x) | prior) of the recorded levels k of x, by one z of each sample.

        P(k | z) is what the decoder's Gaussian has in the bin of k (`gaussian_mass`). The weight b is of training alone.

        Returns:
            (b,) float64, in nats per sample.

        Raises:
            ValueError: x is not on the levels."""
        latent = self.network.latent(x, noise)
        mass = gaussian_mass(x, levels, self.network.decode(latent.z), self.std)
        return latent.nats.double().flatten(1).sum(1).cpu() - mass.flatten(1).sum(1).cpu()

    def generator(self) -> GaussianDenoiser:
        """The denoiser that is asked at t = 1."""
        return self.denoiser


def _positions(batch: Batch) -> Tensor | None:
    """The positions of x that the loss covers, (b, *space) bool; None: all."""
    counted = batch.counted()
    if counted is None or counted.ndim < batch.x.ndim:
        return counted
    return counted.any(1)
