"""What an autoencoder's latent is: normal, or one of finitely many codes at each place.

- `KL`: q(z | x) is a normal distribution, and its divergence from N(0, 1) is part of the bound ("Auto-Encoding Variational
  Bayes", 2013, arXiv 1312.6114).
- `FSQ`: each number is rounded to a few levels in [-1, 1] ("Finite Scalar Quantization: VQ-VAE Made Simple", 2023, arXiv
  2309.15505). It has no weights, and nothing that could go unused.
- `VQ`: the vector of a place is replaced by the nearest of a learned codebook ("Neural Discrete Representation Learning",
  2017, arXiv 1711.00937).

A code is deterministic, and under a uniform prior of K codes its divergence is ln K at each place. So the bound on the
likelihood is one of all three. Rounding has no gradient, and that of the identity is taken in its place.

A code that is nearest to no latent gets no gradient from the data. Codes are usually put back among the latents now and
then, which is state beside the weights, and differs between processes. Here each code is also drawn to the latent of the
batch that is nearest to it, which is a term of the loss.
"""

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from langevin.diffusion.noise import Noise

LOG_VARIANCE = (-20.0, 10.0)  # of a latent
WIDTH = 0.2  # the first codes are uniform between -0.2 and 0.2, about as wide as the latents of an untrained encoder


@dataclass(frozen=True, kw_only=True)
class Latent:
    """The latents z (b, channels, *places) of a batch, and what they cost at each place, (b, *places) each.

    Args:
        z: what the decoder reads.
        nats: divergence from the prior.
        distance: squared distances that training makes small, in units of z: of a code from the latent that it replaces.
    """

    z: Tensor
    nats: Tensor
    distance: Tensor


@dataclass(frozen=True, kw_only=True)
class KL:
    """A normal latent."""

    kind: Literal["kl"] = "kl"
    codes: None = None

    def require(self, channels: int) -> None:
        """Any number of channels can be normal."""

    def build(self, channels: int) -> "Normal":
        return Normal()


@dataclass(frozen=True, kw_only=True)
class FSQ:
    """Levels of each channel of the latent; as many as `network.latent_channels`.

    Args:
        levels: of each channel, at least 2. The paper recommends 8, 5, 5, 5 for 1,000 codes, 7, 5, 5, 5, 5 for 4,375.
    """

    kind: Literal["fsq"] = "fsq"
    levels: tuple[int, ...] = (8, 5, 5, 5)

    def __post_init__(self) -> None:
        if not (1 <= len(self.levels) <= 16 and min(self.levels) >= 2 and self.codes <= 2**24):
            raise ValueError(
                "network.quantizer.levels lists 1 to 16 numbers of at least 2, whose product is at most 2^24, got "
                f"{self.levels}"
            )

    @property
    def codes(self) -> int:
        """Number of codes."""
        return math.prod(self.levels)

    def require(self, channels: int) -> None:
        """Check that there is a number of levels for each channel. Raises `ValueError`."""
        if channels != len(self.levels):
            raise ValueError(
                f"network.quantizer.levels has {len(self.levels)} numbers, one for each channel of the latent, and "
                f"network.latent_channels is {channels}: set it to {len(self.levels)}"
            )

    def build(self, channels: int) -> "Levels":
        self.require(channels)
        return Levels(self.levels)


@dataclass(frozen=True, kw_only=True)
class VQ:
    """A codebook.

    Args:
        codes: number of codes.
        commitment: weight of the distance that the encoder makes small, over that which the codebook does.
        attraction: weight of the distance of each code from the nearest latent of a batch.
    """

    kind: Literal["vq"] = "vq"
    codes: int = 512
    commitment: float = 0.25
    attraction: float = 1.0

    def __post_init__(self) -> None:
        if not 2 <= self.codes <= 2**16:
            raise ValueError(f"network.quantizer.codes is 2 to {2**16:,}, got {self.codes:,}")
        if not (0 < self.commitment < math.inf and 0 <= self.attraction < math.inf):
            raise ValueError(
                "network.quantizer.commitment is positive and attraction at least 0, got "
                f"{self.commitment} and {self.attraction}"
            )

    def require(self, channels: int) -> None:
        """A codebook can have vectors of any size."""

    def build(self, channels: int) -> "Codebook":
        return Codebook(self, channels)


AnyQuantizer = KL | FSQ | VQ


class Quantizer(Protocol):
    """The module of a latent. `h` (b, outputs, *places) is what the encoder ends in."""

    def outputs(self, channels: int) -> int:
        """The channels of h for a latent of `channels`."""
        ...

    def encode(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latent, (b, channels, *places) each; a code has the least variance."""
        ...

    def draw(self, h: Tensor, noise: Noise) -> Latent:
        """The latent with the gradient of its training; from q(z | x) if that is a distribution."""
        ...

    def prior(self, normal: Tensor) -> Tensor:
        """A latent from the prior, of standard normal numbers shaped like it."""
        ...

    def tokens(self, z: Tensor) -> Tensor:
        """The codes int64 (b, *places) of the nearest vectors. Raises `ValueError` if there are none."""
        ...

    def embed(self, tokens: Tensor) -> Tensor:
        """The vectors (b, channels, *places) of codes. Raises `ValueError` if there are none."""
        ...


class Normal(nn.Module):
    """A latent with a mean and a variance."""

    def outputs(self, channels: int) -> int:
        return 2 * channels

    def encode(self, h: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = h.chunk(2, 1)
        return mean, log_variance.clamp(*LOG_VARIANCE)

    def draw(self, h: Tensor, noise: Noise) -> Latent:
        return normal_latent(*self.encode(h), noise)

    def prior(self, normal: Tensor) -> Tensor:
        return normal

    def tokens(self, z: Tensor) -> Tensor:
        raise ValueError(_NO_CODES)

    def embed(self, tokens: Tensor) -> Tensor:
        raise ValueError(_NO_CODES)


_NO_CODES = "a normal latent has no codes: train an autoencoder with network.quantizer.kind fsq or vq"


def normal_latent(mean: Tensor, log_variance: Tensor, noise: Noise) -> Latent:
    """A draw of a normal latent, and its divergence from N(0, 1)."""
    z = mean + (0.5 * log_variance).exp() * noise.normal(mean)
    nats = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
    return Latent(z=z, nats=nats.sum(1), distance=torch.zeros_like(nats[:, 0]))


class Levels(nn.Module):
    """Each channel rounded: tanh(h) to the nearest of L levels 2 i / (L - 1) - 1."""

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.levels = levels

    def outputs(self, channels: int) -> int:
        return channels

    def encode(self, h: Tensor) -> tuple[Tensor, Tensor]:
        z = self._rounded(h.tanh())
        return z, torch.full_like(z, LOG_VARIANCE[0])

    def draw(self, h: Tensor, noise: Noise) -> Latent:
        bounded = h.tanh()
        z = bounded + (self._rounded(bounded) - bounded).detach()  # the gradient of bounded
        nats = torch.full_like(z[:, 0], math.log(math.prod(self.levels)))
        return Latent(z=z, nats=nats, distance=torch.zeros_like(nats))

    def prior(self, normal: Tensor) -> Tensor:
        most = self._along(normal, [level - 1 for level in self.levels])
        uniform = torch.special.ndtr(normal.float()) * (most + 1)
        return self._of(torch.minimum(uniform.floor(), most), most).to(normal)

    def tokens(self, z: Tensor) -> Tensor:
        most = self._along(z, [level - 1 for level in self.levels])
        digits = ((z + 1) / 2 * most).round().long()
        return (digits * self._along(digits, self._radix)).sum(1)

    def embed(self, tokens: Tensor) -> Tensor:
        digits = tokens[:, None] // self._along(tokens[:, None], self._radix)
        digits = digits % self._along(digits, list(self.levels))
        return self._of(digits.float(), self._along(digits, [level - 1 for level in self.levels]))

    def _rounded(self, bounded: Tensor) -> Tensor:
        most = self._along(bounded, [level - 1 for level in self.levels])
        return self._of(((bounded + 1) / 2 * most).round(), most)

    @staticmethod
    def _of(digits: Tensor, most: Tensor) -> Tensor:
        return 2 * digits / most - 1

    @property
    def _radix(self) -> list[int]:
        """The value of a digit of each channel."""
        return [math.prod(self.levels[:i]) for i in range(len(self.levels))]

    @staticmethod
    def _along(like: Tensor, values: list[int]) -> Tensor:
        """A number for each channel, to be broadcast with (b, channels, *places)."""
        return torch.tensor(values, device=like.device).to(like.dtype).view(1, -1, *(1,) * (like.ndim - 2))


class Codebook(nn.Module):
    """The nearest vector of `vectors` (codes, channels)."""

    def __init__(self, config: VQ, channels: int) -> None:
        super().__init__()
        self.config = config
        self.vectors = nn.Parameter(WIDTH * (2 * torch.rand(config.codes, channels) - 1))

    def outputs(self, channels: int) -> int:
        return channels

    def encode(self, h: Tensor) -> tuple[Tensor, Tensor]:
        z = self.embed(self.tokens(h)).to(h)
        return z, torch.full_like(z, LOG_VARIANCE[0])

    def draw(self, h: Tensor, noise: Noise) -> Latent:
        """With a squared distance whose gradient moves the code to the latent, and the latent to the code."""
        flat = _flat(h)
        apart = self._squared_distances(flat)
        code = self.vectors[apart.argmin(1)].to(h)
        distance = (code - flat.detach()).square().mean(1)
        distance = distance + self.config.commitment * (code.detach() - flat).square().mean(1)
        nearest = apart.argmin(0)  # (codes,): the latent that is nearest to each code
        attracted = (self.vectors.to(h) - flat.detach()[nearest]).square().mean(1)
        share = (
            self.config.attraction * len(flat) / self.config.codes
        )  # so that the mean over places is that over codes
        distance = distance.index_add(0, nearest, share * attracted)
        z = h + (_unflat(code, h) - h).detach()
        nats = torch.full_like(h[:, 0], math.log(self.config.codes))
        return Latent(z=z, nats=nats, distance=distance.view_as(nats))

    def prior(self, normal: Tensor) -> Tensor:
        """Of the first number of each place."""
        tokens = (torch.special.ndtr(normal[:, 0].float()) * self.config.codes).long()
        return self.embed(tokens.clamp(max=self.config.codes - 1)).to(normal)

    def tokens(self, z: Tensor) -> Tensor:
        return self._squared_distances(_flat(z)).argmin(1).view_as(z[:, 0])

    def embed(self, tokens: Tensor) -> Tensor:
        return self.vectors[tokens].movedim(-1, 1)

    @torch.no_grad()
    def _squared_distances(self, flat: Tensor) -> Tensor:
        """Of latents (n, channels) from all codes, (n, codes)."""
        vectors = self.vectors.to(flat)
        with torch.autocast(flat.device.type, enabled=False):
            return flat.square().sum(1, keepdim=True) + vectors.square().sum(1) - 2 * flat @ vectors.T


def _flat(h: Tensor) -> Tensor:
    """(b, channels, *places) to (b places, channels)."""
    return h.movedim(1, -1).flatten(0, -2)


def _unflat(flat: Tensor, like: Tensor) -> Tensor:
    return flat.view(len(like), *like.shape[2:], -1).movedim(-1, 1)
