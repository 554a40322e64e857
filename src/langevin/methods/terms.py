"""Terms of the loss besides the error of x: what the data's modality derives from x, such as positions from rotations.

A term is the squared error of a function g of x, and the posterior mean D of x does not minimise E|g(D) - g(x)|^2 where g
is curved: with much noise, D is far from x. So terms are weighted by the SNR, alpha^2 s_d^2 / sigma^2, which leaves them
where D is near x and g is as good as linear.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.diffusion.batch import Batch
from langevin.diffusion.float64 import to_float64
from langevin.diffusion.objective import mean_per_sample
from langevin.diffusion.posterior import Point, Posterior
from langevin.diffusion.process import Gaussian

FrameErrors = Callable[[Tensor, Tensor], Mapping[str, Tensor]]  # (D, x) -> squared errors (b, frames) by name


@dataclass(frozen=True, kw_only=True)
class LossTerms:
    """The terms (b,) of a batch by name, to be added to its loss.

    Args:
        errors: of D and x (b, channels, frames, ...).
        process: the Gaussian process.
        weight: of all terms.
    """

    errors: FrameErrors
    process: Gaussian
    weight: float

    def __call__(self, q: Posterior, batch: Batch, t: Tensor) -> dict[str, Tensor]:
        """The terms of predictions q at times t, (b,) or (b, 1, frames); frames at t = 0, and padding, do not count."""
        assert isinstance(q, Point), "a Gaussian process has a mean"
        x: Tensor = batch.x
        b, frames = len(x), x.shape[2]
        log_snr = self.process.schedule.log_snr(to_float64(t)).clamp(-40, 40)
        snr = (log_snr.exp() * self.process.sigma_data**2).reshape(b, -1).expand(b, frames)
        counted = (to_float64(t) > 0).reshape(b, -1).expand(b, frames).to(x.device)
        mask = batch.counted()
        if mask is not None:
            counted = counted & mask.expand(b, mask.shape[1], *x.shape[2:]).any(1).reshape(b, frames, -1).any(2)
        return {
            name: self.weight * mean_per_sample(snr.to(error) * error, counted)
            for name, error in self.errors(q.mean, x).items()
        }


def require_weight(weight: float) -> None:
    """Check a weight of terms. Raises `ValueError`."""
    if not 0 <= weight < torch.inf:
        raise ValueError(f"method.terms is a weight, at least 0 and finite, got {weight}")
