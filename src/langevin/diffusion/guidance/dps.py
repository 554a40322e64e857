"""Diffusion posterior sampling: a gradient step on |y - h(D(x_t))| ("Diffusion Posterior Sampling for General Noisy Inverse
Problems", 2022, arXiv:2209.14687). The measurement need not be linear.

The paper adds -zeta grad |y - h(D)| to each of the 1,000 steps of its schedule (beta from 1e-4 to 0.02). A step of length
dl in lambda = ln(alpha / sigma) moves x_t by 2 dl alpha D, so the same force per length is, on any grid and schedule,

    D_y = D - zeta / (2 alpha' dl') grad |y - h(D)|,   per unit x' = x_t / sqrt(alpha^2 + sigma^2), alpha' = alpha /
    sqrt(...),

with dl' the length of the paper's step at this noise level. The noise of the measurement does not enter, and the spread of
the results is not that of the posterior.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.guidance.measured import Linearised, Measured
from langevin.diffusion.guidance.method import Models, require_gaussian, require_usual
from langevin.diffusion.measurement import Measurement
from langevin.diffusion.measurement.operator import dot
from langevin.diffusion.posterior import Prediction

FIRST, LAST, STEPS = 1e-4, 0.02, 1000  # the paper's beta


@dataclass(frozen=True, kw_only=True)
class DPS:
    """Guidance by any measurement, see the module; it needs about as many steps as the paper's 1,000.

    Args:
        weight: zeta; 1 is usual, 0 no guidance.
        interval: guide where low < sigma / alpha <= high; None is everywhere.

    Raises:
        ValueError: a weight that is not finite, or an empty interval.
    """

    kind: Literal["dps"] = "dps"
    weight: float = 1.0
    interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        require_usual(self.weight, self.interval)

    @property
    def neutral(self) -> float:
        return 0.0

    def wrap(self, denoiser: Denoiser[Prediction], *, process: Any, models: Models) -> Measured:
        """See `Guidance.wrap`; needs a Gaussian process."""
        process = require_gaussian(process, self.kind)
        return Measured(denoiser=denoiser, process=process, kind=self.kind, correction=self.correction, linear=False)

    @staticmethod
    def correction(at: Linearised, measurement: Measurement) -> Tensor:
        """D_y - D for zeta = 1."""
        with torch.enable_grad():
            mean = at.mean.requires_grad_()
            residual = measurement.residual(mean)
            distance = (dot(residual, residual) + 1e-20).sqrt()
            slope = torch.autograd.grad(distance.sum(), mean)[0]
        size2 = at.alpha.square() + at.sigma.square()
        force = size2 / (2 * at.alpha.clamp_min(1e-30) * paper_step(2 * (at.alpha / at.sigma).log()))
        return -at.over(torch.where(at.alpha < 1e-3 * at.sigma, 0.0, force)) * at.back(slope)


def paper_step(log_snr: Tensor) -> Tensor:
    """The length in lambda of the paper's step at a log-SNR, float64: beta / (2 (1 - alpha^2))."""
    slope = (LAST - FIRST) / (STEPS - 1)
    spent = (-F.logsigmoid(log_snr)).clamp_min(FIRST)  # -ln alpha^2, the sum of beta so far
    beta = (FIRST * FIRST + 2 * slope * spent).sqrt().clamp_max(LAST)
    return beta / (2 * -torch.expm1(-spent))
