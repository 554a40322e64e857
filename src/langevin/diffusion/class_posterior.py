"""The posterior of a class by the errors of a denoiser that is given each class in turn.

The variational bound of ln p(x | c) is, up to terms that all classes share,

    -int_{l_1}^{l_0} SNR / 2 E |x - D(x_t, c)|^2 dl      of continuous data: the error of the noise, uniform in log-SNR l
    -int_0^1 -alpha' / (1 - alpha) E cross-entropy dt    of masked tokens, and the like of other discrete processes

and with Bayes' rule it gives p(c | x). With an exact denoiser and all noise levels the bound is tight, so that this is the
posterior of the data's own distribution. All classes see the same noises at the same times, so what is compared are paired
differences, in which most of the variance cancels. A class is dropped once its difference to the best is large beside its
standard error. "Your Diffusion Model is Secretly a Zero-Shot Classifier" (2023, arXiv:2303.16203).
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.float64 import to_float64
from langevin.diffusion.process import Bounded, Gaussian, Process
from langevin.diffusion.shape import append_dims

NEVER = 1e-3  # a class of less probability than this beside the best is dropped


@dataclass(frozen=True, kw_only=True)
class NoiseLevels:
    """The noise levels at which errors are compared.

    Args:
        low, high: of ln(SNR sigma_data^2), for a Gaussian process: from e^(-low / 2) to e^(-high / 2) standard deviations
            of the data. Other processes use all times.

    Raises:
        ValueError: low is not below high, or they are not within 80 of 0.
    """

    low: float = -5.0
    high: float = 5.0

    def __post_init__(self) -> None:
        if not -80 <= self.low < self.high <= 80:
            raise ValueError(f"noise levels rise from low to high, within 80 of 0, got {self.low} to {self.high}")

    def times(self, process: Process, u: Tensor) -> tuple[Tensor, Tensor]:
        """From uniforms u (n,) in (0, 1) to times (n,), the noisiest last, and one divided by their density, float64."""
        u = to_float64(u)
        if not isinstance(process, Gaussian):
            return u, torch.ones_like(u)
        schedule, shift = process.schedule, 2 * math.log(process.sigma_data)
        reach = float(schedule.log_snr(torch.ones(1, dtype=torch.float64))[0])
        low, high = max(self.low - shift, reach), self.high - shift
        if not low < high:
            raise ValueError(f"the noise levels end at log-SNR {high:.3g}, below the schedule's lowest, {reach:.3g}")
        t = schedule.time(high + u * (low - high))
        return t, (high - low) / schedule.rate(t).abs()


def nats(process: Bounded, q: Any, x: Tensor, x_t: Tensor, t: Tensor, mask: Tensor | None = None) -> Tensor:
    """The integrand of the bound, (b,) float64, summed over the elements of x where `mask` (of the first dimensions of x)
    holds.

    Args:
        process: it has a variational bound.
        q: the prediction at (x_t, t)."""
    terms: Tensor = process.bound(q, x, x_t, t).diffusion
    if mask is not None:
        terms = torch.where(append_dims(mask, terms).expand_as(terms), terms, 0)
    return terms.flatten(1).sum(1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """What is known of n samples: their errors under each class at each noise.

    Args:
        values: (n, classes, draws) float64, in nats: estimates of the bound by one draw each; NaN where it was not made. A
            class lacks none, or all after some draw.
    """

    values: Tensor

    @classmethod
    def none(cls, count: int, classes: int) -> "Evidence":
        """Of samples that were not looked at."""
        return cls(values=torch.zeros(count, classes, 0, dtype=torch.float64))

    def and_then(self, further: Tensor) -> "Evidence":
        """With further draws (n, classes, k), NaN where none was made."""
        return Evidence(values=torch.cat([self.values, further], 2))

    @property
    def evaluations(self) -> Tensor:
        """How often the denoiser was asked about each sample, (n,) int64."""
        return self.values.isfinite().flatten(1).sum(1)

    def differences(self) -> tuple[Tensor, Tensor]:
        """How many nats more than the best class each one costs, (n, classes), on the noises that both saw; and the
        standard errors."""
        made = ~self.values.isnan()
        counts = made.sum(2)
        means = torch.where(made, self.values, 0).sum(2) / counts
        means = means.masked_fill(counts < counts.amax(1, keepdim=True), math.inf)
        best = means.argmin(1)
        leader = self.values[torch.arange(len(best)), best][:, None]
        apart = torch.where(made, self.values - leader, 0)
        mean = apart.sum(2) / counts
        square = torch.where(made, (apart - mean[..., None]).square(), 0).sum(2) / (counts - 1).clamp_min(1)
        return mean, (square / counts).sqrt()

    def alive(self) -> Tensor:
        """The classes that may still be the best, (n, classes) bool."""
        if not self.values.shape[2]:
            return torch.ones(self.values.shape[:2], dtype=torch.bool)
        mean, error = self.differences()
        seen = ~self.values[:, :, -1].isnan()
        return seen & (mean - 3 * error < -math.log(NEVER))

    def log_posterior(self, prior: Tensor | None = None) -> Tensor:
        """ln p(c | x), (n, classes) float64.

        Args:
            prior: (classes,) probabilities; None is equal ones."""
        score = -self.differences()[0]
        return (score if prior is None else score + to_float64(prior).log()).log_softmax(1)

    def disagreement(self) -> Tensor:
        """How much noise levels disagree about the class, (n,) float64 in nats: the mutual information between the level
        and the class, if each draw alone decided by its errors at all levels. From 0 to ln(classes).

        "Bayesian Active Learning for Classification and Preference Learning" (2011, arXiv:1112.5745)."""
        votes = (-self.values.masked_fill(self.values.isnan(), math.inf)).softmax(1)  # (n, classes, draws)
        return (entropy(votes.mean(2)) - entropy(votes).mean(1)).clamp_min(0)


def entropy(p: Tensor) -> Tensor:
    """The entropy in nats over dimension 1."""
    return -torch.xlogy(p, p).sum(1)
