"""Weighted particles: sequential Monte Carlo over the steps from noise to data.

n particles of one problem move by a proposal q(x_s | x_t), and are weighted by

    log w += log p(x_s | x_t) - log q(x_s | x_t) + g_s(x_s) - g_t(x_t)

with p the model's own step, and g_t(x_t) a guess of the log-likelihood that x_t leads to; only g_0 = log l(x_0), the true
one, enters the result. Where the effective number of particles has fallen, they are drawn anew in proportion to their
weights. The weighted particles are samples of p(x_0) l(x_0), and the product of the mean weights is an unbiased estimate of
its integral, the evidence, for any number of particles ("Practical and Asymptotically Exact Conditional Sampling in
Diffusion Models", 2023, arXiv:2306.17775; "A General Framework for Inference-time Scaling and Steering of Diffusion
Models", 2025, arXiv:2501.06848).
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from langevin.diffusion.noise import Noise


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Log-weights of n particles of each of g problems.

    Args:
        log: (g, n) float64, up to a constant per problem.
        log_evidence: (g,) float64, of what was gathered before the last resampling.
    """

    log: Tensor
    log_evidence: Tensor

    @classmethod
    def equal(cls, problems: int, particles: int) -> "Weights":
        """Particles that have not been weighted yet."""
        zero = torch.zeros(problems, particles, dtype=torch.float64)
        return cls(log=zero, log_evidence=zero[:, 0].clone())

    @property
    def effective(self) -> Tensor:
        """(g,) the effective number of particles, (sum w)^2 / sum w^2, from 1 to n."""
        return torch.exp(2 * self.log.logsumexp(1) - (2 * self.log).logsumexp(1))

    @property
    def total(self) -> Tensor:
        """(g,) the estimate of the log-evidence so far."""
        return self.log_evidence + self.log.logsumexp(1) - torch.log(torch.tensor(float(self.log.shape[1])))

    def times(self, log_ratio: Tensor) -> "Weights":
        """The weights times exp(log_ratio), (g, n); a particle of ratio 0 or of no number has weight 0."""
        log = self.log + torch.where(log_ratio.isnan(), -torch.inf, log_ratio.double())
        gone = ~(log > -torch.inf).any(1, keepdim=True)
        return replace(self, log=torch.where(gone, self.log, log))

    def resampled(self, noise: Noise, below: float) -> tuple["Weights", Tensor]:
        """The weights after resampling, and (g, n) int64 which particle each one now is.

        Args:
            noise: of the g problems.
            below: resample where the effective number is less than this share of n.
        """
        g, n = self.log.shape
        mass = self.log.softmax(1).cumsum(1)
        u = (torch.arange(n) + noise.uniform(torch.empty(g, 1)).cpu()) / n  # systematic: one draw a problem
        chosen = torch.searchsorted(mass, u * mass[:, -1:], right=True).clamp_max(n - 1)
        poor = self.effective < below * n
        index = torch.where(poor[:, None], chosen, torch.arange(n).expand(g, -1))
        log = torch.where(poor[:, None], 0.0, self.log)
        return Weights(log=log, log_evidence=torch.where(poor, self.total, self.log_evidence)), index
