"""Which labels to trust: a threshold on the margin between the best two classes, by labelled examples that the run did not
see. "Self-training with Noisy Student improves ImageNet classification" (2019, arXiv:1911.04252) keeps confident labels
alike; here the share of errors among what is kept is stated."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

TEMPERATURES = torch.logspace(-1, 3, 81, dtype=torch.float64)


@dataclass(frozen=True, kw_only=True)
class Confidence:
    """What held-out examples say of the labels of a run.

    Args:
        threshold: least margin ln p(best | x) - ln p(second | x) of labels that are kept; infinite where none can be.
        temperature: by which ln p(c | x) is divided so that probabilities are calibrated.
        errors, kept, count: of the labelled held-out examples: wrong ones among those kept, those kept, and all.
    """

    threshold: float
    temperature: float
    errors: int
    kept: int
    count: int

    @classmethod
    def fit(cls, log_posterior: Tensor, labels: Tensor, error: float) -> "Confidence":
        """From ln p(c | x) (n, classes) of held-out examples and their labels (n,).

        The threshold is the lowest at which (errors + 1) / (kept + 1) <= `error`: one wrong label is added, so that few
        examples are not taken for a proof."""
        margin, right = margins(log_posterior), log_posterior.argmax(1) == labels
        order = margin.argsort(descending=True)
        wrong, kept = (~right[order]).long().cumsum(0), torch.arange(1, len(order) + 1)
        last = torch.ones(len(order), dtype=torch.bool)  # examples of equal margin are kept together
        if len(order) > 1:
            last[:-1] = margin[order][:-1] > margin[order][1:]
        fits = (last & ((wrong + 1) / (kept + 1) <= error)).nonzero()[:, 0]
        temperature = fitted_temperature(log_posterior, labels)
        if not len(fits):
            return cls(threshold=math.inf, temperature=temperature, errors=0, kept=0, count=len(labels))
        at = int(fits[-1])
        return cls(
            threshold=float(margin[order[at]]), temperature=temperature, errors=int(wrong[at]), kept=at + 1,
            count=len(labels),
        )  # fmt: skip

    def require(self, error: float) -> None:
        """Check that labels can be kept at all. Raises `ValueError` that says how many held-out labels that takes."""
        if math.isfinite(self.threshold):
            return
        least = math.ceil(1 / error) - 1
        why = (
            f"takes at least {least} of them that are right" if self.count < least else "the surest are wrong too often"
        )
        raise ValueError(
            f"no label can be kept at a share of errors of {error:g}: it is estimated on {self.count} labelled examples "
            f"that were not trained on, and {why}. Give a larger --error, or label more of the data; "
            "--by probe needs fewer labels"
        )

    def line(self, error: float) -> str:
        """The confidence in words."""
        return (
            f"labels are kept from a margin of {self.threshold:.3g} nats: of {self.count:,} labelled examples held out "
            f"{self.kept:,} are, {self.errors:,} of them wrong, so that about {error:.0%} of what is kept is wrong at most"
        )


def margins(log_posterior: Tensor) -> Tensor:
    """ln p(best | x) - ln p(second | x), (n,)."""
    best = log_posterior.topk(2, dim=1).values
    return best[:, 0] - best[:, 1]


def fitted_temperature(log_posterior: Tensor, labels: Tensor) -> float:
    """The temperature at which the labels are likeliest ("On Calibration of Modern Neural Networks", 2017,
    arXiv:1706.04599)."""
    at = torch.arange(len(labels))
    cost = [-(log_posterior / t).log_softmax(1)[at, labels].mean() for t in TEMPERATURES]
    return float(TEMPERATURES[int(torch.stack(cost).argmin())])
