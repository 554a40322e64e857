"""Baselines of a likelihood: a Gaussian and a mixture of Gaussians with full covariances, fitted to dequantised data, and
independent places, each with the frequencies of its recorded levels.

A model of millions of weights that is no better than a covariance matrix has learned nothing else, so its figure stands
beside theirs. How many components, and how far each covariance is drawn towards a round one, is chosen on rows kept
from the fit.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

Law = TypeVar("Law")
LARGEST = 512  # dimensions up to which mixtures are fitted


@dataclass(frozen=True, kw_only=True)
class GaussianMixture:
    """sum_k w_k N(m_k, L_k L_k^T) over rows (d,), float64.

    Args:
        weights: (k,).
        means: (k, d).
        factors: (k, d, d), lower triangles.
    """

    weights: Tensor
    means: Tensor
    factors: Tensor

    def components(self, x: Tensor) -> Tensor:
        """ln w_k + ln N(x; m_k, S_k) of rows x (n, d), (n, k)."""
        parts = []
        for w, m, factor in zip(self.weights, self.means, self.factors, strict=True):
            z = torch.linalg.solve_triangular(factor, (x.double() - m).T, upper=False)
            constant = w.log() - factor.diagonal().log().sum() - 0.5 * len(m) * math.log(2 * math.pi)
            parts.append(constant - 0.5 * z.square().sum(0))
        return torch.stack(parts, 1)

    def log_density(self, x: Tensor) -> Tensor:
        """(n,) nats."""
        return self.components(x).logsumexp(1)


@dataclass(frozen=True, kw_only=True)
class IndependentLevels:
    """Each place its own law of the recorded levels: knows which levels there are, and nothing of how places depend.

    Args:
        log_p: (d, levels).
    """

    log_p: Tensor

    def log_probability(self, k: Tensor) -> Tensor:
        """Of rows k (n, d) int64, (n,) nats."""
        return self.log_p.gather(1, k.T).sum(0)


def fit_levels(k: Tensor, count: int) -> IndependentLevels:
    """Frequencies of rows k (n, d) int64 in 0..count - 1, with four rows' worth of all places' frequencies added, and to
    those half an observation of each level.

    Raises:
        ValueError: no rows, or levels outside."""
    if k.ndim != 2 or len(k) == 0 or int(k.min()) < 0 or int(k.max()) >= count:
        raise ValueError(f"frequencies need rows of levels in 0..{count - 1}, got shape {tuple(k.shape)}")
    places = torch.arange(k.shape[1])
    own = torch.bincount((k + places * count).flatten(), minlength=k.shape[1] * count).view(-1, count).double()
    common = (own.sum(0) + 0.5) / (own.sum() + 0.5 * count)
    return IndependentLevels(log_p=((own + 4 * common) / (len(k) + 4)).log())


def _factor(covariance: Tensor, shrink: float) -> Tensor:
    d = len(covariance)
    round_ = covariance.trace() / d * torch.eye(d, dtype=torch.float64)
    return torch.linalg.cholesky((1 - shrink) * covariance + (shrink + 1e-9) * round_)


def fit_gaussian(x: Tensor, *, shrink: float = 0.0) -> GaussianMixture:
    """Mean and covariance of rows (n, d), drawn by `shrink` towards the round covariance of the same size.

    Raises:
        ValueError: fewer than two rows."""
    return _gaussian(*_moments(_rows(x)), shrink)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    mean = x.mean(0)
    return mean, (x - mean).T @ (x - mean) / len(x)


def _gaussian(mean: Tensor, covariance: Tensor, shrink: float) -> GaussianMixture:
    factor = _factor(covariance, shrink)[None]
    return GaussianMixture(weights=torch.ones(1, dtype=torch.float64), means=mean[None], factors=factor)


def choose_gaussian(
    x: Tensor, *, shrinks: Sequence[float] = (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1)
) -> tuple[GaussianMixture, str]:
    """The Gaussian, and what was chosen in words: the best shrinkage on every fifth row, fitted again to all.

    Where most directions vary little, as in pictures, a thousandth of the mean variance is more than they have, and a
    baseline that was drawn towards the round that far would be no baseline."""
    x = _rows(x)
    kept = torch.arange(len(x)) % 5 == 0
    fit = x[~kept] if int((~kept).sum()) >= 2 else x
    mean, covariance = _moments(fit)
    scores = {s: float(_gaussian(mean, covariance, s).log_density(x[kept]).mean()) for s in shrinks}
    best = max(scores, key=lambda s: scores[s])
    return fit_gaussian(x, shrink=best), f"shrunken by {best:g}"


def fit_mixture(x: Tensor, components: int, *, shrink: float, seed: int = 0, rounds: int = 40) -> GaussianMixture:
    """Expectation maximisation from `components` rows drawn apart (k-means++), shrunken in every round.

    Raises:
        ValueError: fewer rows than twice the components."""
    x = _rows(x)
    if not 1 <= components <= len(x) // 2:
        raise ValueError(f"{len(x)} rows are too few for a mixture of {components}; fit at most {len(x) // 2}")
    generator = torch.Generator().manual_seed(seed)
    centres = x[torch.randint(len(x), (1,), generator=generator)]
    while len(centres) < components:
        far = torch.cdist(x, centres).amin(1).square()
        centres = torch.cat([centres, x[torch.multinomial(far.clamp_min(1e-12), 1, generator=generator)]])
    r = torch.nn.functional.one_hot(torch.cdist(x, centres).argmin(1), components).double()
    mixture = _maximise(x, r, shrink)
    for _ in range(rounds):
        mixture = _maximise(x, mixture.components(x).softmax(1), shrink)
    return mixture


def _maximise(x: Tensor, r: Tensor, shrink: float) -> GaussianMixture:
    whole = (x - x.mean(0)).T @ (x - x.mean(0)) / len(x)
    weight = r.sum(0) + 1e-6
    means, factors = [], []
    for k in range(r.shape[1]):
        mean = (r[:, k] @ x) / weight[k]
        z = x - mean
        # one row's worth of the whole data's covariance keeps an empty component alive
        covariance = ((z * r[:, k : k + 1]).T @ z + whole) / (weight[k] + 1)
        means.append(mean)
        factors.append(_factor(covariance, shrink))
    return GaussianMixture(weights=weight / weight.sum(), means=torch.stack(means), factors=torch.stack(factors))


def choose_mixture(
    x: Tensor, *, components: Sequence[int] = (5, 20, 50), shrinks: Sequence[float] = (0.003, 0.02, 0.1), seed: int = 0
) -> tuple[GaussianMixture, str]:
    """The mixture, and what was chosen in words: the best of all pairs on every fifth row, fitted again to all."""
    x = _rows(x)
    kept = torch.arange(len(x)) % 5 == 0
    tried = [k for k in components if 2 * k <= int((~kept).sum())] or [1]
    scores = {
        (k, s): float(fit_mixture(x[~kept], k, shrink=s, seed=seed, rounds=15).log_density(x[kept]).mean())
        for k in tried
        for s in shrinks
    }
    k, s = max(scores, key=lambda pair: scores[pair])
    return fit_mixture(x, k, shrink=s, seed=seed), f"{k} components, shrunken by {s:g}"


@dataclass(frozen=True, kw_only=True)
class ByClass(Generic[Law]):
    """A law of rows for each class: ln p(x | class), what a model that is told classes is to be held against.

    Args:
        laws: by class number.
    """

    laws: Mapping[int, Law]

    @classmethod
    def fit(cls, x: Tensor, labels: Tensor, fit: Callable[[Tensor], Law]) -> "ByClass[Law]":
        """`fit` on the rows (n, d) of each class, labels (n,) int64."""
        return cls(laws={c: fit(x[labels == c]) for c in labels.unique().tolist()})

    def each(self, x: Tensor, labels: Tensor, log: Callable[[Law, Tensor], Tensor]) -> Tensor:
        """`log` of each row (n, d) under the law of its own class, (n,).

        Raises:
            ValueError: a class that nothing was fitted to."""
        unknown = sorted(set(labels.tolist()) - set(self.laws))
        if unknown:
            raise ValueError(f"rows of class {unknown[0]} have no law: none were among those that laws were fitted to")
        found = torch.empty(len(x), dtype=torch.float64)
        for c, law in self.laws.items():
            mine = labels == c
            if bool(mine.any()):
                found[mine] = log(law, x[mine])
        return found


def _rows(x: Tensor) -> Tensor:
    x = x.double().flatten(1)
    if len(x) < 2 or not bool(torch.isfinite(x).all()):
        raise ValueError(f"a Gaussian is fitted to two or more rows of finite numbers, got {tuple(x.shape)}")
    return x
