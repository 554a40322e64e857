"""A linear classifier of features, and clusters of them: how much of the classes they hold."""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

PENALTIES = (0.3, 0.03, 0.003, 0.0003)  # of the squared weights, per example; the best by cross-validation is taken
FOLDS = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearClassifier:
    """ln p(c | features) by multinomial logistic regression on standardised features.

    Args:
        mean, scale: (features,) float64.
        weight: (features + 1, classes) float64, the last row a bias.
        penalty: on the squared weights, per example.
    """

    mean: Tensor
    scale: Tensor
    weight: Tensor
    penalty: float

    @classmethod
    def fit(cls, features: Tensor, labels: Tensor, classes: int) -> Self:
        """Fitted to features (n, d) and labels (n,); the penalty is chosen by cross-validation.

        Raises:
            ValueError: the labels are of fewer than two classes."""
        if len(labels.unique()) < 2:
            raise ValueError(f"a probe needs labelled examples of two classes, and there are {len(labels.unique())}")
        at = torch.arange(len(labels))

        def cost(penalty: float) -> float:
            return -float(cls.cross_validated(features, labels, classes, penalty)[at, labels].mean())

        return cls.with_penalty(features, labels, classes, min(PENALTIES, key=cost))

    @classmethod
    def cross_validated(cls, features: Tensor, labels: Tensor, classes: int, penalty: float) -> Tensor:
        """ln p(c | features) (n, classes) of each example by a classifier that was fitted to others: to four in five."""
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        found = torch.full((len(labels), classes), -math.log(classes), dtype=torch.float64)
        for i in range(min(FOLDS, len(order))):
            fold = order[i::FOLDS]
            rest = order[~torch.isin(order, fold)]
            if len(rest):
                found[fold] = cls.with_penalty(features[rest], labels[rest], classes, penalty).log_posterior(
                    features[fold]
                )
        return found

    @classmethod
    def with_penalty(cls, features: Tensor, labels: Tensor, classes: int, penalty: float) -> Self:
        """Fitted with a penalty on the squared weights, by L-BFGS."""
        features = features.double()
        mean, scale = features.mean(0), features.std(0, correction=0).clamp_min(1e-6)
        x = torch.cat([(features - mean) / scale, features.new_ones(len(features), 1)], 1)
        with torch.enable_grad():
            weight = x.new_zeros(x.shape[1], classes).requires_grad_()
            solver = torch.optim.LBFGS([weight], max_iter=100, line_search_fn="strong_wolfe")

            def loss() -> Tensor:
                solver.zero_grad()
                value = torch.nn.functional.cross_entropy(x @ weight, labels) + penalty * weight[:-1].square().sum()
                value.backward()  # pyright: ignore[reportUnknownMemberType]
                return value

            solver.step(loss)  # pyright: ignore[reportUnknownMemberType, reportArgumentType]
        return cls(mean=mean, scale=scale, weight=weight.detach(), penalty=penalty)

    def log_posterior(self, features: Tensor) -> Tensor:
        """(n, classes) float64."""
        x = (features.double() - self.mean) / self.scale
        return (x @ self.weight[:-1] + self.weight[-1]).log_softmax(1)


def clusters(features: Tensor, count: int, *, seed: int = 0, starts: int = 5, turns: int = 50) -> Tensor:
    """The cluster of each example (n,) int64, by k-means on standardised features (n, d): the best of some starts."""
    x = features.double()
    x = (x - x.mean(0)) / x.std(0, correction=0).clamp_min(1e-6)
    generator, best = torch.Generator().manual_seed(seed), (math.inf, torch.zeros(len(x), dtype=torch.int64))
    for _ in range(starts):
        centres = x[torch.randint(len(x), (1,), generator=generator)]
        while len(centres) < min(count, len(x)):  # k-means++
            near = torch.cdist(x, centres).square().amin(1)
            weights = near if float(near.sum()) > 0 else torch.ones_like(near)
            centres = torch.cat([centres, x[torch.multinomial(weights, 1, generator=generator)]])
        for _ in range(turns):
            own = torch.cdist(x, centres).argmin(1)
            moved = torch.stack([x[own == k].mean(0) if bool((own == k).any()) else c for k, c in enumerate(centres)])
            if torch.equal(moved, centres):
                break
            centres = moved
        distance, own = torch.cdist(x, centres).min(1)
        best = min(best, (float(distance.square().sum()), own), key=lambda found: found[0])
    return best[1]


def mutual_information(a: Tensor, b: Tensor) -> float:
    """The mutual information of two labellings (n,), divided by the mean of their entropies: 1 where they agree up to
    names, 0 where they are independent, or where there is nothing to know."""
    joint = torch.zeros(int(a.max()) + 1, int(b.max()) + 1, dtype=torch.float64)
    joint.index_put_((a, b), torch.ones(len(a), dtype=torch.float64), accumulate=True)
    joint /= joint.sum()
    first, second = (torch.special.entr(joint.sum(dim)).sum() for dim in (1, 0))
    information = first + second - torch.special.entr(joint).sum()
    mean = float(first + second) / 2
    return float(information) / mean if mean > 0 else 0.0
