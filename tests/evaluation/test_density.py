"""Baselines find the distribution that the data was drawn from, and their densities are densities."""

import math

import pytest
import torch

from langevin.evaluation.density import ByClass, choose_gaussian, choose_mixture, fit_gaussian, fit_levels, fit_mixture


def clouds(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    left = torch.rand(n, generator=generator) < 0.3
    turned = z @ torch.tensor([[0.5, 0.2], [0.0, 0.1]], dtype=torch.float64)
    return torch.where(left[:, None], turned - 2, 0.3 * z + 1)


def true_density(x):
    a = torch.tensor([[0.5, 0.2], [0.0, 0.1]], dtype=torch.float64)
    left = torch.distributions.MultivariateNormal(torch.tensor([-2.0, -2.0]).double(), a.T @ a)
    right = torch.distributions.MultivariateNormal(torch.ones(2).double(), 0.09 * torch.eye(2).double())
    return torch.logaddexp(math.log(0.3) + left.log_prob(x), math.log(0.7) + right.log_prob(x))


def test_the_gaussian_is_that_of_the_moments():
    x = clouds(5000)
    true = torch.distributions.MultivariateNormal(x.mean(0), torch.cov(x.T, correction=0))
    assert torch.allclose(fit_gaussian(x).log_density(x), true.log_prob(x), rtol=1e-6)


@pytest.mark.parametrize("make", [lambda x: fit_gaussian(x), lambda x: fit_mixture(x, 3, shrink=0.01)])
def test_a_density_integrates_to_one(make):
    line = torch.linspace(-7, 7, 561, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1).flatten(0, 1)
    assert float(make(clouds(800)).log_density(grid).exp().sum()) * 0.025**2 == pytest.approx(1, abs=2e-3)


def test_the_mixture_finds_the_clouds_and_beats_the_gaussian():
    x, other = clouds(4000), clouds(4000, seed=1)
    true = float(true_density(other).mean())
    found, chosen = choose_mixture(x, components=(1, 2, 4), shrinks=(0.0, 0.1))
    got = float(found.log_density(other).mean())
    assert true - 0.03 < got < true + 1e-2
    assert got > float(fit_gaussian(x).log_density(other).mean()) + 0.5
    assert "components" in chosen


def test_independent_levels_are_the_frequencies_and_sum_to_one():
    generator = torch.Generator().manual_seed(0)
    p = torch.tensor([[0.7, 0.0, 0.3, 0.0], [0.1, 0.2, 0.3, 0.4]], dtype=torch.float64)
    k, other = (torch.stack([torch.multinomial(q, 5000, True, generator=generator) for q in p], 1) for _ in range(2))
    distribution = fit_levels(k, 4)
    assert torch.allclose(distribution.log_p.exp().sum(1), torch.ones(2).double())
    entropy = -float(torch.special.xlogy(p, p).sum())
    assert float(-distribution.log_probability(other).mean()) == pytest.approx(entropy, abs=0.03)
    assert bool(fit_levels(k[:1], 4).log_p.isfinite().all())  # a level never seen is improbable, not impossible
    with pytest.raises(ValueError, match=r"0\.\.2"):
        fit_levels(k, 3)


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match="two or more samples"):
        fit_gaussian(torch.zeros(1, 3))
    with pytest.raises(ValueError, match="finite"):
        fit_gaussian(torch.full((3, 3), math.nan))
    with pytest.raises(ValueError, match="too few for a mixture of 4"):
        fit_mixture(torch.randn(7, 2), 4, shrink=0.1)


def test_a_law_for_each_class_is_the_law_of_its_rows_and_knows_more_than_one_for_all():
    x, labels = clouds(4000), (clouds(4000)[:, 0] > -0.5).long()
    distributions = ByClass.fit(x, labels, fit_gaussian)

    def density(distribution, rows):
        return distribution.log_density(rows)

    got = distributions.each(x, labels, density)
    assert torch.allclose(got[labels == 1], fit_gaussian(x[labels == 1]).log_density(x[labels == 1]))
    assert torch.allclose(got[labels == 0], fit_gaussian(x[labels == 0]).log_density(x[labels == 0]))
    share = labels.double().mean()
    entropy = -float(share * share.log() + (1 - share) * (1 - share).log())  # told is at most what the class says more
    assert float(got.mean()) - entropy == pytest.approx(float(true_density(x).mean()), abs=0.03)
    with pytest.raises(ValueError, match="class 2"):
        distributions.each(x[:1], torch.tensor([2]), density)


def test_directions_of_little_variance_are_not_drowned_by_the_shrinkage_that_is_chosen():
    """Eigenvalues over six orders: the chosen Gaussian is near the true one, a thousandth of the mean variance is not."""
    spread = torch.logspace(-3, 3, 12, dtype=torch.float64).sqrt()
    draws = [torch.randn(n, 12, generator=torch.Generator().manual_seed(n), dtype=torch.float64) for n in (4000, 2000)]
    x, other = (spread * z for z in draws)
    true = torch.distributions.Normal(torch.zeros(12).double(), spread).log_prob(other).sum(1).mean()
    chosen, said = choose_gaussian(x)
    assert float(true - chosen.log_density(other).mean()) < 0.05
    assert float(true - fit_gaussian(x, shrink=1e-3).log_density(other).mean()) > 3
    assert "shrinkage" in said
