"""The quality of a token: the probability that a visible token is that of x, given the others.

Sampling reveals many tokens at once, and a wrong one stays. A second head of the network is trained to find them
("Fine-Tuning Masked Diffusion for Provable Self-Correction", 2025, arXiv 2510.01384): some of the masked positions of x_t
are drawn from the model, which gives y, and the head tells from y which of them are the tokens of x. The cross-entropy of
this choice is least at p(x_i = y_i | y).
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from langevin.diffusion.batch import Batch
from langevin.diffusion.condition import Condition
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.noise import Noise
from langevin.diffusion.objective import mean_per_sample
from langevin.diffusion.posterior import MaskedCategorical
from langevin.diffusion.process import Masked


@dataclass(frozen=True, kw_only=True)
class QualityLoss:
    """The loss (b,) of the quality of drawn tokens, in nats a token.

    Args:
        denoiser: whose predictions have a quality.
        process: the masked process.
        weight: of the loss.
    """

    denoiser: Denoiser[Any]
    process: Masked
    weight: float

    def __call__(
        self, q: MaskedCategorical, batch: Batch, x_t: Tensor, t: Tensor, condition: Condition | None, noise: Noise
    ) -> Tensor:
        """Of a batch whose x_t (b, positions), at times t (b,), has the prediction q."""
        share = noise.fork(1).uniform(t[:, None]).to(t.device)  # of the masked positions that are drawn
        drawn = q.open & (noise.fork(2).uniform(x_t) < share.to("cpu")).to(x_t.device)
        with torch.no_grad():
            y = torch.where(drawn, q.draw(noise.fork(3), drawn), x_t)
        time = self.process.time(self.process.mask_probability(t) * (1 - share[:, 0]))
        quality = self.denoiser(y, time, condition).quality
        assert quality is not None, "the network has a quality head"
        nats = F.binary_cross_entropy_with_logits(quality, (y == batch.x).to(quality), reduction="none")
        return self.weight * mean_per_sample(nats, drawn)
