"""Data whose denoisers are known in closed form, for any schedule: what every law is measured on.

    Gaussian      x ~ N(mean, cov)                D = m + a S (a^2 S + s^2)^-1 (x_t - a m)
    Mixture       x ~ sum_k w_k N(m_k, v_k)       the same a component, weighted by responsibilities; and, place by place,
                                                  its flow: F_s(x_s) = F_t(x_t), as a flow on the line keeps quantiles
    Clouds        the same in several dimensions, with covariances that turn
    Empirical     x is one of some points         D = sum_i r_i x_i, the ideal denoiser of a data set
    Enumerated    symbols with a joint law        the law of each hidden place given those that are shown

with a = alpha(t), s = sigma(t). All compute in float64.
"""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.diffusion.posterior import Categorical, Point
from langevin.diffusion.schedule import Rectified, Schedule
from langevin.diffusion.shape import append_dims


@dataclass(frozen=True, kw_only=True)
class Scalar:
    """Places independent of one another, each N(mean, variance); t may be (b,) or (b, places)."""

    schedule: Schedule = Rectified()
    mean: float = 0.3
    variance: float = 0.7

    def __call__(self, x_t, t, condition=None):
        a, s = (append_dims(f(t.double()), x_t).to(x_t.dtype) for f in (self.schedule.alpha, self.schedule.sigma))
        gain = a * self.variance / (a * a * self.variance + s * s)
        return Point(self.mean + gain * (x_t - a * self.mean))

    def moments(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of x_t."""
        a, s = self.schedule.alpha(t), self.schedule.sigma(t)
        return a * self.mean, a * a * self.variance + s * s


@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """Rows (d,) of N(mean, cov); t is (b,)."""

    schedule: Schedule
    mean: Tensor
    cov: Tensor

    def __call__(self, x_t, t, condition=None):
        a, s = self.schedule.alpha(t)[:, None, None], self.schedule.sigma(t)[:, None, None]
        total = a * a * self.cov + s * s * torch.eye(len(self.mean), dtype=torch.float64)
        centred = (x_t - a[..., 0] * self.mean)[..., None]
        return Point(self.mean + (a * self.cov @ torch.linalg.solve(total, centred))[..., 0])


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Places independent of one another, each of a mixture of Gaussians on the line; t is (b,)."""

    schedule: Schedule = Rectified()
    weights: tuple[float, ...] = (0.3, 0.7)
    means: tuple[float, ...] = (-1.0, 0.8)
    stds: tuple[float, ...] = (0.35, 0.25)

    def _components(self, t: Tensor, ndim: int):
        """(weights, means, data variances, total variances, alpha) with a last dimension of components."""
        a, s = (f(t.double()).reshape(-1, *(1,) * ndim) for f in (self.schedule.alpha, self.schedule.sigma))
        w, m, d = (torch.tensor(v, dtype=torch.float64) for v in (self.weights, self.means, self.stds))
        return w, a * m, d * d, a * a * d * d + s * s, a

    def log_density(self, x_t: Tensor, t: Tensor) -> Tensor:
        w, m, _, total, _ = self._components(t, x_t.ndim)
        each = w.log() - 0.5 * ((x_t[..., None] - m) ** 2 / total + total.log() + math.log(2 * math.pi))
        return each.logsumexp(-1)

    def __call__(self, x_t, t, condition=None):
        w, m, v, total, a = self._components(t, x_t.ndim)
        z = x_t[..., None] - m
        r = (w.log() - 0.5 * (z * z / total + total.log())).softmax(-1)
        return Point((r * (torch.tensor(self.means, dtype=torch.float64) + a * v / total * z)).sum(-1))

    def cdf(self, x_t: Tensor, t: Tensor) -> Tensor:
        w, m, _, total, _ = self._components(t, x_t.ndim)
        return (w * 0.5 * torch.erfc((m - x_t[..., None]) / (2 * total).sqrt())).sum(-1)

    def quantile(self, p: Tensor, t: Tensor) -> Tensor:
        """x_t with cdf(x_t, t) = p, by bisection."""
        reach = 10 * self._components(t, p.ndim)[3].amax(-1).sqrt() + 10
        low, high = (-reach).expand_as(p), reach.expand_as(p)
        for _ in range(70):
            middle = (low + high) / 2
            below = self.cdf(middle, t) < p
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2


@dataclass(frozen=True, kw_only=True)
class Clouds:
    """Rows (d,) of sum_k w_k N(m_k, S_k) with covariances that turn; t is (b,)."""

    schedule: Schedule
    weights: Tensor
    means: Tensor
    covs: Tensor

    def _components(self, x_t: Tensor, t: Tensor):
        """(ln of weight times density (b, k), posterior means (b, k, d))."""
        a, s = (f(t.double())[:, None, None, None] for f in (self.schedule.alpha, self.schedule.sigma))
        total = a * a * self.covs + s * s * torch.eye(self.means.shape[1], dtype=torch.float64)  # (b, k, d, d)
        z = (x_t[:, None] - a[..., 0] * self.means)[..., None]
        solved = torch.linalg.solve(total, z)
        far = (z * solved).sum((-1, -2)) + torch.logdet(total) + self.means.shape[1] * math.log(2 * math.pi)
        return self.weights.log() - 0.5 * far, self.means + (a * self.covs @ solved)[..., 0]

    def log_density(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self._components(x_t, t)[0].logsumexp(-1)

    def __call__(self, x_t, t, condition=None):
        log_r, means = self._components(x_t, t)
        return Point((log_r.softmax(-1)[..., None] * means).sum(1))

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        k = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        z = torch.randn(n, self.means.shape[1], generator=generator, dtype=torch.float64)
        return self.means[k] + (torch.linalg.cholesky(self.covs)[k] @ z[..., None])[..., 0]


def white_clouds(schedule: Schedule, d: int = 3, spread: float = 0.6) -> Clouds:
    """Two clouds whose law has mean 0 and covariance spread^2 I: what any prior of a process meets at its far end."""
    generator = torch.Generator().manual_seed(8)
    roots = torch.randn(2, d, d, generator=generator, dtype=torch.float64) / d**0.5
    covs = roots @ roots.mT + 0.15 * torch.eye(d, dtype=torch.float64)
    w = torch.tensor([0.35, 0.65], dtype=torch.float64)
    m = torch.randn(d, generator=generator, dtype=torch.float64) * 1.5
    means = torch.stack([m, -w[0] / w[1] * m])
    whole = (w[:, None, None] * (covs + means[:, :, None] * means[:, None])).sum(0)
    values, vectors = torch.linalg.eigh(whole)
    whiten = spread * vectors @ torch.diag(values**-0.5) @ vectors.T
    return Clouds(schedule=schedule, weights=w, means=means @ whiten, covs=whiten @ covs @ whiten)


@dataclass(frozen=True, kw_only=True)
class Empirical:
    """One of `points` (n, d) with probabilities `weights` (n,); t is (b,)."""

    schedule: Schedule
    points: Tensor
    weights: Tensor

    def __call__(self, x_t, t, condition=None):
        a, s = self.schedule.alpha(t)[:, None, None], self.schedule.sigma(t)[:, None]
        far = (x_t[:, None] - a * self.points).square().sum(-1) / (2 * s * s)
        return Point((self.weights.log() - far).softmax(-1) @ self.points)


@dataclass(frozen=True, kw_only=True)
class Enumerated:
    """Rows of `places` symbols with a joint law `p` (symbols^places,) over all `words` in order; the mask is `symbols`."""

    p: Tensor
    vocab_size: int = 3
    places: int = 3

    @property
    def words(self) -> Tensor:
        return torch.tensor(list(itertools.product(range(self.vocab_size), repeat=self.places)))

    def index(self, x: Tensor) -> Tensor:
        """A row's number among the words."""
        return (x * self.vocab_size ** torch.arange(self.places - 1, -1, -1)).sum(-1)

    def marginals(self, x_t: Tensor) -> Tensor:
        """(b, places, symbols): the law of each place given the shown ones."""
        words = self.words
        fits = ((x_t[:, None] == words) | (x_t[:, None] == self.vocab_size)).all(-1) * self.p
        hot = torch.nn.functional.one_hot(words, self.vocab_size).double()
        return torch.einsum("bw,wls->bls", fits / fits.sum(-1, keepdim=True), hot)

    def __call__(self, x_t, t, condition=None):
        return Categorical(self.marginals(x_t).log())


def entangled() -> Enumerated:
    """A joint law in which places depend on one another strongly."""
    p = torch.tensor([((7 * i * i + 3 * i + 1) % 23 + 0.05) ** 2.0 for i in range(27)], dtype=torch.float64)
    return Enumerated(p=p / p.sum())


def factorised() -> Enumerated:
    """A joint law in which places are independent."""
    rows = torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3], [0.05, 0.9, 0.05]], dtype=torch.float64)
    return Enumerated(p=torch.einsum("a,b,c->abc", *rows).flatten())
