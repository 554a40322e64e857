"""Training a denoiser to tell data from its own earlier samples, by its likelihood ratio to what it was, the reference:

    -E_data[ln d(x)] - E_fakes[ln(1 - d(y))],    d(x) = sigmoid(beta ln p_theta(x) / p_ref(x))

"Direct Discriminative Optimization: Your Likelihood-Based Visual Generative Model is Secretly a GAN Discriminator" (2025,
arXiv 2503.01103). d is best where it is p_data / (p_data + p_fakes), so with beta = 1 and fakes of p_ref the loss is least
at p_theta = p_data, however wrong p_ref is. The best p_theta is p_ref (p_data / p_fakes)^(1 / beta) for any fakes: if a
sampler draws others than its network describes, what it adds is taken off again.

The mean of the ratio over levels and noise (`log_ratio.py`) is within the sigmoid, so an estimate of it by few evaluations
is biased: with noise of variance V each term of the loss grows by about beta^2 d (1 - d) V / 2, which is least at the
reference. So few evaluations hold the optimum back, and the bias falls as their number. One evaluation leaves about a tenth
of the way from N(0, 1) to N(0.4, 0.5).
"""

import math
from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from langevin.diffusion.batch import Batch, StepRandomness
from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import GaussianDenoiser
from langevin.diffusion.noise import Noise
from langevin.diffusion.process import Gaussian
from langevin.methods.dropout import with_dropout
from langevin.methods.log_ratio import LogRatio
from langevin.methods.method import Player, Report


class LikelihoodRatio:
    """A denoiser that is refined by its likelihood ratio to a reference: one player, `denoiser`.

    It is no `method` of a recipe, as its reference and its fakes are of a run that is trained already (`run.refine`).

    Args:
        process: of both denoisers.
        denoiser: the trained denoiser; it holds `network`.
        network: the module whose weights are trained, without dropout.
        reference: the denoiser as it was, which is not trained.
        fakes: all samples that were drawn from the reference, with their conditions. Each step compares as many of them as
            of the data.
        log_snr: the lowest and the highest level of the integral.
        levels: of each example; each takes two evaluations of both denoisers.
        beta: of the ratio, see the module.
        condition_dropout: probability that a sample's condition is dropped.
        non_hidden: see `Player`.

    Raises:
        ValueError: an empty range of levels, none of an example, or a beta that is not positive and finite.
    """

    def __init__(
        self,
        *,
        process: Gaussian,
        denoiser: GaussianDenoiser,
        network: nn.Module,
        reference: GaussianDenoiser,
        fakes: Batch,
        log_snr: tuple[float, float],
        levels: int = 4,
        beta: float = 1.0,
        condition_dropout: float = 0.0,
        non_hidden: tuple[str, ...] = (),
    ) -> None:
        if not log_snr[0] < log_snr[1] or levels < 1 or not 0 < beta < math.inf:
            raise ValueError(
                "a likelihood ratio is over one or more levels from a lower to a higher log-SNR, with a positive beta, got "
                f"{levels}, {log_snr} and {beta}"
            )
        self.process, self.denoiser, self.network, self.reference = process, denoiser, network, reference
        self.fakes, self.log_snr, self.levels, self.beta = fakes, log_snr, levels, beta
        self.condition_dropout = condition_dropout
        self.players: Mapping[str, Player] = {
            "denoiser": Player(module=nn.ModuleDict({"network": network}), non_hidden=non_hidden)
        }

    def loss(self, player: str, batch: Batch, draw: StepRandomness) -> Report:
        """The losses of a batch's samples, each with a fake; see `Method.loss`."""
        if player not in self.players:
            raise KeyError(player)
        real = self.log_ratio(batch, self._dropped(batch, draw), draw.u, draw.corruption)
        fakes = self._fakes(len(real), draw)
        fake = self.log_ratio(fakes, self._dropped(fakes, draw), draw.u, draw.noise.fork(4))
        loss = F.softplus(-self.beta * real) + F.softplus(self.beta * fake)
        return Report(loss=loss, plain=loss.detach(), terms={"real": real.detach(), "fake": fake.detach()})

    def log_ratio(self, batch: Batch, condition: Condition | None, u: Tensor, noise: Noise) -> Tensor:
        """Estimates of ln p_theta(x) / p_ref(x), (b,) in nats; see `LogRatio`."""
        ratio = LogRatio(
            process=self.process, denoiser=self.denoiser, network=self.network, reference=self.reference,
            log_snr=self.log_snr, levels=self.levels,
        )  # fmt: skip
        return ratio(batch, condition, u, noise)

    def _fakes(self, count: int, draw: StepRandomness) -> Batch:
        """As many fakes as samples, chosen by the randomness of the step."""
        every: Any = self.fakes
        u = draw.noise.fork(3).uniform(every.x.new_empty(count, 1))[:, 0]
        index = (u * len(every.x)).long().to(every.x.device)
        return Batch(x=every.x[index], condition=None if every.condition is None else every.condition.select(index))

    def _dropped(self, batch: Batch, draw: StepRandomness) -> Condition | None:
        return with_dropout(batch.condition, batch.x, draw, self.condition_dropout)

    def generator(self) -> GaussianDenoiser:
        """The trained denoiser."""
        return self.denoiser
