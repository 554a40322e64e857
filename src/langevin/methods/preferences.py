"""Training a denoiser on pairs of samples of which one is preferred, w over l, beside a reference (DPO):

    -ln sigmoid(leash (ln p_theta(x_w) / p_ref(x_w) - ln p_theta(x_l) / p_ref(x_l)))

"Diffusion Model Alignment Using Direct Preference Optimization" (2023, arXiv 2311.12908). If w is preferred with the
probability sigmoid(r(x_w) - r(x_l)), the loss is least at p_ref exp(r / leash), normalised, which is also best for the
expectation of r less leash times KL(p || p_ref). A pair that is ranked for certain has no such r: the loss falls without
end, and what holds the weights are the length of the training and the pairs that contradict each other.

The log-ratio is estimated (`log_ratio.py`) at the same levels and noise for both of a pair. It is within the sigmoid, so
its noise holds the weights back, as in `likelihood_ratio.py`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from langevin.diffusion.batch import Batch, StepRandomness
from langevin.diffusion.denoiser import GaussianDenoiser
from langevin.methods.log_ratio import LogRatio
from langevin.methods.method import Player, Report


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """Pairs of samples, (b, ...) each, x of a batch: `better` is preferred over `worse`."""

    better: Tensor
    worse: Tensor

    def select(self, index: Tensor) -> "Pairs":
        """Some of the pairs."""
        return Pairs(better=self.better[index], worse=self.worse[index])


class Preferences:
    """A denoiser that is trained on preferences: one player, `denoiser`.

    It is no `method` of a recipe, as its reference is a run that is trained already (`run.reward`).

    Args:
        ratio: to the reference.
        network: the module whose weights are trained, without dropout.
        leash: see the module, positive.
        non_hidden: see `Player`.

    Raises:
        ValueError: a leash that is not positive and finite.
    """

    def __init__(
        self, *, ratio: LogRatio, network: nn.Module, leash: float, non_hidden: tuple[str, ...] = ()
    ) -> None:  # fmt: skip
        if not 0 < leash < math.inf:
            raise ValueError(f"the leash of preferences is positive and finite, got {leash}")
        self.ratio, self.leash = ratio, leash
        player = Player(module=nn.ModuleDict({"network": network}), non_hidden=non_hidden)
        self.players: Mapping[str, Player] = {"denoiser": player}

    def loss(self, player: str, batch: Batch, draw: StepRandomness) -> Report:
        """The losses of `Pairs`, ln 2 each at equal weights; see `Method.loss`."""
        if player not in self.players:
            raise KeyError(player)
        pairs: Pairs = batch.x
        better, worse = (
            self.ratio(Batch(x=x, condition=batch.condition), batch.condition, draw.u, draw.corruption)
            for x in (pairs.better, pairs.worse)
        )
        loss = F.softplus(-self.leash * (better - worse))
        terms = {"better": better.detach(), "worse": worse.detach()}
        return Report(loss=loss, plain=loss.detach(), terms=terms)

    def generator(self) -> GaussianDenoiser:
        """The trained denoiser."""
        return self.ratio.denoiser
