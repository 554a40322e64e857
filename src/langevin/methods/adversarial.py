"""Training a generator G against a discriminator D that compares a generated example with a real one:

    D: softplus(D(y) - D(x)) + gamma / 2 (|grad D(x)|^2 + |grad D(y)|^2),      G: softplus(D(x) - D(y)),      y = G(noise)

"The GAN is dead; long live the GAN! A Modern Baseline GAN" (2025, arXiv 2501.05441). With both penalties training converges
near its end, where D is constant and both losses are ln 2. The generator is a denoiser that is asked once, at t = 1, where
its input is noise. The discriminator has an architecture of the same kind; its output is the sum of that network's outputs
over the root of their number. With `times` it sees both examples with noise of random times, which it is told
("Diffusion-GAN: Training GANs with Diffusion", 2022, arXiv 2206.02262): then it cannot tell them apart by heart.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from langevin.diffusion.batch import Batch, StepRandomness
from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import GaussianDenoiser
from langevin.diffusion.float64 import float64_device
from langevin.diffusion.objective import TimeDensity
from langevin.diffusion.process import Gaussian
from langevin.methods.method import Player, Report
from langevin.methods.spectral import generated


class Adversarial:
    """A generative adversarial network: the players `denoiser`, which is the generator, and `discriminator`.

    Args:
        process: whose prior is the generator's input.
        denoiser: the trained generator, with prediction "clean"; it holds `network`.
        network: the module whose weights the generator trains.
        discriminator: reads examples at a time; it holds `judging`.
        judging: the module whose weights the discriminator trains.
        gamma: weight of the penalties.
        times: density of the times of what the discriminator sees; None is t = 0.
        non_hidden: see `Player`; of both.
        generator: the denoiser that is sampled from, if not `denoiser`.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The penalty, and the noise that the discriminator sees.

        Args:
            gamma: weight of the squared gradients of the discriminator.
            times: density of the times of what the discriminator sees; left out, it sees examples without noise.
        """

        kind: Literal["adversarial"] = "adversarial"
        one_call: ClassVar[bool] = True
        gamma: float = 1.0
        times: TimeDensity | None = None

        def __post_init__(self) -> None:
            if not 0 <= self.gamma < math.inf:
                raise ValueError(f"method.gamma is at least 0 and finite, got {self.gamma}")

    def __init__(
        self,
        *,
        process: Gaussian,
        denoiser: GaussianDenoiser,
        network: nn.Module,
        discriminator: GaussianDenoiser,
        judging: nn.Module,
        gamma: float,
        times: TimeDensity | None = None,
        non_hidden: tuple[str, ...] = (),
        generator: GaussianDenoiser | None = None,
    ) -> None:
        self.process, self.denoiser, self.discriminator = process, denoiser, discriminator
        self.gamma, self.times = gamma, times
        self.players: Mapping[str, Player] = {
            "denoiser": Player(module=nn.ModuleDict({"network": network}), non_hidden=non_hidden),
            "discriminator": Player(module=nn.ModuleDict({"network": judging}), non_hidden=non_hidden, ema=False),
        }
        self._generator = generator or denoiser

    def loss(self, player: str, batch: Batch, draw: StepRandomness) -> Report:
        """The losses of a batch's samples; see `Method.loss`."""
        made = generated(self.denoiser, self.process, batch, draw.noise.fork(2))
        if player == "denoiser":
            with torch.no_grad():
                real = self.score(batch.x, batch.condition, draw)
            margin = self.score(made, batch.condition, draw) - real
            loss = F.softplus(-margin)
            return Report(loss=loss, plain=loss.detach(), terms={"margin": margin.detach()})
        if player != "discriminator":
            raise KeyError(player)
        real, slope = self.score_with_slope(batch.x, batch.condition, draw)
        fake, slope_of_made = self.score_with_slope(made.detach(), batch.condition, draw)
        plain, penalty = F.softplus(fake - real), slope + slope_of_made
        terms = {"penalty": penalty.detach()}
        return Report(loss=plain + 0.5 * self.gamma * penalty, plain=plain.detach(), terms=terms)

    def score(self, x: Tensor, condition: Condition | None, draw: StepRandomness) -> Tensor:
        """How real each example of x (b, ...) is to the discriminator, (b,)."""
        return self._judged(*self._noised(x, draw), condition)

    def score_with_slope(self, x: Tensor, condition: Condition | None, draw: StepRandomness) -> tuple[Tensor, Tensor]:
        """The score, and the squared norm of its gradient with respect to what the discriminator sees, (b,) each."""
        seen, t = self._noised(x, draw)
        seen = seen.detach().requires_grad_(True)
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels of attention have no second derivative
            score = self._judged(seen, t, condition)
            (slope,) = torch.autograd.grad(score.sum(), seen, create_graph=True)
        return score, slope.square().flatten(1).sum(1)

    def _judged(self, x_t: Tensor, t: Tensor, condition: Condition | None) -> Tensor:
        out = self.discriminator(x_t, t, condition).mean.flatten(1)
        return out.sum(1) / math.sqrt(out.shape[1])

    def _noised(self, x: Tensor, draw: StepRandomness) -> tuple[Tensor, Tensor]:
        """What the discriminator sees of x, and the time of it (b,); the same noise for all that is compared."""
        if self.times is None:
            return x, torch.zeros(len(x), dtype=torch.float64, device=float64_device(x.device))
        t = self.times(draw.u, self.process.schedule).to(float64_device(x.device))
        return self.process.corrupt(x, t, draw.noise.fork(3)), t

    def generator(self) -> GaussianDenoiser:
        """The denoiser that is asked at t = 1."""
        return self._generator
