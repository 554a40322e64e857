"""Baselines of a likelihood: a Gaussian and a mixture of Gaussians with full covariances, fitted to dequantised data, and
independent dimensions, each with the frequencies of its recorded levels.

They show what a model has learned beyond second moments. The number of components and the shrinkage of the covariances
towards a multiple of the identity are chosen on samples held out from the fit.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

Distribution = TypeVar("Distribution")
LARGEST = 512  # dimensions up to which mixtures are fitted


@dataclass(frozen=True, kw_only=True)
class GaussianMixture:
    """p(x) = sum_k w_k N(x; m_k, L_k L_k^T) over x (d,), float64.

    Args:
        weights: (k,).
        means: (k, d).
        factors: (k, d, d), lower triangular Cholesky factors L_k.
    """

    weights: Tensor
    means: Tensor
    factors: Tensor

    def components(self, x: Tensor) -> Tensor:
        """ln w_k + ln N(x; m_k, L_k L_k^T) of samples x (n, d): (n, k)."""
        parts = []
        for w, m, factor in zip(self.weights, self.means, self.factors, strict=True):
            z = torch.linalg.solve_triangular(factor, (x.double() - m).T, upper=False)
            constant = w.log() - factor.diagonal().log().sum() - 0.5 * len(m) * math.log(2 * math.pi)
            parts.append(constant - 0.5 * z.square().sum(0))
        return torch.stack(parts, 1)

    def log_density(self, x: Tensor) -> Tensor:
        """ln p(x) of samples x (n, d): (n,) nats."""
        return self.components(x).logsumexp(1)


@dataclass(frozen=True, kw_only=True)
class IndependentLevels:
    """Independent dimensions, each with its own distribution over the recorded levels.

    Args:
        log_p: (d, levels) log-probabilities.
    """

    log_p: Tensor

    def log_probability(self, k: Tensor) -> Tensor:
        """ln P(k) of samples k (n, d) int64: (n,) nats."""
        return self.log_p.gather(1, k.T).sum(0)


def fit_levels(k: Tensor, count: int) -> IndependentLevels:
    """Smoothed level frequencies of samples k (n, d) int64 in 0..count - 1.

    The counts of each dimension get four pseudo-samples from the frequencies pooled over all dimensions, and those get
    half a pseudo-count per level.

    Raises:
        ValueError: no samples, or levels out of range."""
    if k.ndim != 2 or len(k) == 0 or int(k.min()) < 0 or int(k.max()) >= count:
        raise ValueError(f"fit_levels needs samples (n, d) of levels in 0..{count - 1}, got shape {tuple(k.shape)}")
    dimensions = torch.arange(k.shape[1])
    own = torch.bincount((k + dimensions * count).flatten(), minlength=k.shape[1] * count).view(-1, count).double()
    common = (own.sum(0) + 0.5) / (own.sum() + 0.5 * count)
    return IndependentLevels(log_p=((own + 4 * common) / (len(k) + 4)).log())


def _factor(covariance: Tensor, shrink: float) -> Tensor:
    d = len(covariance)
    isotropic = covariance.trace() / d * torch.eye(d, dtype=torch.float64)
    return torch.linalg.cholesky((1 - shrink) * covariance + (shrink + 1e-9) * isotropic)


def fit_gaussian(x: Tensor, *, shrink: float = 0.0) -> GaussianMixture:
    """The Gaussian with mean and covariance C of samples (n, d), C shrunk to (1 - shrink) C + shrink tr(C) / d I.

    Raises:
        ValueError: fewer than two samples, or numbers that are not finite."""
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
    """The Gaussian with the shrinkage that is best on every fifth sample, refitted to all; and the choice in words.

    In images most directions have less than a thousandth of the mean variance, so small shrinkages are tried too."""
    x = _rows(x)
    kept = torch.arange(len(x)) % 5 == 0
    fit = x[~kept] if int((~kept).sum()) >= 2 else x
    mean, covariance = _moments(fit)
    scores = {s: float(_gaussian(mean, covariance, s).log_density(x[kept]).mean()) for s in shrinks}
    best = max(scores, key=lambda s: scores[s])
    return fit_gaussian(x, shrink=best), f"shrinkage {best:g}"


def fit_mixture(x: Tensor, components: int, *, shrink: float, seed: int = 0, rounds: int = 40) -> GaussianMixture:
    """A mixture by `rounds` of expectation maximisation from a k-means++ start, with shrinkage in every round.

    Raises:
        ValueError: fewer samples than twice the components."""
    x = _rows(x)
    if not 1 <= components <= len(x) // 2:
        raise ValueError(f"{len(x)} samples are too few for a mixture of {components}; fit at most {len(x) // 2}")
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
    pooled = (x - x.mean(0)).T @ (x - x.mean(0)) / len(x)
    weight = r.sum(0) + 1e-6
    means, factors = [], []
    for k in range(r.shape[1]):
        mean = (r[:, k] @ x) / weight[k]
        z = x - mean
        # one pseudo-sample with the covariance of all data keeps an empty component valid
        covariance = ((z * r[:, k : k + 1]).T @ z + pooled) / (weight[k] + 1)
        means.append(mean)
        factors.append(_factor(covariance, shrink))
    return GaussianMixture(weights=weight / weight.sum(), means=torch.stack(means), factors=torch.stack(factors))


def choose_mixture(
    x: Tensor, *, components: Sequence[int] = (5, 20, 50), shrinks: Sequence[float] = (0.003, 0.02, 0.1), seed: int = 0
) -> tuple[GaussianMixture, str]:
    """The mixture with the settings that are best on every fifth sample, refitted to all; and the choice in words."""
    x = _rows(x)
    kept = torch.arange(len(x)) % 5 == 0
    tried = [k for k in components if 2 * k <= int((~kept).sum())] or [1]
    scores = {
        (k, s): float(fit_mixture(x[~kept], k, shrink=s, seed=seed, rounds=15).log_density(x[kept]).mean())
        for k in tried
        for s in shrinks
    }
    k, s = max(scores, key=lambda pair: scores[pair])
    return fit_mixture(x, k, shrink=s, seed=seed), f"{k} components, shrinkage {s:g}"


@dataclass(frozen=True, kw_only=True)
class ByClass(Generic[Distribution]):
    """A distribution per class, p(x | class): the baseline of a class-conditional model.

    Args:
        distributions: by class index.
    """

    distributions: Mapping[int, Distribution]

    @classmethod
    def fit(cls, x: Tensor, labels: Tensor, fit: Callable[[Tensor], Distribution]) -> "ByClass[Distribution]":
        """Apply `fit` to the samples (n, d) of each class; labels (n,) int64."""
        return cls(distributions={c: fit(x[labels == c]) for c in labels.unique().tolist()})

    def each(self, x: Tensor, labels: Tensor, log: Callable[[Distribution, Tensor], Tensor]) -> Tensor:
        """`log` of each sample (n, d) under the distribution of its class: (n,).

        Raises:
            ValueError: a class without a distribution."""
        unknown = sorted(set(labels.tolist()) - set(self.distributions))
        if unknown:
            raise ValueError(f"no distribution was fitted to class {unknown[0]}: fit on data with all classes")
        result = torch.empty(len(x), dtype=torch.float64)
        for c, distribution in self.distributions.items():
            members = labels == c
            if bool(members.any()):
                result[members] = log(distribution, x[members])
        return result


def _rows(x: Tensor) -> Tensor:
    x = x.double().flatten(1)
    if len(x) < 2 or not bool(torch.isfinite(x).all()):
        raise ValueError(f"a Gaussian needs two or more samples of finite numbers, got {tuple(x.shape)}")
    return x
