"""Training a generator G against a discriminator D that compares a generated example with a real one:

    D: softplus(D(y) - D(x)) + gamma / 2 (|grad D(x)|^2 + |grad D(y)|^2),      G: softplus(D(x) - D(y)),      y = G(noise)

"The GAN is dead; long live the GAN! A Modern Baseline GAN" (2025, arXiv 2501.05441). With both penalties training converges
near its end, where D is constant and both losses are ln 2. The generator is a denoiser that is asked once, at t = 1, where
its input is noise. The discriminator has an architecture of the same kind; its output is the sum of that network's outputs
over the root of their number. With `times` it sees both examples with noise of random times, which it is told
("Diffusion-GAN: Training GANs with Diffusion", 2022, arXiv 2206.02262): then it cannot tell them apart by heart.

A discriminator wins when it is certain, D(y) - D(x) far below 0, and flat where the examples are. The penalties do not
prevent it: they hold at the examples alone, and D may fall in between. The generator then gets no gradient, and D none but
of the penalties. It is seen in each pair: by the slope at y all along the way to x, |grad D(y)| |y - x|, D would not rise
by a part of the gap. A linear D would by all of it. Such a run is rolled back, and then the discriminator sees noise.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from langevin.diffusion.batch import Batch, StepRandomness
from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import GaussianDenoiser
from langevin.diffusion.float64 import float64_device
from langevin.diffusion.objective import LogNormal, TimeDensity
from langevin.diffusion.process import Gaussian
from langevin.diffusion.shape import append_dims
from langevin.methods.method import Player, Report
from langevin.methods.spectral import generated
from langevin.networks.fused import twice_differentiable

GAMMA = 1.0  # the usual weight of the penalties
CERTAIN = 4.0  # a gap of scores that leaves the discriminator's loss at 0.018, of ln 2
FLAT = 0.25  # part of the gap that the slope at a generated example explains
FAULT = (
    "the discriminator has won: it is certain of nearly all examples and flat around them, so the generator does not learn "
    "(the discriminator sees noise after a rollback; method.times sets how much)"
)


class Adversarial:
    """A generative adversarial network: the players `denoiser`, which is the generator, and `discriminator`.

    Args:
        process: whose prior is the generator's input.
        denoiser: the trained generator, with prediction "clean"; it holds `network`.
        network: the module whose weights the generator trains.
        discriminator: reads examples at a time; it holds `discriminator_network`.
        discriminator_network: the module whose weights the discriminator trains.
        gamma: weight of the penalties.
        times: density of the times of what the discriminator sees; None is t = 0, and after a rollback noise that is about
            twice as large as the data.
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
        one_step: ClassVar[bool] = True
        ranked_by_loss: ClassVar[bool] = False
        gamma: float = GAMMA
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
        discriminator_network: nn.Module,
        gamma: float,
        times: TimeDensity | None = None,
        non_hidden: tuple[str, ...] = (),
        generator: GaussianDenoiser | None = None,
    ) -> None:
        self.process, self.denoiser, self.discriminator = process, denoiser, discriminator
        self.gamma, self.times = gamma, times
        self.players: Mapping[str, Player] = {
            "denoiser": Player(module=nn.ModuleDict({"network": network}), non_hidden=non_hidden),
            "discriminator": Player(
                module=nn.ModuleDict({"network": discriminator_network}),
                non_hidden=non_hidden,
                ema=False,
                pretrained=False,
            ),
        }
        self._generator = generator or denoiser

    def loss(self, player: str, batch: Batch, draw: StepRandomness) -> Report:
        """The losses of a batch's samples; see `Method.loss`."""
        if player not in self.players:
            raise KeyError(player)
        with torch.set_grad_enabled(player == "denoiser" and torch.is_grad_enabled()):
            fake = generated(self.denoiser, self.process, batch, draw.noise.fork(2))
        if batch.known is not None:  # what is given tells nothing
            fake = torch.where(batch.known, batch.x, fake)
        if player == "denoiser":
            with torch.no_grad():
                real_score = self.score(batch.x, batch, draw)
            margin = self.score(fake, batch, draw) - real_score
            loss = relativistic(margin)
            return Report(loss=loss, plain=loss.detach(), terms={"margin": margin.detach()})
        real_score, r1 = self.penalised_score(batch.x, batch, draw)
        fake_score, r2 = self.penalised_score(fake, batch, draw)
        plain, penalty = relativistic(real_score - fake_score), r1 + r2
        lost = self._lost(fake_score - real_score, r2, fake, batch, draw)
        return Report(
            loss=plain + 0.5 * self.gamma * penalty, plain=plain.detach(), faults={FAULT: lost},
            terms={"penalty": penalty.detach(), "lost": lost},
        )  # fmt: skip

    @torch.no_grad()
    def _lost(self, margin: Tensor, squared_slope: Tensor, fake: Tensor, batch: Batch, draw: StepRandomness) -> Tensor:
        """The pairs, (b,) 0 or 1, from which the generator learns nothing: certain, with no slope to follow."""
        apart = (self._noised(fake, draw)[0] - self._noised(batch.x, draw)[0]).flatten(1).norm(dim=1)
        return ((margin < -CERTAIN) & (squared_slope.sqrt() * apart < FLAT * margin.abs())).to(margin)

    def score(self, x: Tensor, batch: Batch, draw: StepRandomness) -> Tensor:
        """How real each example of x, shaped like `batch.x`, is to the discriminator, (b,)."""
        return self._scored(*self._noised(x, draw), batch)

    def penalised_score(self, x: Tensor, batch: Batch, draw: StepRandomness) -> tuple[Tensor, Tensor]:
        """The score, and the squared norm of its gradient with respect to what the discriminator sees, (b,) each."""
        seen, t = self._noised(x, draw)
        return with_squared_slope(lambda x_t: self._scored(x_t, t, batch), seen)

    def _scored(self, x_t: Tensor, t: Tensor, batch: Batch) -> Tensor:
        return scored(self.discriminator, x_t, t, batch.condition, batch.counted())

    def _noised(self, x: Tensor, draw: StepRandomness) -> tuple[Tensor, Tensor]:
        """What the discriminator sees of x, and the time of it (b,); the same noise for all that is compared."""
        times = self.times
        if times is None and draw.restarts:
            times = LogNormal(mean=math.log(2 * self.process.sigma_data))
        if times is None:
            return x, torch.zeros(len(x), dtype=torch.float64, device=float64_device(x.device))
        t = times(draw.u, self.process.schedule).to(float64_device(x.device))
        return self.process.corrupt(x, t, draw.noise.fork(3)), t

    def generator(self) -> GaussianDenoiser:
        """The denoiser that is asked at t = 1."""
        return self._generator


def scored(
    discriminator: GaussianDenoiser, x_t: Tensor, t: Tensor, condition: Condition | None, counted: Tensor | None
) -> Tensor:
    """The sum of a discriminator's outputs over the root of their number, (b,): how real each of x_t (b, ...) is to it.

    Args:
        counted: the positions that count, bool, of the first dimensions of x_t; None: all."""
    out = discriminator(x_t, t, condition).mean
    if counted is None:
        return out.flatten(1).sum(1) / math.sqrt(out[0].numel())
    inside = append_dims(counted.to(out.device), out) if counted.ndim < out.ndim else counted.to(out.device)
    inside = inside.expand_as(out)
    return torch.where(inside, out, 0).flatten(1).sum(1) / inside.flatten(1).sum(1).clamp_min(1).sqrt()


def relativistic(margin: Tensor) -> Tensor:
    """softplus(-margin): the loss of a player, by how far the scores of what it stands for are above the other's."""
    return F.softplus(-margin)


def with_squared_slope(score: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """The scores (b, ...) of x (b, ...), and the squared norm of the gradient of their sum over their number, (b,)."""
    seen = x.detach().requires_grad_(True)
    with twice_differentiable():
        scores = score(seen)
        (gradient,) = torch.autograd.grad(scores.sum(), seen, create_graph=True)
    return scores, gradient.square().flatten(1).sum(1) / max(1, scores[0].numel())
