"""Laws of the coupling of noise and examples: optimal on a line, equal shares, normal noise, classes that stay."""

import math

import pytest
import torch

from langevin.diffusion.batch import Batch, step_randomness
from langevin.diffusion.coupling import Coupling, OptimalTransport, ascent, centred, fit_dual, frequencies, half_square
from langevin.diffusion.objective import UniformTime
from langevin.diffusion.process import Gaussian
from langevin.diffusion.schedule import VariancePreserving
from langevin.diffusion.training_input import NoiseAtTime
from tests.laws.bounds import kolmogorov, kolmogorov_bound


def normals(count, dimensions, *, seed=0):
    return torch.randn(count, dimensions, generator=torch.Generator().manual_seed(seed))


def coupled(x, groups=None, *, draws=32):
    """A coupling fitted by groups, as a run's is."""
    groups = torch.zeros(len(x), dtype=torch.int64) if groups is None else groups
    dual = torch.zeros(len(x), dtype=torch.float64)
    for group in groups.unique():
        of = groups == group
        dual[of] = fit_dual(centred(x)[of], draws=draws, seed=3)
    return Coupling.of(x, groups, dual)


LINE = torch.tensor([[-1.0], [0.2], [0.25], [0.9], [-2.0], [3.0], [0.0], [-0.4]])
"""Eight examples on the line, not in order."""


def test_on_a_line_the_coupling_is_the_sorted_one():
    """The k-th smallest of n examples belongs to the noises between the quantiles (k - 1) / n and k / n."""
    coupling, rank = coupled(LINE), LINE[:, 0].argsort().argsort()
    quantile = torch.linspace(0, 1, 8 * 100 + 1, dtype=torch.float64)[1:-1]
    z = math.sqrt(2) * torch.erfinv(2 * quantile - 1)
    items = torch.zeros(len(z), dtype=torch.int64)
    found = rank[coupling.items(items, z[:, None].float())]
    assert bool((found.diff() >= 0).all())  # monotone
    edge = (quantile * 8 - (quantile * 8).round()).abs() < 0.16  # what the fit leaves open
    expected = (quantile * 8).floor().long()
    assert torch.equal(found[~edge], expected[~edge])


@pytest.mark.parametrize(("n", "d"), [(60, 1), (200, 2), (300, 30)])
def test_every_example_is_chosen_once_in_n(n, d):
    coupling, draws = coupled(0.5 * normals(n, d, seed=n)), 400
    share = frequencies(coupling, draws=draws, seed=1)
    spread = math.sqrt(max(0.0, float((share - 1).square().mean()) - 1 / draws))
    products = Coupling.of(coupling.points[0], coupling.groups, half_square(coupling.points[0]))
    before = float((frequencies(products, draws=draws, seed=1) - 1).square().mean()) ** 0.5
    assert share.mean() == pytest.approx(1)
    assert spread < 0.2 < before / 4  # by the product <z, x_j> alone a few examples take most


def test_the_gradient_of_the_dual_is_one_in_n_less_the_share_by_finite_differences():
    """D(g) = mean g + E_z min_j [1/2 |z - x_j|^2 - g_j] on fixed noises, whose minimum can be enumerated."""
    x, z = centred(normals(5, 2, seed=1)), normals(4000, 2, seed=2)
    g = 0.3 * normals(5, 1, seed=3)[:, 0].double()

    def dual(g):
        costs = 0.5 * (z[:, None] - x).double().square().sum(2) - g
        return g.mean() + costs.min(1).values.mean()

    found = ascent(z, x, (g - half_square(x)).float())
    for j in range(5):
        step = torch.zeros(5, dtype=torch.float64)
        step[j] = 1e-4
        assert (dual(g + step) - dual(g - step)) / 2e-4 == pytest.approx(float(found[j]), abs=2e-3)


def test_the_fitted_dual_is_the_largest():
    x, z = centred(0.7 * normals(6, 2, seed=1)), normals(200_000, 2, seed=2)

    def dual(g):
        return float(g.mean() + (0.5 * (z[:, None] - x).double().square().sum(2) - g).min(1).values.mean())

    g = fit_dual(x, draws=1000, seed=0)
    best = dual(g)
    for seed in range(6):
        assert dual(g + 0.1 * normals(6, 1, seed=seed)[:, 0].double()) < best


def training(coupling, x, count, *, labels=None):
    """The items of one large batch, and the randomness of its samples."""
    draw = step_randomness(seed=5, step=7, samples=torch.arange(count), count=count)
    items = torch.arange(count) % len(x) if labels is None else labels
    return coupling.items(items, draw.corruption.normal(x.new_empty(count, *x.shape[1:]))), draw


def test_the_noise_of_x_t_is_the_one_that_the_example_was_chosen_by():
    """The choice and the corruption draw the same numbers, of samples alone as in any batch."""
    x = 0.5 * normals(40, 6, seed=4)
    coupling = coupled(x)
    items, draw = training(coupling, x, 64)
    process = Gaussian(schedule=VariancePreserving(), sigma_data=0.5)
    t, x_t = NoiseAtTime(process=process, times=UniformTime(low=0.2, high=0.9))(Batch(x=x[items]), draw)
    a, s = process.scales(t, x_t)
    z = (x_t - a * x[items]) / s
    cost = 0.5 * (z[:, None].double() - centred(x)).square().sum(2) - coupling.dual
    assert torch.equal(cost.argmin(1), items)
    few = step_randomness(seed=5, step=7, samples=torch.tensor([3, 60]), count=64)
    alone = coupling.items(torch.tensor([3, 20]), few.corruption.normal(x.new_empty(2, 6)))
    assert torch.equal(alone, items[[3, 60]])


def test_noise_stays_standard_normal_within_a_class_and_classes_stay():
    """Classes of different sizes and places; a coupling of all examples together pairs each with noise of one side."""
    labels = torch.tensor([0] * 30 + [1] * 10 + [2] * 60)
    x = 0.3 * normals(100, 1, seed=6) + torch.tensor([-1.0, 0.5, 2.0])[labels][:, None]
    coupling, count = coupled(x, labels), 60_000
    wanted = torch.arange(count) % 100
    items, draw = training(coupling, x, count, labels=wanted)
    z = draw.corruption.normal(x.new_empty(count, 1))[:, 0].double()
    assert torch.equal(labels[items], labels[wanted])
    together = coupled(x).items(wanted, z[:, None].float())
    for group in range(3):
        own = z[labels[items] == group]
        assert kolmogorov(own, normal) < kolmogorov_bound(len(own))
        assert kolmogorov(z[labels[together] == group], normal) > 0.2


def normal(z):
    """The distribution function of N(0, 1)."""
    return 0.5 * (1 + torch.erf(z / math.sqrt(2)))


def test_the_flow_of_the_coupling_is_straighter():
    """One step of Euler from noise, with the exact denoiser of each flow at t = 1: the coupled one is at the example of
    the noise, where its whole flow ends, and that of independent noise is at the mean of all examples."""
    x = torch.cat([0.1 * normals(60, 2, seed=k) + torch.tensor(c) for k, c in enumerate(([1.0, 0.0], [-0.5, 0.8]))])
    coupling, z = coupled(x), normals(4000, 2, seed=9)
    one_step = x[coupling.items(torch.zeros(4000, dtype=torch.int64), z)]  # x = E[x | z] = z - (z - x), exactly
    independent = x.mean(0).expand_as(one_step)

    def off(samples):
        """The squared distance of mean and covariance from those of the examples."""
        return float((samples.mean(0) - x.mean(0)).square().sum() + (samples.T.cov() - x.T.cov()).square().sum())

    assert off(one_step) < 0.02 * off(independent)
    x_t = 0.5 * (one_step[:500] + z[:500])  # of the rectified process at 1/2
    noises = 2 * x_t - x[:, None]  # with which x_t would come from each example
    belongs = coupling.items(torch.zeros(120 * 500, dtype=torch.int64), noises.flatten(0, 1)).view(120, 500)
    possible = (belongs == torch.arange(120)[:, None]).sum(0)
    assert bool((possible == 1).all())  # paths do not cross, so the velocity is constant along each


def test_a_fit_is_a_function_of_examples_and_seed():
    x = centred(normals(30, 3))
    first, again, other = (fit_dual(x, draws=8, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    with pytest.raises(ValueError, match="1 to 1,000,000"):
        OptimalTransport(draws=0)
    with pytest.raises(ValueError, match="a finite number for each"):
        Coupling.of(x, torch.zeros(30, dtype=torch.int64), torch.zeros(29, dtype=torch.float64))


def test_one_example_takes_all_noise():
    x = torch.ones(1, 4)
    assert coupled(x).items(torch.zeros(3, dtype=torch.int64), normals(3, 4)).tolist() == [0, 0, 0]
